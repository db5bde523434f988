"""The policies that are shipped, on an emulated AWS that enforces them: nightvault needs each of their
actions and no other, and none of the dangerous ones is granted to a role that should not have it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from msgspec.structs import replace as replace_setup

import backup.app.base.vaults
from backup.app.aws_setup.documents import AwsSetup, BucketSetup, documents
from backup.app.base.clock import SystemClock
from backup.emulator.core.access.evaluate import AccessRequest, Policies, judge
from backup.emulator.core.access.policy import Principal, parse_policy
from tests.support.clocks import EmulatorClock
from tests.support.emulated import REPOSITORY
from tests.support.local_account import KEEPER_ROLE, PRUNE_ROLE, ROLES
from tests.support.servers import Cloud, Server, replace, running_cloud
from tests.support.trees import assert_same_tree

DAY = timedelta(days=1)
LIFE = "life-of-roles"
LOCKS = {"s3:GetObjectRetention", "s3:GetObjectLegalHold"}
LIVES = {"glacier": ("glacier",), "s3": ("plain", "locked")}
UNSEEN: dict[tuple[str, str], set[str]] = {
    ("plain", "restore"): {"s3:ListBucketVersions", "s3:GetObjectVersion"},
    ("plain", "backup"): {"s3:GetBucketObjectLockConfiguration"},
    ("plain", "prune"): LOCKS | {"s3:DeleteObjectVersion", "s3:ListBucket"},
    ("plain", "keeper"): LOCKS | {"s3:DeleteObjectVersion"},
    ("locked", "prune"): {"s3:DeleteObject"},
    ("locked", "keeper"): {"s3:DeleteObject"},
}
"""Needed in the other life of that kind: versions and their locks where versions are kept, plain keys where
they are not.
"""
MIB = 1 << 20


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """An emulated AWS; servers' clocks may go by its own, while certificates are judged by the real time."""
    by_given_clock = backup.app.base.vaults.credential_source

    def by_real_time(config: Any, settings: Any, purpose: Any, clock: Any) -> Any:
        return by_given_clock(config, settings, purpose, SystemClock())

    monkeypatch.setattr(backup.app.base.vaults, "credential_source", by_real_time)
    (tmp_path / "cloud").mkdir()
    with running_cloud(tmp_path / "cloud") as running:
        yield running


class HurriedEmulatorClock(EmulatorClock):
    """The emulator's clock, where two hours pass with each sleep that is shorter."""

    def sleep(self, seconds: float) -> None:
        """At least two hours pass."""
        super().sleep(max(seconds, 2 * 3600))


def granted(documents: dict[str, Any], part: str) -> set[str]:
    """The actions of a document."""
    return {action for statement in documents[part]["Statement"] for action in statement["Action"]}


def used(cloud: Cloud) -> dict[str, set[str]]:
    """The actions that each role was allowed, by the documents' names; nothing was refused."""
    asked = cloud.emulator.asked()
    refused = {(request["principal"], request["action"]) for request in asked if request["refused"]}
    assert refused <= {(ROLES[part], action) for part, actions in REFUSALS.items() for action in actions}
    return {
        part: {request["action"] for request in asked if request["principal"] == arn and request["allowed"]}
        for part, arn in ROLES.items()
    }


REFUSALS = {
    "backup": {"s3:GetObject", *LOCKS},
    "restore": LOCKS,
    "prune": {"glacier:DeleteArchive"},
    "keeper": {"glacier:DeleteArchive"},
}
"""What is refused although all is well. The backup role asks for a lost answer by HEAD first, then by a list.
Who may not see a lock reads all the same, and is told of none. A vault's lock refuses deletions for a while.
"""


@pytest.mark.parametrize("kind", list(LIVES))
def test_every_action_is_needed_in_one_life_of_its_kind(kind: str) -> None:
    """What one life does not need, another does: no action is left without any."""
    for part in ROLES:
        unseen = [UNSEEN.get((life, part), set()) for life in LIVES[kind]]
        assert not set.intersection(*unseen), (kind, part)


@pytest.mark.slow
@pytest.mark.parametrize("life", [life for lives in LIVES.values() for life in lives])
def test_every_action_is_needed_and_no_other(cloud: Cloud, tmp_path: Path, life: str) -> None:
    """A server's life, and a keeper's; at its end each role has used exactly what it may do.

    Of a bucket that keeps versions, and locks them for a month, nothing condemned is left behind, no version
    and no delete marker. A Glacier vault's lock refuses deletions for a while.
    """
    kind = "glacier" if life == "glacier" else "s3"
    server = cloud.server(tmp_path, vault=LIFE, clock=EmulatorClock(cloud.emulator), kind=kind)
    documents = server.json("aws", "policy")
    server.init()
    if life == "locked":
        _lock_bucket(cloud.admin("s3"))
    server.done("config", "check")
    _interrupted_uploads(cloud, server, kind)
    server.clock = clock = HurriedEmulatorClock(cloud.emulator)
    if kind == "glacier":
        clock.sleep(DAY.total_seconds())
        _listing_whose_answer_is_lost(cloud, server)
    if life == "locked":
        _hidden_from_other_programs(cloud.admin("s3"), server)
    assert_same_tree(server.restore(tmp_path / "out"), server.source)
    server.restore(tmp_path / "one", snapshot=f"latest:{server.source}/a.txt")
    _years(server, clock)
    if kind == "glacier":
        with _locked_vault(cloud.admin("glacier")):
            assert "kept by the vault: the vault's lock" in server.run("prune", "--wait").output
        clock.sleep(8 * DAY.total_seconds())  # what was refused is tried again
    assert _prune(server)["deleted"]["archives"] >= 1
    replace(server, 'name = "cold"', 'name = "cold"\ndeletes = "elsewhere"')
    _years(server, clock)
    assert _prune(server)["deleted"]["archives"] == 0
    clock.sleep(10 * DAY.total_seconds())
    server.backup()  # a vault's list is made after a change, and the floor counts from it
    clock.sleep(2 * DAY.total_seconds())
    if kind == "glacier":
        with _locked_vault(cloud.admin("glacier")):
            replace(server, PRUNE_ROLE, KEEPER_ROLE)
            assert "the vault's lock forbids it" in server.run(*_as_keeper(server)).output
            replace(server, KEEPER_ROLE, PRUNE_ROLE)
        clock.sleep(8 * DAY.total_seconds())
    assert _delete_only(server)["deleted"]["archives"] >= 1
    for part, actions in used(cloud).items():
        unseen = UNSEEN.get((life, part), set())
        assert actions | unseen == granted(documents, part), part
        assert not actions & unseen, part
    if life == "locked":
        listed = cloud.admin("s3").list_object_versions(Bucket=LIFE)
        assert all(version["IsLatest"] for version in listed["Versions"])
        assert "DeleteMarkers" not in listed


def _lock_bucket(s3: Any) -> None:
    """Let the bucket keep versions, and lock what is stored for a month."""
    s3.put_bucket_versioning(Bucket=LIFE, VersioningConfiguration={"Status": "Enabled"})
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 30}}
    lock = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    s3.put_object_lock_configuration(Bucket=LIFE, ObjectLockConfiguration=lock)


def _hidden_from_other_programs(s3: Any, server: Server) -> None:
    """A night whose packs somebody puts delete markers over is restored; then they are taken away."""
    server.backup()
    packs = [line for line in s3.list_object_versions(Bucket=LIFE)["Versions"] if "data/" in line["Key"]]
    markers = [s3.delete_object(Bucket=LIFE, Key=line["Key"], IfMatch=line["ETag"]) for line in packs]
    server.restore(server.folder / "hidden")
    for line, marker in zip(packs, markers, strict=True):
        s3.delete_object(Bucket=LIFE, Key=line["Key"], VersionId=marker["VersionId"])


@contextmanager
def _locked_vault(glacier: Any) -> Iterator[None]:
    """The vault while a lock denies all deletions; it is not completed, so that it can be taken off."""
    (vault,) = glacier.list_vaults()["VaultList"]
    statement = {
        "Sid": "kept",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "glacier:DeleteArchive",
        "Resource": vault["VaultARN"],
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    glacier.initiate_vault_lock(vaultName=LIFE, policy={"Policy": policy})
    yield
    glacier.abort_vault_lock(vaultName=LIFE)


def _years(server: Server, clock: EmulatorClock) -> None:
    """Nights until something is condemned, and half a year, after which deleting it costs nothing."""
    _nights(server, clock)
    assert _prune(server)["condemned"]["archives"] == 1
    clock.sleep(200 * DAY.total_seconds())
    server.backup()
    clock.sleep(2 * DAY.total_seconds())


def _prune(server: Server) -> dict[str, Any]:
    """A prune by the server, with its last document."""
    result = server.done("--json", "prune", "--wait")
    return dict(json.loads(result.stdout.strip().splitlines()[-1]))


def _delete_only(server: Server) -> dict[str, Any]:
    """Deletions in place of the server, with the recovery key and the keeper's role."""
    replace(server, PRUNE_ROLE, KEEPER_ROLE)
    result = server.done("--json", *_as_keeper(server))
    return dict(json.loads(result.stdout.strip().splitlines()[-1])["inventories"][0])


def _as_keeper(server: Server) -> tuple[object, ...]:
    return ("prune", "--delete-only", "--key", server.key_file, "--keep-within", "1d", "--wait")


def _interrupted_uploads(cloud: Cloud, server: Server, kind: str) -> None:
    """Two nights whose parts are refused. All that the first had spooled is lost; the second is continued."""
    (server.source / "large").write_bytes(os.urandom(20 * MIB))
    part = "UploadMultipartPart" if kind == "glacier" else "s3:UploadPart"
    for lost in (True, False):
        cloud.emulator.set_faults([{"operation": part, "skip": 1, "count": 10_000, "reset": True}])
        assert server.run("--patience", "0", "backup").exit_code != 0
        cloud.emulator.set_faults([])
        for path in (server.state / "spool").iterdir() if lost else ():
            path.unlink()
    assert server.backup()["outcome"] == "done"


def _listing_whose_answer_is_lost(cloud: Cloud, server: Server) -> None:
    """The request is found again among the vault's jobs."""
    cloud.emulator.set_faults([{"operation": "InitiateJob", "reset": True, "after": True}])
    server.done("listing", "request")
    cloud.emulator.set_faults([])


def _nights(server: Server, clock: EmulatorClock) -> None:
    """Three more, of which one has a file that only it has; the first two are forgotten."""
    only = server.source / "only"
    only.write_bytes(os.urandom(200_000))
    server.backup()
    only.unlink()
    clock.sleep(DAY.total_seconds())
    server.backup()
    clock.sleep(DAY.total_seconds())
    for snapshot in server.json("snapshots")[:-1]:
        server.done("forget", snapshot["id"])


SETUP = AwsSetup(
    partition="aws",
    region="eu-central-1",
    account="123456789012",
    vault="nightly",
    trust_anchor_arn="arn:aws:rolesanywhere:eu-central-1:123456789012:trust-anchor/a",
    role_arns=list(ROLES.values()),
    session_duration=3600,
    common_name="web1",
)
BUCKET = BucketSetup("example", "web1/", "DEEP_ARCHIVE", "STANDARD")
OURS, OF_ANOTHER = "arn:aws:s3:::example/web1/data/1", "arn:aws:s3:::example/web2/data/1"
ALL_OF_S3 = (
    *("s3:BypassGovernanceRetention", "s3:PutObjectRetention", "s3:PutObjectLegalHold"),
    *("s3:PutObjectAcl", "s3:PutObjectTagging", "s3:DeleteObjectTagging", "s3:ReplicateDelete"),
    *("s3:PutObjectAnnotation", "s3:DeleteObjectAnnotation", "s3:PutObjectVersionTagging"),
)
ALL_OF_BUCKETS = (
    *(
        "s3:PutBucketVersioning",
        "s3:PutLifecycleConfiguration",
        "s3:PutBucketPolicy",
        "s3:DeleteBucketPolicy",
    ),
    *("s3:PutBucketObjectLockConfiguration", "s3:PutBucketPublicAccessBlock", "s3:DeleteBucket"),
    *("s3:PutReplicationConfiguration", "s3:PutBucketOwnershipControls", "s3:PutBucketAcl"),
    *("s3:PutInventoryConfiguration", "s3:PutBucketLogging", "s3:PutEncryptionConfiguration"),
)
ALL_OF_VAULTS = (
    *("glacier:DeleteVault", "glacier:SetVaultAccessPolicy", "glacier:DeleteVaultAccessPolicy"),
    *("glacier:InitiateVaultLock", "glacier:CompleteVaultLock", "glacier:AbortVaultLock"),
    *("glacier:AddTagsToVault", "glacier:RemoveTagsFromVault", "glacier:SetVaultNotifications"),
    *("glacier:SetDataRetrievalPolicy", "glacier:PurchaseProvisionedCapacity"),
)
DELETES = ("s3:DeleteObject", "s3:DeleteObjectVersion")
WRITES = ("s3:PutObject", "s3:AbortMultipartUpload")
READS = ("s3:GetObject", "s3:RestoreObject", "s3:GetObjectVersion")
OF_IDENTITIES = ("iam:PutRolePolicy", "iam:PassRole", "sts:AssumeRole", "rolesanywhere:UpdateTrustAnchor")


def dangers(part: str, kind: str) -> Iterator[tuple[str, str]]:
    """Actions that a role must not have, each with the resource on which it would do harm."""
    yield from ((action, "*") for action in OF_IDENTITIES)
    if kind == "glacier":
        ours, another = SETUP.vault_arn, SETUP.vault_arn.replace("nightly", "another")
        yield from ((action, ours) for action in ALL_OF_VAULTS)
        yield from ((action, another) for action in ("glacier:DeleteArchive", "glacier:InitiateJob"))
        if part in ("backup", "restore"):
            yield "glacier:DeleteArchive", ours
        if part != "backup":
            yield from ((f"glacier:{word}", ours) for word in ("InitiateMultipartUpload", "UploadArchive"))
        return
    yield from ((action, OURS) for action in ALL_OF_S3)
    yield from ((action, "arn:aws:s3:::example") for action in ALL_OF_BUCKETS)
    yield from ((action, OF_ANOTHER) for action in (*DELETES, *WRITES, *READS))
    if part in ("backup", "restore"):
        yield from ((action, OURS) for action in DELETES)
    if part == "backup":
        yield from ((action, OURS) for action in READS)
    else:
        yield from ((action, OURS) for action in WRITES)
    if part in ("prune", "keeper"):
        yield "s3:RestoreObject", OURS


@pytest.mark.parametrize("kind", ["glacier", "s3"])
@pytest.mark.parametrize("part", list(ROLES))
def test_what_no_thief_may_do(part: str, kind: str) -> None:
    """By the emulator's evaluation, on which the shipped documents are no word of ours."""
    made = documents(replace_setup(SETUP, bucket=BUCKET if kind == "s3" else None))
    policy = parse_policy(json.dumps(made[part]), part)
    role = ROLES[part]
    principal = Principal(
        "123456789012", role.replace("iam", "sts").replace(":role", ":assumed-role") + "/1", role
    )
    context = {"aws:PrincipalTag/x509Subject/CN": "web1", "aws:SecureTransport": "true"}
    asked = list(dangers(part, kind))
    assert len(asked) > 15
    for action, resource in asked:
        why = judge(AccessRequest(action, resource, "123456789012", context), principal, Policies(policy))
        assert why is not None, (action, resource)


def test_the_bucket_policy_stops_even_who_may_do_more() -> None:
    """Another class, an overwritten object, a request in the clear: denied to an administrator, too."""
    made = documents(replace_setup(SETUP, bucket=BUCKET))
    policy = parse_policy(json.dumps(made["bucket"]), "bucket")
    everything = parse_policy('{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}', "admin")
    user = Principal("123456789012", "arn:aws:iam::123456789012:user/admin", None)
    safe = {"aws:SecureTransport": "true", "s3:if-none-match": "*", "s3:ObjectCreationOperation": "true"}
    table = [
        ({"s3:x-amz-storage-class": "DEEP_ARCHIVE"}, OURS, True),
        ({"s3:x-amz-storage-class": "STANDARD"}, OURS, False),
        ({"s3:x-amz-storage-class": "STANDARD"}, OURS.replace("data", "meta"), True),
        ({"s3:x-amz-storage-class": "GLACIER"}, OURS.replace("data", "meta"), False),
        ({"aws:SecureTransport": "false"}, OURS, False),
    ]
    for more, resource, allowed in table:
        asked = AccessRequest("s3:PutObject", resource, "123456789012", {**safe, **more})
        assert (judge(asked, user, Policies(everything, of_resource=[policy])) is None) is allowed, more
    overwriting = {key: value for key, value in safe.items() if key != "s3:if-none-match"}
    asked = AccessRequest("s3:PutObject", OURS, "123456789012", overwriting)
    assert judge(asked, user, Policies(everything, of_resource=[policy])) is not None


def test_an_upload_that_names_no_class_cannot_be_told_from_the_end_of_one_in_parts() -> None:
    """So the bucket policy lets it in, which docs/aws.md says: a rule against it would end no upload."""
    made = documents(replace_setup(SETUP, bucket=BUCKET))
    shipped = parse_policy(json.dumps(made["bucket"]), "bucket")
    statements = json.loads(json.dumps(made["bucket"]))["Statement"]
    for statement in statements:
        statement["Condition"].pop("Null", None)  # "no class" is another class by then
    strict = parse_policy(json.dumps({"Statement": statements}), "strict")
    everything = parse_policy('{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}', "admin")
    user = Principal("123456789012", "arn:aws:iam::123456789012:user/admin", None)
    safe = {"aws:SecureTransport": "true", "s3:if-none-match": "*", "s3:ObjectCreationOperation": "true"}
    asked = AccessRequest("s3:PutObject", OURS, "123456789012", safe)  # the same of both
    assert judge(asked, user, Policies(everything, of_resource=[shipped])) is None
    assert judge(asked, user, Policies(everything, of_resource=[strict])) is not None
    said = " ".join((REPOSITORY / "docs" / "aws.md").read_text().split())
    assert "an upload that names none is stored in STANDARD" in said


def test_the_bucket_policy_on_an_emulated_aws(cloud: Cloud) -> None:
    """Another class is refused; none is let in, as are uploads in parts, at whose end no class is named."""
    s3, data = cloud.admin("s3"), {"Bucket": "example", "Key": "web1/data/1", "IfNoneMatch": "*"}
    place = replace_setup(BUCKET, is_plain=True)
    s3.create_bucket(Bucket="example", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    policy = documents(replace_setup(SETUP, bucket=place))["bucket"]
    s3.put_bucket_policy(Bucket="example", Policy=json.dumps(policy))
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.put_object(**data, Body=b"x", StorageClass="STANDARD")
    s3.put_object(**data, Body=b"x")
    assert "StorageClass" not in s3.head_object(Bucket="example", Key="web1/data/1"), "STANDARD"
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.create_multipart_upload(Bucket="example", Key="web1/data/2", StorageClass="GLACIER")
    data["Key"] = "web1/data/2"
    upload = s3.create_multipart_upload(Bucket="example", Key=data["Key"], StorageClass="DEEP_ARCHIVE")
    where = {"Bucket": "example", "Key": data["Key"], "UploadId": upload["UploadId"]}
    part = s3.upload_part(**where, PartNumber=1, Body=b"y")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(**data, UploadId=upload["UploadId"], MultipartUpload=parts)
    assert s3.head_object(Bucket="example", Key=data["Key"])["StorageClass"] == "DEEP_ARCHIVE"
