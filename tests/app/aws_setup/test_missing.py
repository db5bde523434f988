"""Denials in AWS's words, and the statements that they lack."""

from __future__ import annotations

import pytest

from backup.app.aws_setup.calls import missing_in

USER = "arn:aws:iam::123456789012:user/alice"
BEGIN = f"cannot call x: User: {USER} is not authorized to perform: "
END = " because no identity-based policy allows the {} action (AccessDenied)"


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        (
            BEGIN + "rolesanywhere:CreateTrustAnchor on resource: *" + END.format("it"),
            {"Action": "rolesanywhere:CreateTrustAnchor", "Resource": "*"},
        ),
        (
            BEGIN + "iam:PassRole on resource: arn:aws:iam::1:role/r" + END.format("it"),
            {
                "Action": "iam:PassRole",
                "Resource": "arn:aws:iam::1:role/r",
                "Condition": {"StringEquals": {"iam:PassedToService": "rolesanywhere.amazonaws.com"}},
            },
        ),
        (
            BEGIN + "rolesanywhere:TagResource on resource: arn:aws:rolesanywhere:r:1:profile/new",
            {"Action": "rolesanywhere:TagResource", "Resource": "arn:aws:rolesanywhere:r:1:profile/*"},
        ),
        (BEGIN + "iam:CreateRole", {"Action": "iam:CreateRole", "Resource": "*"}),
    ],
)
def test_statements(text: str, statement: dict[str, object]) -> None:
    missing = missing_in(text)
    assert missing is not None
    assert missing.who == USER
    assert not missing.is_forbidden
    assert missing.statement == {"Effect": "Allow", **statement}


def test_an_explicit_deny_is_told_apart() -> None:
    text = BEGIN + "iam:CreateRole on resource: * with an explicit deny in a service control policy"
    found = missing_in(text)
    assert found is not None
    assert found.is_forbidden


def test_other_denials_say_nothing() -> None:
    assert missing_in("Forbidden (403)") is None
