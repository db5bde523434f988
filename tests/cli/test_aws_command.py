"""`nightvault aws policy`: documents that AWS takes, for the config that is there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import botocore.session
import pytest
from botocore.validate import ParamValidator
from msgspec.structs import replace

from backup.app.aws_setup.documents import (
    JOB_ACTIONS,
    OWN_NAME,
    AwsSetup,
    BucketSetup,
    backup_policy,
    documents,
    keeper_policy,
    prune_policy,
)
from tests.support.command_line import ACCOUNT, ANCHOR, identity_settings, run, run_json
from tests.support.emulated import REPOSITORY

ROLE = f"arn:aws:iam::{ACCOUNT}:role/backup/Writer"
PRUNER = f"arn:aws:iam::{ACCOUNT}:role/backup/Pruner"
VAULT_ARN = f"arn:aws:glacier:eu-west-1:{ACCOUNT}:vaults/nightly"

GLACIER = (
    f'[[vault]]\nname = "cold"\nkind = "glacier"\nregion = "eu-west-1"\nvault = "nightly"\n'
    f'role_arn = "{ROLE}"\n'
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    assert run("ca", "create", "--dir", tmp_path / "ca", "--name", "Backup CA").exit_code == 0
    issue = ("ca", "issue", "web1", "--dir", tmp_path / "ca", "--out", tmp_path / "out", "--unit", "Backup")
    assert run(*issue).exit_code == 0
    path = tmp_path / "config.toml"
    identity = identity_settings(tmp_path / "out" / "web1.pem", tmp_path / "out" / "web1.key")
    path.write_text(f'{identity}{GLACIER}prune_role_arn = "{PRUNER}"\n')
    return path


def test_the_trust_policy_names_anchor_and_subject(config: Path) -> None:
    document = run_json("--config", config, "aws", "policy", "--only", "trust")
    (statement,) = document["Statement"]
    assert statement["Principal"] == {"Service": "rolesanywhere.amazonaws.com"}
    assert statement["Action"] == ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
    assert statement["Condition"] == {
        "ArnEquals": {"aws:SourceArn": ANCHOR},
        "StringEquals": {
            "aws:PrincipalTag/x509Subject/CN": "web1",
            "aws:PrincipalTag/x509Subject/OU": "Backup",
        },
    }


def test_all_documents_in_their_order(config: Path) -> None:
    made = run_json("--config", config, "aws", "policy")
    roles = ["backup", "restore", "copy", "prune", "keeper"]
    assert list(made) == ["trust-anchor", "trust", *roles, "vault-lock", "profile"]
    assert made["profile"] == {
        "name": "nightvault",
        "roleArns": [PRUNER, ROLE],
        "durationSeconds": 7200,
        "enabled": True,
    }
    text = run("--config", config, "aws", "policy").stdout
    assert f"# backup: permissions of {ROLE}\n{{" in text
    assert f"# restore: permissions of {ROLE}\n" in text
    assert f"# prune: permissions of {PRUNER}, if it is to delete at all\n" in text


def test_what_is_an_administrators_right_is_said(config: Path) -> None:
    """The rights of who sets this up are for writing roles, and no tag or boundary holds them."""
    result = run("--config", config, "aws", "policy", "--only", "trust-anchor")
    actions = [
        action for statement in json.loads(result.stdout)["Statement"] for action in statement["Action"]
    ]
    assert "iam:PutRolePolicy" in actions
    assert "for administrators alone" in result.stderr
    assert "for administrators alone" in run("--config", config, "aws", "policy").stdout
    assert "administrators" not in run("--config", config, "aws", "policy", "--only", "backup").stderr
    page = " ".join((REPOSITORY / "docs" / "aws.md").read_text().split())
    assert "Give them to nobody whom you would not make an administrator" in page
    assert "no administrator" not in page, "for whom it was said to be"


def test_only_prints_json_alone_for_a_file(config: Path) -> None:
    result = run("--config", config, "aws", "policy", "--only", "backup")
    document = json.loads(result.stdout)
    assert {statement["Resource"] for statement in document["Statement"]} == {VAULT_ARN}
    assert result.stderr == ""


def actions(document: object) -> set[str]:
    text = json.loads(json.dumps(document))
    return {action for statement in text["Statement"] for action in statement["Action"]}


def test_only_the_prune_role_may_delete() -> None:
    setup = AwsSetup("aws", "eu-west-1", ACCOUNT, "nightly", ANCHOR, [ROLE], 3600)
    assert not any("Delete" in action or "*" in action for action in actions(backup_policy(setup)))
    for part in ("restore", "copy"):
        reads = actions(documents(setup)[part])
        assert not any("Upload" in action or "Delete" in action for action in reads)
    assert actions(prune_policy(setup)) == {"glacier:GetVaultLock", "glacier:DeleteArchive"}
    more = {"glacier:DescribeVault", *JOB_ACTIONS}
    assert actions(keeper_policy(setup)) == actions(prune_policy(setup)) | more


def test_every_action_is_an_operation_of_its_service() -> None:
    setup = AwsSetup("aws", "eu-west-1", ACCOUNT, "nightly", ANCHOR, [ROLE], 3600)
    session = botocore.session.Session()
    known = {
        service: set(session.get_service_model(service).operation_names)
        for service in ("glacier", "rolesanywhere", "iam", "s3")
    }
    known["iam"].add("PassRole")  # a permission without an operation of its own
    known["s3"].add("ListAllMyBuckets")  # that of ListBuckets
    asked = set[str]()
    for name, document in documents(setup).items():
        if name not in {"trust", "profile"}:
            asked |= actions(document)
    assert {
        action for action in asked if action.partition(":")[2] not in known[action.partition(":")[0]]
    } == set()


def test_the_profile_is_what_create_profile_takes() -> None:
    setup = AwsSetup("aws", "eu-west-1", ACCOUNT, "nightly", ANCHOR, [ROLE, PRUNER], 43200)
    shape = (
        botocore.session.Session()
        .get_service_model("rolesanywhere")
        .operation_model("CreateProfile")
        .input_shape
    )
    report = ParamValidator().validate(documents(setup)["profile"], shape)
    assert not report.has_errors(), report.generate_report()


def test_partitions_and_regions_are_kept_apart() -> None:
    anchor = ANCHOR.replace("arn:aws:", "arn:aws-cn:").replace("eu-central-1", "cn-north-1")
    setup = AwsSetup("aws-cn", "cn-northwest-1", ACCOUNT, "nightly", anchor, [ROLE], 3600)
    made = json.dumps(documents(setup))
    assert f"arn:aws-cn:glacier:cn-northwest-1:{ACCOUNT}:vaults/nightly" in made
    assert f"arn:aws-cn:rolesanywhere:cn-north-1:{ACCOUNT}:trust-anchor/*" in made


def test_what_is_not_known_yet_is_left_to_be_filled_in(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[[vault]]\nname = "cold"\nkind = "glacier"\nregion = "eu-west-1"\nvault = "nightly"\n')
    result = run("--config", path, "aws", "policy")
    assert result.exit_code == 0, result.output
    assert "arn:aws:rolesanywhere:eu-west-1:ACCOUNT-ID:trust-anchor/TRUST-ANCHOR-ID" in result.stdout
    assert '"aws:PrincipalTag/x509Subject/CN": "SERVER-NAME"' in result.stdout
    assert "to be filled in by hand: ACCOUNT-ID, TRUST-ANCHOR-ID, SERVER-NAME" in result.stderr
    assert 'put this into [[vault]]: role_arn = "arn:aws:iam::ACCOUNT-ID:role/nightvault"' in result.stderr


def test_what_the_config_does_not_know_yet_can_be_told(tmp_path: Path) -> None:
    """What makes the role is printed before there is a role, an anchor or a certificate."""
    path = tmp_path / "config.toml"
    path.write_text('[[vault]]\nname = "cold"\nkind = "glacier"\nregion = "eu-west-1"\nvault = "nightly"\n')
    told = (
        "--account",
        ACCOUNT,
        "--role",
        "Writer",
        "--trust-anchor",
        ANCHOR,
        "--subject",
        "web1",
        "--unit",
        "Backup",
    )
    result = run("--config", path, "aws", "policy", *told)
    assert result.exit_code == 0, result.output
    assert "filled in by hand" not in result.stderr
    made = run_json("--config", path, "aws", "policy", *told)
    assert made["profile"]["roleArns"] == [f"arn:aws:iam::{ACCOUNT}:role/Writer"]
    (statement,) = made["trust"]["Statement"]
    assert statement["Condition"]["ArnEquals"] == {"aws:SourceArn": ANCHOR}
    assert statement["Condition"]["StringEquals"]["aws:PrincipalTag/x509Subject/OU"] == "Backup"
    result = run("--config", path, "aws", "policy", "--only", "backup", "--account", ACCOUNT)
    assert "filled in by hand" not in result.stderr, "only what is in the document that is printed"
    refused = run("--config", path, "aws", "policy", "--trust-anchor", "nonsense")
    assert refused.exit_code == 2
    assert "Traceback" not in refused.output


def test_a_certificate_that_is_not_there_yet(config: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "web1.pem").unlink()
    result = run("--config", config, "aws", "policy", "--only", "trust")
    assert result.exit_code == 0
    assert "the trust policy cannot name its subject" in result.stderr
    assert "SERVER-NAME" in result.stdout


def test_the_vault_is_chosen(config: Path, tmp_path: Path) -> None:
    more = '[[vault]]\nname = "disk"\nkind = "directory"\npath = "/srv/vault"\n'
    more += GLACIER.replace('"cold"', '"cold2"').replace('"nightly"', '"weekly"')
    with config.open("a") as file:
        file.write(more)
    several = run("--config", config, "aws", "policy")
    assert several.exit_code == 2
    assert "cold, cold2" in several.stderr
    chosen = run_json("--config", config, "aws", "policy", "--vault", "cold2", "--only", "restore")
    assert chosen["Statement"][0]["Resource"] == VAULT_ARN.replace("nightly", "weekly")
    disk = run("--config", config, "aws", "policy", "--vault", "disk")
    assert disk.exit_code == 2
    assert "AWS has no part in it" in disk.stderr
    config.write_text('[[vault]]\nname = "disk"\nkind = "directory"\npath = "/srv/vault"\n')
    none = run("--config", config, "aws", "policy")
    assert none.exit_code == 2
    assert "has no vault in AWS" in none.stderr


S3 = AwsSetup(
    "aws",
    "eu-west-1",
    ACCOUNT,
    "",
    ANCHOR,
    [ROLE],
    3600,
    bucket=BucketSetup("some-bucket", "web1/", "DEEP_ARCHIVE", "STANDARD"),
)


def test_a_buckets_roles_have_the_least_rights() -> None:
    made = documents(S3)
    assert list(made) == [
        "trust-anchor",
        "trust",
        "backup",
        "restore",
        "copy",
        "prune",
        "keeper",
        "undelete",
        "bucket",
        "profile",
    ]
    assert not any(
        "Delete" in action or "GetObject" in action or "*" in action for action in actions(made["backup"])
    )
    by_version = {"s3:ListBucketVersions", "s3:GetObjectVersion"}
    assert actions(made["restore"]) == {"s3:ListBucket", "s3:GetObject", "s3:RestoreObject", *by_version}
    assert "s3:PutObject" not in actions(made["restore"]) | actions(made["prune"]) | actions(made["keeper"])
    assert {action for action in actions(made["prune"]) if "Delete" in action or "*" in action} == {
        "s3:DeleteObject",
        "s3:DeleteObjectVersion",
    }
    assert actions(made["keeper"]) - actions(made["prune"]) == {"s3:RestoreObject"}
    text = json.dumps([made[name] for name in ("backup", "restore", "copy", "prune", "keeper")])
    assert "arn:aws:s3:::some-bucket/web1/data/*" in text
    assert "arn:aws:s3:::some-bucket/web1/meta/*" in text
    assert "some-bucket/*" not in text


def test_a_shared_role_names_no_server_and_no_deny_goes_by_a_tag() -> None:
    made = documents(replace(S3, is_shared=True, common_name="web1", unit="Backup"))
    (trust,) = json.loads(json.dumps(made["trust"]))["Statement"]
    assert trust["Condition"]["StringEquals"] == {"aws:PrincipalTag/x509Subject/OU": "Backup"}
    for name in ("backup", "restore", "copy", "prune", "keeper"):
        statements = json.loads(json.dumps(made[name]))["Statement"]
        assert all(statement["Effect"] == "Allow" for statement in statements)
        below = [
            statement for statement in statements if f"/{OWN_NAME}/" in json.dumps(statement["Resource"])
        ]
        assert below, name
        for statement in statements:
            if "s3:ListBucket" in statement["Action"]:
                assert statement["Condition"] == {"StringLike": {"s3:prefix": f"{OWN_NAME}/*"}}
    assert "web1" not in json.dumps(made)
    assert "PrincipalTag" not in json.dumps(made["bucket"])
    assert "arn:aws:s3:::some-bucket/*/data/*" in json.dumps(made["bucket"])


def test_a_shared_role_needs_a_unit_and_the_servers_own_places(config: Path) -> None:
    shared = run("--config", config, "aws", "policy", "--shared")
    assert shared.exit_code == 0
    assert "all servers would share vault nightly" in shared.stderr
    config.write_text(config.read_text().replace('vault = "nightly"', 'vault = "web1"'))
    backup = run_json("--config", config, "aws", "policy", "--shared", "--only", "backup")
    assert {statement["Resource"] for statement in backup["Statement"]} == {
        VAULT_ARN.replace("nightly", OWN_NAME)
    }
    bucket = '[[vault]]\nname = "b"\nkind = "s3"\nregion = "eu-west-1"\nbucket = "some-bucket"\n'
    identity = config.read_text().partition("[[vault]]")[0]
    config.write_text(f'{identity}{bucket}role_arn = "{ROLE}"\n')
    told = run("--config", config, "aws", "policy", "--shared")
    assert 'needs prefix = "web1/" in its config' in told.stderr
    config.write_text(bucket)
    refused = run("--config", config, "aws", "policy", "--shared")
    assert refused.exit_code == 2
    assert "needs the unit (OU)" in refused.stderr


def test_a_buckets_policy_binds_everybody() -> None:
    statements = json.loads(json.dumps(documents(S3)["bucket"]))["Statement"]
    assert all(statement["Effect"] == "Deny" and statement["Principal"] == "*" for statement in statements)
    classes = {statement["Sid"]: statement["Condition"].get("StringNotEquals") for statement in statements}
    assert classes["DataInTheirClass"] == {"s3:x-amz-storage-class": "DEEP_ARCHIVE"}
    assert classes["CatalogsReadable"] == {"s3:x-amz-storage-class": "STANDARD"}
    assert {"NeverOverwrite", "NothingInTheClear"} < classes.keys()


def test_a_bucket_of_the_config(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[[vault]]\nname = "cold"\nkind = "s3"\nregion = "eu-west-1"\nbucket = "some-bucket"\n')
    document = run_json("--config", path, "aws", "policy", "--only", "bucket")
    assert document["Statement"][0]["Resource"] == "arn:aws:s3:::some-bucket/data/*"
    assert "# bucket: policy of bucket some-bucket" in run("--config", path, "aws", "policy").stdout


def test_a_glacier_vault_has_no_bucket_policy(config: Path) -> None:
    refused = run("--config", config, "aws", "policy", "--only", "bucket")
    assert refused.exit_code == 2
    assert "is no bucket" in refused.stderr


def test_the_bucket_examples_in_deploy_are_what_is_printed() -> None:
    anchor = "arn:aws:rolesanywhere:REGION:ACCOUNT-ID:trust-anchor/TRUST-ANCHOR-ID"
    role = "arn:aws:iam::ACCOUNT-ID:role/BACKUP-ROLE"
    bucket = BucketSetup("BUCKET", "", "DEEP_ARCHIVE", "STANDARD")
    setup = AwsSetup("aws", "REGION", "ACCOUNT-ID", "", anchor, [role], 3600, "SERVER-NAME", bucket=bucket)
    directory = Path(__file__).parent.parent.parent / "deploy" / "iam" / "s3"
    shown = {path.stem: path.read_text() for path in directory.glob("*.json")}
    made = documents(setup)
    assert shown == {
        name: json.dumps(made[name], indent=2) + "\n"
        for name in ("backup", "restore", "copy", "prune", "keeper", "bucket")
    }


def test_the_examples_of_a_shared_role_in_deploy_are_what_is_printed() -> None:
    anchor = "arn:aws:rolesanywhere:REGION:ACCOUNT-ID:trust-anchor/TRUST-ANCHOR-ID"
    role = "arn:aws:iam::ACCOUNT-ID:role/BACKUP-ROLE"
    bucket = BucketSetup("BUCKET", "", "DEEP_ARCHIVE", "STANDARD")
    setup = AwsSetup("aws", "REGION", "ACCOUNT-ID", "", anchor, [role], 3600, None, "SERVERS-OU", bucket)
    made = documents(replace(setup, is_shared=True))
    names = ("trust", "backup", "restore", "copy", "prune", "keeper", "bucket")
    directory = Path(__file__).parent.parent.parent / "deploy" / "iam" / "shared"
    shown = {path.stem: path.read_text() for path in directory.glob("*.json")}
    assert shown == {name: json.dumps(made[name], indent=2) + "\n" for name in names}


def test_the_examples_in_deploy_are_what_is_printed() -> None:
    anchor = "arn:aws:rolesanywhere:REGION:ACCOUNT-ID:trust-anchor/TRUST-ANCHOR-ID"
    role = "arn:aws:iam::ACCOUNT-ID:role/BACKUP-ROLE"
    setup = AwsSetup("aws", "REGION", "ACCOUNT-ID", "VAULT", anchor, [role], 3600, "SERVER-NAME")
    directory = Path(__file__).parent.parent.parent / "deploy" / "iam"
    shown = {path.stem: path.read_text() for path in directory.glob("*.json")}
    assert shown == {name: json.dumps(made, indent=2) + "\n" for name, made in documents(setup).items()}


def test_the_trust_anchor_of_the_guide_is_what_create_trust_anchor_takes(tmp_path: Path) -> None:
    assert run("ca", "create", "--dir", tmp_path / "ca", "--name", "Backup CA").exit_code == 0
    guide = (Path(__file__).parent.parent.parent / "docs" / "aws.md").read_text()
    command, *_ = [line for line in guide.splitlines() if line.startswith("python3 -c ")]
    printed = subprocess.run(
        command.partition(" > ")[0], shell=True, check=True, capture_output=True, text=True, cwd=tmp_path
    ).stdout
    service = botocore.session.Session().get_service_model("rolesanywhere")
    shape = service.operation_model("CreateTrustAnchor").input_shape
    report = ParamValidator().validate(json.loads(printed), shape)
    assert not report.has_errors(), report.generate_report()
    assert "BEGIN CERTIFICATE" in printed
