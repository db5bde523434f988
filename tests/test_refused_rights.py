"""What the shipped roles of a bucket are refused by the service itself, with sessions of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from backup.app.base.clock import SystemClock
from backup.app.base.vaults import identity_files, roles_anywhere
from backup.config import load_config
from tests.support.local_account import ROLES, write_accounts
from tests.support.servers import Cloud, Server, replace, running_cloud

LIFE = "refused-rights"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """An emulated AWS."""
    (tmp_path / "cloud").mkdir()
    with running_cloud(tmp_path / "cloud") as running:
        yield running


CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("delete_object", {"BypassGovernanceRetention": True, "Key": "KEY"}),
    ("put_object_retention", {"Key": "KEY", "Retention": {}, "BypassGovernanceRetention": True}),
    ("put_object_legal_hold", {"Key": "KEY", "LegalHold": {"Status": "OFF"}}),
    ("put_object_acl", {"Key": "KEY", "ACL": "public-read"}),
    ("put_object_tagging", {"Key": "KEY", "Tagging": {"TagSet": []}}),
    ("delete_object_tagging", {"Key": "KEY"}),
    ("put_object_annotation", {"Key": "KEY", "AnnotationName": "a", "AnnotationPayload": b"b"}),
    ("put_bucket_versioning", {"VersioningConfiguration": {"Status": "Suspended"}}),
    ("put_bucket_lifecycle_configuration", {"LifecycleConfiguration": {"Rules": []}}),
    ("delete_bucket_lifecycle", {}),
    ("put_object_lock_configuration", {"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}}),
    ("put_bucket_policy", {"Policy": "{}"}),
    ("delete_bucket_policy", {}),
    ("delete_public_access_block", {}),
    ("put_bucket_acl", {"ACL": "public-read"}),
    ("delete_bucket_encryption", {}),
    ("delete_bucket", {}),
    ("put_object", {"Key": "other/data/1", "Body": b"x", "IfNoneMatch": "*"}),
    ("get_object", {"Key": "other/data/1"}),
    ("restore_object", {"Key": "other/data/1", "RestoreRequest": {"Days": 1}}),
    ("delete_object", {"Key": "other/data/1"}),
)
"""Calls that each role of a bucket is refused, KEY being one of its own objects."""


def prefix_keys(cloud: Cloud, server: Server) -> None:
    """Limit the server to keys below its name, and give its roles what is shipped for that."""
    replace(server, 'name = "cold"', 'name = "cold"\nprefix = "web1/"')
    made = server.json("aws", "policy")
    write_accounts(str(cloud.accounts), ca=str(server.folder / "ca" / "ca.pem"), documents=made)


def test_a_thief_is_refused_by_the_service_itself(cloud: Cloud, tmp_path: Path) -> None:
    """Each call is made over HTTP with each role's own session, and nothing has changed afterwards."""
    server = cloud.server(tmp_path, vault=LIFE, kind="s3")
    prefix_keys(cloud, server)
    server.init()
    s3 = cloud.admin("s3")
    s3.put_bucket_versioning(Bucket=LIFE, VersioningConfiguration={"Status": "Enabled"})
    lock = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}
    s3.put_object_lock_configuration(Bucket=LIFE, ObjectLockConfiguration=lock)
    server.backup()
    key = s3.list_objects_v2(Bucket=LIFE, Prefix="web1/data/")["Contents"][0]["Key"]
    s3.put_object(Bucket=LIFE, Key="other/data/1", Body=b"x")
    before = s3.list_object_versions(Bucket=LIFE)
    for part, client in sessions(server):
        for operation, words in CALLS:
            given = {name: key if value == "KEY" else value for name, value in words.items()}
            with pytest.raises(client.exceptions.ClientError) as refused:
                getattr(client, operation)(Bucket=LIFE, **given)
            assert refused.value.response["Error"]["Code"] == "AccessDenied", (part, operation)
        if part in ("backup", "restore"):
            version = next(listed["VersionId"] for listed in before["Versions"] if listed["Key"] == key)
            for given in ({}, {"VersionId": version}):
                with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
                    client.delete_object(Bucket=LIFE, Key=key, **given)
    assert s3.list_object_versions(Bucket=LIFE)["Versions"] == before["Versions"]


def sessions(server: Server) -> Iterator[tuple[str, Any]]:
    """S3 for each role, with a session that the server's certificate got."""
    config = load_config(str(server.config))
    assert config.roles_anywhere is not None
    (vault,) = config.vaults
    for part, arn in ROLES.items():
        clock = SystemClock()
        source = roles_anywhere(config.roles_anywhere, arn, lambda: identity_files(config), clock)
        got = source.credentials()
        keys = {
            "aws_access_key_id": got.access_key_id,
            "aws_secret_access_key": got.secret_access_key,
            "aws_session_token": got.session_token,
        }
        yield part, boto3.client("s3", endpoint_url=vault.endpoint, region_name=vault.region, **keys)
