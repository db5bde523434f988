"""IAM's evaluation rules as a table: which of the policies decides."""

from __future__ import annotations

import json

import pytest

from backup.emulator.core.access.evaluate import AccessRequest, Policies, judge
from backup.emulator.core.access.policy import Policy, Principal, parse_policy

OURS, OTHERS = "123456789012", "999999999999"
ROLE = f"arn:aws:iam::{OURS}:role/backup"
SESSION = f"arn:aws:sts::{OURS}:assumed-role/backup/01"
USER = f"arn:aws:iam::{OURS}:user/alice"
ROOT = f"arn:aws:iam::{OURS}:root"
KEY = "arn:aws:s3:::b/data/1"

A_SESSION = Principal(OURS, SESSION, ROLE)
A_USER = Principal(OURS, USER, None)

Allow, Deny, Silent = "Allow", "Deny", None


def _policy(effect: str | None, principal: str | None = None, action: str = "s3:GetObject") -> Policy:
    statement = {"Effect": effect or Allow, "Action": action if effect else "s3:Other", "Resource": "*"}
    if principal is not None:
        statement["Principal"] = principal if principal == "*" else {"AWS": principal}  # type: ignore[assignment]
    return parse_policy(json.dumps({"Version": "2012-10-17", "Statement": statement}), "here")


def _verdict(
    principal: Principal,
    identity: str | None,
    session: str | None,
    resource: tuple[str | None, str] | None,
    owner: str,
) -> str:
    policies = Policies(
        _policy(identity),
        None if session is None else _policy(None if session == "silent" else session),
        () if resource is None else (_policy(*resource),),
    )
    why = judge(AccessRequest("s3:GetObject", KEY, owner, {}), principal, policies)
    return "allowed" if why is None else why


NO_IDENTITY = "because no identity-based policy allows the s3:GetObject action"
NO_SESSION = "because no session policy allows the s3:GetObject action"
NO_RESOURCE = "because no resource-based policy allows the s3:GetObject action"


@pytest.mark.parametrize(
    ("principal", "identity", "session", "resource", "owner", "verdict"),
    [
        # nothing allows by itself
        (A_SESSION, Silent, None, None, OURS, NO_IDENTITY),
        (A_USER, Silent, None, None, OURS, NO_IDENTITY),
        # one Allow is enough within the account
        (A_SESSION, Allow, None, None, OURS, "allowed"),
        (A_SESSION, Silent, None, (Allow, ROLE), OURS, "allowed"),
        (A_SESSION, Silent, None, (Allow, SESSION), OURS, "allowed"),
        (A_SESSION, Silent, None, (Allow, "*"), OURS, "allowed"),
        (A_USER, Silent, None, (Allow, USER), OURS, "allowed"),
        # naming the account hands the decision to its own policies
        (A_SESSION, Silent, None, (Allow, ROOT), OURS, NO_IDENTITY),
        (A_SESSION, Silent, None, (Allow, OURS), OURS, NO_IDENTITY),
        (A_SESSION, Allow, None, (Allow, ROOT), OURS, "allowed"),
        # somebody else's name is no name of ours
        (A_SESSION, Silent, None, (Allow, USER), OURS, NO_IDENTITY),
        # an explicit Deny wins, wherever it is
        (A_SESSION, Deny, None, (Allow, SESSION), OURS, "with an explicit deny in an identity-based policy"),
        (A_SESSION, Allow, None, (Deny, "*"), OURS, "with an explicit deny in a resource-based policy"),
        (A_SESSION, Allow, None, (Deny, ROOT), OURS, "with an explicit deny in a resource-based policy"),
        (A_SESSION, Allow, Deny, None, OURS, "with an explicit deny in a session policy"),
        (A_SESSION, Allow, None, (Deny, USER), OURS, "allowed"),
        # a session policy only limits
        (A_SESSION, Allow, Allow, None, OURS, "allowed"),
        (A_SESSION, Silent, Allow, None, OURS, NO_IDENTITY),
        (A_SESSION, Allow, "silent", None, OURS, NO_SESSION),
        (A_SESSION, Silent, "silent", (Allow, ROLE), OURS, NO_SESSION),
        (A_SESSION, Silent, Allow, (Allow, ROLE), OURS, "allowed"),
        (A_SESSION, Silent, "silent", (Allow, SESSION), OURS, "allowed"),
        # from another account both must allow
        (A_SESSION, Allow, None, None, OTHERS, NO_RESOURCE),
        (A_SESSION, Silent, None, (Allow, SESSION), OTHERS, NO_IDENTITY),
        (A_SESSION, Allow, None, (Allow, ROOT), OTHERS, "allowed"),
        (A_SESSION, Allow, "silent", (Allow, ROLE), OTHERS, NO_SESSION),
        (A_USER, Allow, None, (Allow, USER), OTHERS, "allowed"),
    ],
)
def test_the_rules(
    principal: Principal,
    identity: str | None,
    session: str | None,
    resource: tuple[str | None, str] | None,
    owner: str,
    verdict: str,
) -> None:
    assert _verdict(principal, identity, session, resource, owner) == verdict
