"""A bucket as a vault, when something is wrong with it: one clear sentence, and the documented exit code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.support.emulated import ACCOUNT_ID, REGION, StaticKey
from tests.support.s3_clients import client
from tests.support.servers import Cloud, HurryingClock, Server, assert_well, replace, running_cloud
from tests.support.trees import assert_same_tree

pytestmark = pytest.mark.slow

DAY = 24 * 3600
FREEZES = {"ID": "cold", "Status": "Enabled", "Filter": {"Prefix": ""}}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture
def server(cloud: Cloud, tmp_path: Path) -> Iterator[Server]:
    made = cloud.server(tmp_path, vault=bucket_of(tmp_path), clock=HurryingClock(cloud.emulator), kind="s3")
    made.init()
    yield made
    cloud.emulator.set_faults([])


def bucket_of(tmp_path: Path) -> str:
    return "b" + "".join(letter for letter in tmp_path.name.lower() if letter.isalnum())[-60:]


def admin(cloud: Cloud) -> Any:
    """Somebody who may do everything in the account."""
    with cloud.accounts.open("a") as file:
        if "AKIAADMIN" not in cloud.accounts.read_text():
            file.write('[[account.key]]\naccess_key_id = "AKIAADMIN"\nsecret_access_key = "secret"\n')
    where = {"endpoint_url": cloud.emulator.s3_url, "region_name": REGION}
    return boto3.client("s3", aws_access_key_id="AKIAADMIN", aws_secret_access_key="secret", **where)


def empty(s3: Any, bucket: str) -> None:
    """Delete what `init` left there to know the bucket by."""
    for line in s3.list_objects_v2(Bucket=bucket)["Contents"]:
        s3.delete_object(Bucket=bucket, Key=line["Key"])


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("AccessDenied", "compare the role's policy with `nightvault aws policy`"),
        ("RequestTimeTooSkewed", "set this machine's clock"),
        ("ExpiredToken", "the temporary keys ran out"),
    ],
)
def test_denied_and_a_wrong_clock(
    server: Server, cloud: Cloud, tmp_path: Path, operation: str, code: str, told: str
) -> None:
    status = 400 if code == "ExpiredToken" else 403
    fault = {"operation": f"s3:{operation}", "code": code, "status": status, "count": 1000}
    cloud.emulator.set_faults([fault])
    said = server.fails(14, "backup")
    assert code in said
    assert told in said
    assert bucket_of(tmp_path) in said
    assert len(said.splitlines()[-2]) < 300, "a sentence, not a page"
    cloud.emulator.set_faults([])
    assert_well(server, tmp_path / "out")


def test_refused_without_a_reason(server: Server, cloud: Cloud) -> None:
    """S3 says nothing but 403 to a HEAD."""
    cloud.emulator.set_faults([{"operation": "s3:HeadBucket", "code": "AccessDenied", "count": 1000}])
    said = server.fails(14, "init", "--non-interactive")
    assert "S3 gives no reason here" in said
    assert "this machine's clock" in said
    assert "S3 gives no reason here" in server.done("config", "check").stderr


def test_another_region(server: Server, tmp_path: Path) -> None:
    good = server.config.read_text()
    replace(server, f'kind = "s3"\nregion = "{REGION}"', 'kind = "s3"\nregion = "us-west-2"')
    for words in (["backup"], ["init", "--non-interactive"]):
        said = server.fails(1, *words)
        assert f"bucket {bucket_of(tmp_path)} is in {REGION}, not in us-west-2" in said
        assert f'set region = "{REGION}"' in said
    assert f'set region = "{REGION}"' in server.done("config", "check").stderr
    server.config.write_text(good)
    assert_well(server, tmp_path / "out")


def test_no_such_bucket(server: Server, cloud: Cloud, tmp_path: Path) -> None:
    empty(admin(cloud), bucket_of(tmp_path))
    admin(cloud).delete_bucket(Bucket=bucket_of(tmp_path))
    said = server.fails(1, "backup")
    assert f"vault cold is not there: s3://{bucket_of(tmp_path)}/" in said
    assert "`nightvault init` makes it" in said
    assert f"there is no bucket {bucket_of(tmp_path)} yet" in server.done("config", "check").stderr
    lost = server.state.rename(tmp_path / "lost")
    assert "if it was here and is lost, do not run `nightvault init`: " in server.fails(10, "backup")
    said = server.fails(1, "rebuild", "--key", server.key_file)
    assert f"there is no bucket {bucket_of(tmp_path)}" in said
    assert "check the bucket's name" in said
    assert "init" not in said
    assert not (server.state / "rebuild").exists()
    shutil.rmtree(server.state)
    lost.rename(server.state)
    server.done("init")
    assert_well(server, tmp_path / "out")


STRANGER = "999999999999"


def of_a_stranger(cloud: Cloud, bucket: str) -> Any:
    """Another account takes a bucket's name that is free, and lets everybody in; its client."""
    key = StaticKey("AKIASTRANGER", "their-secret")
    with cloud.accounts.open("a") as file:
        file.write(
            f'[[account]]\nid = "{STRANGER}"\n[[account.key]]\naccess_key_id = "{key.access_key_id}"\n'
        )
        file.write(f'secret_access_key = "{key.secret_access_key}"\n')
    s3 = client(cloud.emulator.s3_url, key.access_key_id, key.secret_access_key)
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.delete_public_access_block(Bucket=bucket)
    arn = f"arn:aws:s3:::{bucket}"
    everybody = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": [arn, f"{arn}/*"]}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": [everybody]}))
    return s3


def test_a_bucket_whose_name_a_stranger_took_gets_nothing(
    server: Server, cloud: Cloud, tmp_path: Path
) -> None:
    """A deleted bucket's name is free: nothing is stored, asked for or deleted in the new one."""
    server.backup()
    name = bucket_of(tmp_path)
    empty(admin(cloud), name)
    admin(cloud).delete_bucket(Bucket=name)
    theirs = of_a_stranger(cloud, name)
    told = f"bucket {name} seems to belong to another account than {ACCOUNT_ID}"
    for words in (["backup"], ["init", "--non-interactive"], ["check"], ["prune"]):
        assert told in " ".join(server.fails(14, *words).split()), words
    assert told in " ".join(server.done("config", "check").stderr.split())
    assert "Contents" not in theirs.list_objects_v2(Bucket=name)
    replace(server, 'kind = "s3"\n', f'kind = "s3"\naccount_id = "{STRANGER}"\n')
    assert "is another one than before" in server.fails(1, "init", "--non-interactive")
    assert "Contents" not in theirs.list_objects_v2(Bucket=name)


def test_a_class_that_the_service_does_not_have(server: Server, tmp_path: Path) -> None:
    replace(server, '"GLACIER"', '"GLACEIR"')
    said = server.fails(1, "backup")
    assert "InvalidStorageClass" in said
    assert "set storage_class (and catalog_class) to one that it has" in said
    replace(server, '"GLACEIR"', '"GLACIER"')
    assert_well(server, tmp_path / "out")


def test_a_class_that_the_bucket_does_not_want(server: Server, cloud: Cloud, tmp_path: Path) -> None:
    policy = server.json("aws", "policy", "--only", "bucket")
    plain_http = [statement for statement in policy["Statement"] if statement["Sid"] != "NothingInTheClear"]
    s3 = admin(cloud)
    policy["Statement"] = plain_http
    s3.put_bucket_policy(Bucket=bucket_of(tmp_path), Policy=json.dumps(policy))
    replace(server, '"GLACIER"', '"DEEP_ARCHIVE"')
    said = server.fails(14, "backup")
    assert "the bucket's own policy forbids it" in said
    assert "storage_class" in said
    replace(server, '"DEEP_ARCHIVE"', '"GLACIER"')
    assert_well(server, tmp_path / "out")


def test_a_lifecycle_that_freezes_catalogs(server: Server, cloud: Cloud, tmp_path: Path) -> None:
    server.backup()
    rule = {**FREEZES, "Transitions": [{"Days": 1, "StorageClass": "GLACIER"}]}
    admin(cloud).put_bucket_lifecycle_configuration(
        Bucket=bucket_of(tmp_path),
        LifecycleConfiguration={"Rules": [rule]},
        TransitionDefaultMinimumObjectSize="varies_by_storage_class",
    )
    warned = server.done("config", "check").stderr
    assert "lifecycle rule cold freezes meta/, which must stay readable: limit it to data/" in warned
    cloud.emulator.advance(3 * DAY)
    shutil.move(server.state, tmp_path / "lost")
    waits = server.waits("rebuild", "--key", server.key_file)
    assert "catalogs, which something has frozen: `nightvault config check` names it" in waits.stdout
    server.done("rebuild", "--key", server.key_file, "--wait")
    assert_same_tree(server.restore(tmp_path / "out"), server.source)


def test_a_rebuild_from_readable_catalogs_waits_for_nothing(server: Server, tmp_path: Path) -> None:
    server.backup()
    shutil.move(server.state, tmp_path / "lost")
    report = server.json("rebuild", "--key", server.key_file)
    assert (report["state"], report["unconfirmed"]) == ("done", 0)
    assert_same_tree(server.restore(tmp_path / "out"), server.source)
