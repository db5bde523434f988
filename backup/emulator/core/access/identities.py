"""Roles and their policies, from the accounts file or made by IAM, with those that AWS manages; what is known
of a request's caller.

Source of the managed policies: AWS Managed Policy Reference Guide.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache

from backup.emulator.core.errors import EmulatorError
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Inbound, date_ms

from .accounts import Accounts, Role
from .callers import Caller
from .evaluate import AccessRequest, Policies, judge
from .policy import Policy, parse_policy

INSTANT_PER_SECOND = 1000


def find_role(arn: str, accounts: Accounts, tx: Transaction) -> Role | None:
    """A role by ARN: of the accounts file, or made by IAM with its policies as one."""
    given = accounts.role(arn)
    if given is not None:
        return given
    row = tx.db.execute("SELECT * FROM roles WHERE arn = ?", (arn,)).fetchone()
    if row is None:
        return None
    rows = tx.db.execute("SELECT policy FROM role_policies WHERE role = ? ORDER BY name", (arn,))
    texts = [str(policy_row["policy"]) for policy_row in rows]
    policy = joined((*texts, *(MANAGED[name] for name in attached_to(arn, tx))))
    trust = joined((str(row["trust_policy"]),))
    return Role(
        row["account_id"], arn, row["max_session_duration"], trust, policy, assumable_ms=row["assumable_ms"]
    )


@lru_cache(maxsize=256)
def joined(texts: tuple[str, ...]) -> Policy:
    """Several policies as one: each statement by the version of its own document."""
    policies = [parse_policy(text, "Policy") for text in texts]
    return Policy(tuple(statement for policy in policies for statement in policy.statements))


def refusal(
    asked: AccessRequest,
    caller: Caller,
    accounts: Accounts,
    tx: Transaction,
    *,
    of_resource: Sequence[Policy] = (),
) -> str | None:
    """The whole sentence of AWS with which a caller is refused; None if it may do what is asked."""
    why = _why(asked, caller, accounts, tx, of_resource)
    tx.asked[caller.role_arn or caller.arn, asked.action, why is None] += 1
    begin = f"User: {caller.arn} is not authorized to perform: {asked.action} on resource: {asked.resource}"
    return None if why is None else f"{begin} {why}"


def _why(
    asked: AccessRequest, caller: Caller, accounts: Accounts, tx: Transaction, of_resource: Sequence[Policy]
) -> str | None:
    try:
        policies = Policies(_identity(caller, accounts, tx), _session(caller), of_resource)
    except EmulatorError as error:
        return f"because {error}"
    return judge(asked, caller.principal, policies)


def _identity(caller: Caller, accounts: Accounts, tx: Transaction) -> Policy | None:
    if caller.role_arn is None:
        return caller.policy
    role = find_role(caller.role_arn, accounts, tx)
    if role is None:
        raise EmulatorError("its role does not exist")
    return role.policy


def _session(caller: Caller) -> Policy | None:
    return None if caller.session_policy is None else joined((caller.session_policy,))


def common_context(
    caller: Caller, inbound: Inbound, tx: Transaction, *, secure: bool
) -> dict[str, str | tuple[str, ...]]:
    """The condition keys that every call has."""
    kind = "AssumedRole" if caller.role_arn else "Account" if caller.is_root else "User"
    context: dict[str, str | tuple[str, ...]] = {
        **caller.context,
        "aws:PrincipalAccount": caller.account_id,
        "aws:PrincipalArn": caller.role_arn or caller.arn,
        "aws:PrincipalType": kind,
        "aws:RequestedRegion": caller.region,
        "aws:SecureTransport": "true" if secure else "false",
        "aws:CurrentTime": date_ms(tx.moment.real_ms),
        "aws:EpochTime": str(tx.moment.real_ms // INSTANT_PER_SECOND),
    }
    if inbound.address:
        context["aws:SourceIp"] = inbound.address
    if kind == "User":
        context["aws:username"] = caller.arn.rsplit("/", 1)[-1]
    return context


def _allow(*actions: str) -> str:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


_LAMBDA = "s3-object-lambda"

MANAGED: Mapping[str, str] = {
    f"arn:aws:iam::aws:policy/{name}": text
    for name, text in {
        "AdministratorAccess": _allow("*"),
        "AmazonS3FullAccess": _allow("s3:*", f"{_LAMBDA}:*"),
        "AmazonS3ReadOnlyAccess": _allow(
            *("s3:Get*", "s3:List*", "s3:Describe*", f"{_LAMBDA}:Get*", f"{_LAMBDA}:List*")
        ),
        "AmazonGlacierFullAccess": _allow("glacier:*"),
    }.items()
}
"""Documents of the policies that AWS manages, by ARN."""


def attached_to(role: str, tx: Transaction) -> list[str]:
    """The ARNs of the policies that are attached to a role, in order."""
    found = "SELECT policy FROM attached_policies WHERE role = ? ORDER BY policy"
    return [row["policy"] for row in tx.db.execute(found, (role,))]
