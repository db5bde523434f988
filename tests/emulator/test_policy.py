"""IAM policies: what they allow, deny and cannot say."""

from __future__ import annotations

import json

import pytest

from backup.emulator.core.conditions import Condition, arn_matches, matches
from backup.emulator.core.errors import EmulatorError
from backup.emulator.core.policy import Policy, parse_policy

VAULT = "arn:aws:glacier:eu-central-1:123456789012:vaults/photos"


def _policy(*statements: dict[str, object]) -> Policy:
    return parse_policy(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}), "here")


def _allow(**more: object) -> dict[str, object]:
    return {"Effect": "Allow", "Action": "glacier:*", "Resource": "*", **more}


def test_wildcards_in_actions_and_resources() -> None:
    policy = _policy(
        _allow(Action=["glacier:Upload*", "glacier:listparts"], Resource=VAULT.replace("photos", "ph*"))
    )
    assert policy.allows("glacier:UploadArchive", {}, resource=VAULT)
    assert policy.allows("glacier:ListParts", {}, resource=VAULT)
    assert not policy.allows("glacier:DeleteArchive", {}, resource=VAULT)
    assert not policy.allows("glacier:UploadArchive", {}, resource=VAULT.replace("photos", "other"))


def test_a_deny_wins() -> None:
    policy = _policy(_allow(), {"Effect": "Deny", "Action": "glacier:Delete*", "Resource": "*"})
    assert policy.allows("glacier:ListJobs", {}, resource=VAULT)
    assert not policy.allows("glacier:DeleteVault", {}, resource=VAULT)
    assert policy.denies("glacier:DeleteVault", {}, resource=VAULT)
    assert not policy.denies("glacier:ListJobs", {}, resource=VAULT)


def test_not_action() -> None:
    policy = _policy({"Effect": "Allow", "NotAction": "glacier:Delete*", "Resource": "*"})
    assert policy.allows("glacier:ListJobs", {}, resource=VAULT)
    assert not policy.allows("glacier:DeleteArchive", {}, resource=VAULT)


def test_principals_of_a_trust_policy() -> None:
    policy = _policy(
        {"Effect": "Allow", "Principal": {"Service": ["a.example", "b.example"]}, "Action": "sts:*"}
    )
    assert policy.allows("sts:AssumeRole", {}, service="b.example")
    assert not policy.allows("sts:AssumeRole", {}, service="c.example")
    accounts = _policy({"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:*"})
    assert not accounts.allows("sts:AssumeRole", {}, service="b.example")


@pytest.mark.parametrize(
    ("operator", "values", "value", "holds"),
    [
        ("StringEquals", ("a", "b"), "b", True),
        ("StringEquals", ("a",), "A", False),
        ("StringEquals", ("a*",), "ab", False),
        ("StringEquals", ("a",), None, False),
        ("StringEqualsIfExists", ("a",), None, True),
        ("StringEqualsIgnoreCase", ("a",), "A", True),
        ("StringLike", ("a*z", "?"), "abcz", True),
        ("StringLike", ("?",), "ab", False),
        ("StringNotEquals", ("a", "b"), "b", False),
        ("StringNotEquals", ("a", "b"), "c", True),
        ("StringNotEquals", ("a",), None, True),
        ("StringNotLike", ("a*",), "b", True),
        ("ArnEquals", ("arn:aws:s:r:1:thing/*",), "arn:aws:s:r:1:thing/9", True),
        ("ArnLike", ("arn:aws:s:*:1:thing/9",), "arn:aws:s:r:1:thing/9", True),
        ("ArnLike", ("arn:*",), "arn:aws:s:r:1:thing/9", False),
        ("ArnNotLike", ("arn:aws:s:r:1:x",), "arn:aws:s:r:1:y", True),
        ("Null", ("true",), None, True),
        ("Null", ("false",), None, False),
        ("Null", ("false",), "x", True),
    ],
)
def test_conditions(operator: str, values: tuple[str, ...], value: str | None, holds: bool) -> None:
    context = {} if value is None else {"aws:SourceArn": value}
    assert Condition(operator, "AWS:sourcearn", values).holds(context) is holds


def test_every_condition_must_hold() -> None:
    both = {"StringEquals": {"a": "1"}, "StringLike": {"b": ["2*", "3"]}}
    policy = _policy(_allow(Condition=both))
    assert policy.allows("glacier:X", {"a": "1", "b": "3"}, resource="*")
    assert not policy.allows("glacier:X", {"a": "1", "b": "4"}, resource="*")


def test_wildcards_take_special_characters_as_they_are() -> None:
    assert matches("a.b*", "a.bc")
    assert not matches("a.b", "axb")
    assert not arn_matches("arn:aws:glacier", "arn:aws:glacier")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "needs a Statement"),
        ('{"Statement": 3}', "needs a Statement"),
        ('{"Statement": {"Effect": "Maybe", "Action": "*"}}', "Effect"),
        ('{"Statement": {"Effect": "Allow"}}', "Action or NotAction"),
        ('{"Statement": {"Effect": "Allow", "Action": 3}}', "Action must be a string"),
        ('{"Statement": {"Effect": "Allow", "Action": "*", "NotResource": "x"}}', "NotResource"),
        (
            '{"Statement": {"Effect": "Allow", "Action": "*", "Condition": {"DateLess": {"a": "b"}}}}',
            "DateLess",
        ),
        ('{"Statement": {"Effect": "Allow", "Action": "*", "Condition": []}}', "Condition"),
    ],
)
def test_what_is_not_evaluated_is_refused(text: str, words: str) -> None:
    with pytest.raises(EmulatorError, match=words) as refused:
        parse_policy(text, "account[0].role[1].policy")
    assert str(refused.value).startswith("account[0].role[1].policy")
