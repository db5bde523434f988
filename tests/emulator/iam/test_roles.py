"""Roles of IAM and GetCallerIdentity of STS, by boto3's own clients and Debian's AWS CLI."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.emulator.other_clients import KEYS, of_debian, run
from tests.support.aws_admin import admin_client, allow, document, trust
from tests.support.emulated import ACCOUNT_ID, RunningEmulator, StaticKey, write_accounts
from tests.support.emulator_clients import code_and_message

MINE = [{"Key": "nightvault:setup", "Value": "one"}]


@pytest.fixture
def iam(emulator: RunningEmulator) -> Any:
    """IAM, asked by the root."""
    return admin_client(emulator, "iam")


def test_a_role_from_its_creation_to_its_end(iam: Any) -> None:
    made = iam.create_role(
        RoleName="whole", Path="/backup/", AssumeRolePolicyDocument=trust(), Description="d <&>", Tags=MINE
    )["Role"]
    assert made["Arn"] == f"arn:aws:iam::{ACCOUNT_ID}:role/backup/whole"
    assert made["AssumeRolePolicyDocument"] == json.loads(trust())
    assert (made["Description"], made["MaxSessionDuration"], made["Tags"]) == ("d <&>", 3600, MINE)
    policy = document(allow("s3:*"))
    iam.put_role_policy(RoleName="whole", PolicyName="p", PolicyDocument=policy)
    got = iam.get_role_policy(RoleName="whole", PolicyName="p")["PolicyDocument"]
    assert got == json.loads(policy)
    assert iam.list_role_policies(RoleName="whole")["PolicyNames"] == ["p"]
    assert iam.list_attached_role_policies(RoleName="whole")["AttachedPolicies"] == []
    iam.update_role(RoleName="whole", MaxSessionDuration=7200)
    other = trust({"ArnEquals": {"aws:SourceArn": "arn:aws:rolesanywhere:x:1:trust-anchor/y"}})
    iam.update_assume_role_policy(RoleName="whole", PolicyDocument=other)
    iam.tag_role(RoleName="whole", Tags=[{"Key": "more", "Value": ""}])
    iam.untag_role(RoleName="whole", TagKeys=["nightvault:setup"])
    assert iam.list_role_tags(RoleName="whole")["Tags"] == [{"Key": "more", "Value": ""}]
    now = iam.get_role(RoleName="whole")["Role"]
    assert (now["MaxSessionDuration"], now["AssumeRolePolicyDocument"]) == (7200, json.loads(other))
    with pytest.raises(iam.exceptions.DeleteConflictException):
        iam.delete_role(RoleName="whole")
    iam.delete_role_policy(RoleName="whole", PolicyName="p")
    iam.delete_role(RoleName="whole")
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_role(RoleName="whole")


def test_managed_policies_are_attached_and_keep_a_role(iam: Any) -> None:
    iam.create_role(RoleName="more", AssumeRolePolicyDocument=trust())
    arns = [f"arn:aws:iam::aws:policy/{name}" for name in ("AdministratorAccess", "AmazonS3ReadOnlyAccess")]
    for arn in (*arns, arns[0]):
        iam.attach_role_policy(RoleName="more", PolicyArn=arn)
    pages = iam.get_paginator("list_attached_role_policies").paginate(
        RoleName="more", PaginationConfig={"PageSize": 1}
    )
    assert [policy["PolicyArn"] for page in pages for policy in page["AttachedPolicies"]] == arns
    with pytest.raises(iam.exceptions.DeleteConflictException):
        iam.delete_role(RoleName="more")
    for unknown in (iam.attach_role_policy, iam.detach_role_policy):
        with pytest.raises(iam.exceptions.NoSuchEntityException):
            unknown(RoleName="more", PolicyArn="arn:aws:iam::aws:policy/Nothing")
    for arn in arns:
        iam.detach_role_policy(RoleName="more", PolicyArn=arn)
    assert iam.list_attached_role_policies(RoleName="more")["AttachedPolicies"] == []
    iam.delete_role(RoleName="more")


def test_names_are_unique_whatever_their_case(iam: Any) -> None:
    iam.create_role(RoleName="Once", AssumeRolePolicyDocument=trust())
    with pytest.raises(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName="once", Path="/x/", AssumeRolePolicyDocument=trust())
    iam.delete_role(RoleName="Once")


def test_roles_are_listed_in_pages_without_tags(iam: Any) -> None:
    for number in range(5):
        iam.create_role(RoleName=f"page{number}", Path="/pages/", AssumeRolePolicyDocument=trust(), Tags=MINE)
    pages = list(
        iam.get_paginator("list_roles").paginate(PathPrefix="/pages/", PaginationConfig={"PageSize": 2})
    )
    roles = [role for page in pages for role in page["Roles"]]
    assert [role["RoleName"] for role in roles] == [f"page{number}" for number in range(5)]
    assert len(pages) == 3
    assert not any("Tags" in role for role in roles)
    for role in roles:
        iam.delete_role(RoleName=role["RoleName"])


@pytest.mark.parametrize(
    ("operation", "given", "code"),
    [
        (
            "create_role",
            {"AssumeRolePolicyDocument": document(allow("sts:AssumeRole"))},
            "MalformedPolicyDocument",
        ),
        ("create_role", {"AssumeRolePolicyDocument": "{"}, "MalformedPolicyDocument"),
        (
            "create_role",
            {"AssumeRolePolicyDocument": trust({"StringEquals": {"a": "x" * 3000}})},
            "LimitExceeded",
        ),
        ("put_role_policy", {"PolicyName": "p", "PolicyDocument": document(allow("s3:*"))}, "NoSuchEntity"),
        ("get_role_policy", {"PolicyName": "p"}, "NoSuchEntity"),
    ],
)
def test_errors_by_their_codes(iam: Any, operation: str, given: dict[str, str], code: str) -> None:
    with pytest.raises(ClientError) as error:
        getattr(iam, operation)(RoleName="absent", **given)
    assert code_and_message(error)[0] == code


def test_policies_that_are_no_inline_policies(iam: Any) -> None:
    iam.create_role(RoleName="strict", AssumeRolePolicyDocument=trust())
    for bad in (trust(), document({"Effect": "Allow", "Action": "s3:*"})):
        with pytest.raises(iam.exceptions.MalformedPolicyDocumentException):
            iam.put_role_policy(RoleName="strict", PolicyName="p", PolicyDocument=bad)
    with pytest.raises(iam.exceptions.LimitExceededException):
        iam.put_role_policy(
            RoleName="strict", PolicyName="p", PolicyDocument=document(allow("s3:*", "x" * 10_300))
        )
    iam.delete_role(RoleName="strict")


def test_a_user_may_do_what_its_policy_allows(tmp_path: Path) -> None:
    policy = document(
        allow(["iam:CreateRole", "iam:TagRole"], f"arn:aws:iam::{ACCOUNT_ID}:role/nightvault-*"),
        allow("iam:GetRole", Condition={"StringEquals": {"aws:ResourceTag/nightvault:setup": "one"}}),
    )
    keys = [StaticKey(), StaticKey("AKIAUSERUSERUSERUSER", "secret", user="alice", policy=policy)]
    accounts = write_accounts(tmp_path / "accounts.toml", keys=keys)
    with RunningEmulator(tmp_path / "state", accounts) as emulator:
        iam = admin_client(emulator, "iam", "AKIAUSERUSERUSERUSER", "secret")
        iam.create_role(RoleName="nightvault-a", AssumeRolePolicyDocument=trust(), Tags=MINE)
        assert iam.get_role(RoleName="nightvault-a")["Role"]["Tags"] == MINE
        sts = admin_client(emulator, "sts", "AKIAUSERUSERUSERUSER", "secret").get_caller_identity()
        assert sts["Arn"] == f"arn:aws:iam::{ACCOUNT_ID}:user/alice"
        create = functools.partial(iam.create_role, AssumeRolePolicyDocument=trust())
        refused = (("other", "iam:CreateRole", create), ("nightvault-a", "iam:DeleteRole", iam.delete_role))
        for name, words, ask in refused:
            with pytest.raises(ClientError) as denial:
                ask(RoleName=name)
            code, message = code_and_message(denial)
            assert code == "AccessDenied"
            assert f"perform: {words} on resource: arn:aws:iam::{ACCOUNT_ID}:role/{name}" in message


@pytest.mark.parametrize(
    ("key", "secret", "code"),
    [
        ("AKIAUNKNOWNUNKNOWN00", "x", "InvalidClientTokenId"),
        (KEYS["AWS_ACCESS_KEY_ID"], "x", "SignatureDoesNotMatch"),
    ],
)
def test_who_is_nobody(emulator: RunningEmulator, key: str, secret: str, code: str) -> None:
    with pytest.raises(ClientError) as error:
        admin_client(emulator, "sts", key, secret).get_caller_identity()
    assert code_and_message(error)[0] == code


def test_the_root_is_its_account(emulator: RunningEmulator) -> None:
    who = admin_client(emulator, "sts").get_caller_identity()
    assert (who["Account"], who["UserId"]) == (ACCOUNT_ID, ACCOUNT_ID)
    assert who["Arn"] == f"arn:aws:iam::{ACCOUNT_ID}:root"


@pytest.mark.slow
@pytest.mark.real
def test_debians_aws_cli(emulator: RunningEmulator, tmp_path: Path) -> None:
    """The commands of a set-up by hand, each document from a file."""
    program = of_debian("aws")
    (tmp_path / "trust.json").write_text(trust())
    (tmp_path / "policy.json").write_text(document(allow("s3:*")))

    def aws(*words: str) -> Any:
        told = run([program, "--endpoint-url", emulator.glacier_url, *words], tmp_path, KEYS)
        return json.loads(told) if told.strip() else None

    assert aws("sts", "get-caller-identity")["Account"] == ACCOUNT_ID
    trusted = ("--assume-role-policy-document", "file://trust.json")
    tags = ("--tags", "Key=nightvault:setup,Value=one")
    assert aws("iam", "create-role", "--role-name", "cli", *trusted, *tags)["Role"]["RoleName"] == "cli"
    policy = ("--policy-name", "p")
    aws("iam", "put-role-policy", "--role-name", "cli", *policy, "--policy-document", "file://policy.json")
    assert aws("iam", "list-role-tags", "--role-name", "cli")["Tags"] == MINE
    named = ("--name", "cli", "--role-arns", f"arn:aws:iam::{ACCOUNT_ID}:role/cli")
    profile = aws("rolesanywhere", "create-profile", *named, "--enabled")["profile"]
    listed = aws("rolesanywhere", "list-profiles")["profiles"]
    assert profile["profileId"] in [known["profileId"] for known in listed]
    aws("rolesanywhere", "delete-profile", "--profile-id", profile["profileId"])
    aws("iam", "delete-role-policy", "--role-name", "cli", *policy)
    aws("iam", "delete-role", "--role-name", "cli")
