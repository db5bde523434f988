"""IAM policies: what they allow, deny and cannot say."""

from __future__ import annotations

import json

import pytest

from backup.emulator.core.access.conditions import Condition, arn_matches, matches
from backup.emulator.core.access.policy import Policy, parse_policy
from backup.emulator.core.errors import EmulatorError

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
        ("IpAddress", ("10.0.0.0/8", "127.0.0.1"), "127.0.0.1", True),
        ("IpAddress", ("10.0.0.0/8",), "11.1.1.1", False),
        ("NotIpAddress", ("10.0.0.0/8",), "11.1.1.1", True),
        ("IpAddress", ("::/0",), "127.0.0.1", False),
        ("ForAnyValue:StringEquals", ("a",), None, False),
        ("ForAllValues:StringEquals", ("a",), None, True),
    ],
)
def test_conditions(operator: str, values: tuple[str, ...], value: str | None, holds: bool) -> None:
    context = {} if value is None else {"aws:SourceArn": value}
    assert Condition(operator, "AWS:sourcearn", values).holds(context) is holds


@pytest.mark.parametrize(
    ("operator", "values", "found", "holds"),
    [
        ("ForAnyValue:StringEquals", ("a", "b"), ("b", "c"), True),
        ("ForAnyValue:StringEquals", ("a",), ("b", "c"), False),
        ("ForAnyValue:StringNotEquals", ("a",), ("a", "c"), True),
        ("ForAllValues:StringLike", ("a*", "b"), ("ab", "b"), True),
        ("ForAllValues:StringLike", ("a*",), ("ab", "b"), False),
        ("ForAllValues:StringEquals", ("a",), (), True),
    ],
)
def test_multivalued_keys(
    operator: str, values: tuple[str, ...], found: tuple[str, ...], holds: bool
) -> None:
    assert Condition(operator, "aws:TagKeys", values).holds({"aws:TagKeys": found}) is holds


def test_not_resource() -> None:
    policy = _policy({"Effect": "Allow", "Action": "s3:*", "NotResource": "arn:aws:s3:::b/meta/*"})
    assert policy.allows("s3:GetObject", {}, resource="arn:aws:s3:::b/data/1")
    assert not policy.allows("s3:GetObject", {}, resource="arn:aws:s3:::b/meta/1")


NAME = "aws:PrincipalTag/x509Subject/CN"


@pytest.mark.parametrize(
    ("pattern", "tags", "key", "allowed"),
    [
        (f"b/${{{NAME}}}/*", {NAME: "web1"}, "b/web1/data", True),
        (f"b/${{{NAME}}}/*", {NAME: "web1"}, "b/web2/data", False),
        (f"b/${{{NAME.upper()}}}/*", {NAME: "web1"}, "b/web1/data", True),
        (f"b/${{{NAME}}}/*", {}, "b//data", False),
        (f"b/${{{NAME}, 'none'}}/*", {}, "b/none/data", True),
        (f"b/${{{NAME}}}/*", {NAME: "*"}, "b/web1/data", False),
        (f"b/${{{NAME}}}/*", {NAME: "w?b"}, "b/web/data", False),
        ("b/${*}/x", {}, "b/*/x", True),
        ("b/${*}/x", {}, "b/y/x", False),
        ("b/${$}{x}", {}, "b/${x}", True),
    ],
)
def test_policy_variables(pattern: str, tags: dict[str, str], key: str, allowed: bool) -> None:
    policy = _policy(_allow(Action="s3:*", Resource=f"arn:aws:s3:::{pattern}"))
    assert policy.allows("s3:GetObject", tags, resource=f"arn:aws:s3:::{key}") is allowed


def test_an_unresolved_variable_voids_its_statement_even_a_deny() -> None:
    deny: dict[str, object] = {
        "Effect": "Deny",
        "Action": "s3:*",
        "NotResource": f"arn:aws:s3:::b/${{{NAME}}}/*",
    }
    policy = _policy(_allow(Action="s3:*"), deny)
    assert policy.denies("s3:GetObject", {NAME: "web1"}, resource="arn:aws:s3:::b/web2/x")
    assert policy.allows("s3:GetObject", {}, resource="arn:aws:s3:::b/web2/x"), "the hole that AWS has, too"
    of_condition = _policy(_allow(Condition={"StringEquals": {"s3:prefix": f"${{{NAME}}}/"}}))
    assert of_condition.allows("glacier:X", {NAME: "w", "s3:prefix": "w/"}, resource="*")
    assert not of_condition.allows("glacier:X", {"s3:prefix": "/"}, resource="*")


def test_variables_are_text_in_the_old_version() -> None:
    text = json.dumps({"Statement": _allow(Resource="a/${aws:username}")})
    policy = parse_policy(text, "here")
    assert not policy.allows("glacier:X", {"aws:username": "me"}, resource="a/me")
    assert policy.allows("glacier:X", {"aws:username": "me"}, resource="a/${aws:username}")


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
        ('{"Version": "2020-01-01", "Statement": []}', "Version"),
        (
            '{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "NotResource": "x"}}',
            "Resource or NotResource",
        ),
        ('{"Statement": 3}', "needs a Statement"),
        ('{"Statement": {"Effect": "Maybe", "Action": "*"}}', "Effect"),
        ('{"Statement": {"Effect": "Allow"}}', "Action or NotAction"),
        ('{"Statement": {"Effect": "Allow", "Action": 3}}', "Action must be a string"),
        ('{"Statement": {"Effect": "Allow", "Action": "*", "NotPrincipal": {"AWS": "*"}}}', "NotPrincipal"),
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
