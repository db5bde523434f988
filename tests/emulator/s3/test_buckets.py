"""Buckets, their documents, two accounts apart, and policies that hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import Struct

from tests.support.emulated import ACCOUNT_ID, RunningEmulator, StaticKey, write_accounts
from tests.support.s3_clients import S3Talker, client, error_of, new_bucket, new_bucket_name, refused

OTHER = "999999999999"
OTHER_KEY = StaticKey("AKIAOTHEROTHEROTHER0", "other-secret")


class Two(Struct, frozen=True):
    """Clients of two accounts on one emulator."""

    ours: Any
    theirs: Any


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    folder = tmp_path_factory.mktemp("accounts")
    accounts = write_accounts(folder / "accounts.toml", others={OTHER: OTHER_KEY})
    with RunningEmulator(folder / "state", accounts) as running:
        theirs = client(running.s3_url, OTHER_KEY.access_key_id, OTHER_KEY.secret_access_key)
        yield Two(client(running.s3_url), theirs)


def test_the_life_of_a_bucket(s3: Any, emulator: RunningEmulator) -> None:
    name = new_bucket(s3)
    head = s3.head_bucket(Bucket=name)
    assert head["BucketRegion"] == "eu-central-1"
    assert s3.get_bucket_location(Bucket=name)["LocationConstraint"] == "eu-central-1"
    assert client(emulator.s3_url, region="us-east-1").get_bucket_location(Bucket=name)
    assert name in [entry["Name"] for entry in s3.list_buckets()["Buckets"]]
    again = {"LocationConstraint": "eu-central-1"}
    assert refused(s3.create_bucket, Bucket=name, CreateBucketConfiguration=again) == (
        *(409, "BucketAlreadyOwnedByYou"),
    )
    s3.put_object(Bucket=name, Key="k", Body=b"")
    assert refused(s3.delete_bucket, Bucket=name) == (409, "BucketNotEmpty")
    s3.delete_object(Bucket=name, Key="k")
    s3.delete_bucket(Bucket=name)
    assert refused(s3.head_bucket, Bucket=name) == (404, "404")
    assert refused(s3.list_objects_v2, Bucket=name) == (404, "NoSuchBucket")


def test_where_buckets_may_be_made(s3: Any, raw: S3Talker, emulator: RunningEmulator) -> None:
    assert refused(s3.create_bucket, Bucket=new_bucket_name()) == (400, "IllegalLocationConstraintException")
    east = client(emulator.s3_url, region="us-east-1")
    name = new_bucket_name()
    east.create_bucket(Bucket=name)
    assert east.get_bucket_location(Bucket=name)["LocationConstraint"] is None
    for wrong in ("Big_Name", "192.168.0.1", "a..b", "xn--x"):
        assert error_of(raw.ask("PUT", f"/{wrong}")) == (400, "InvalidBucketName")


def test_two_accounts_stay_apart(two: Two) -> None:
    name = new_bucket(two.ours)
    two.ours.put_object(Bucket=name, Key="k", Body=b"ours")
    assert refused(two.theirs.get_object, Bucket=name, Key="k") == (403, "AccessDenied")
    assert refused(two.theirs.put_object, Bucket=name, Key="k", Body=b"") == (403, "AccessDenied")
    where = {"LocationConstraint": "eu-central-1"}
    assert refused(two.theirs.create_bucket, Bucket=name, CreateBucketConfiguration=where) == (
        *(409, "BucketAlreadyExists"),
    )
    assert name not in [entry["Name"] for entry in two.theirs.list_buckets()["Buckets"]]
    wrong = {"Bucket": name, "Key": "k", "ExpectedBucketOwner": OTHER}
    assert refused(two.ours.get_object, **wrong) == (403, "AccessDenied")
    policy(two.ours, name, Effect="Allow", Principal={"AWS": OTHER}, Action="s3:GetObject", Resource="/*")
    assert two.theirs.get_object(Bucket=name, Key="k")["Body"].read() == b"ours"
    assert refused(two.theirs.get_object, Bucket=name, Key="none") == (403, "AccessDenied")
    assert refused(two.ours.get_object, Bucket=name, Key="none") == (404, "NoSuchKey")


def policy(s3: Any, bucket: str, **statement: Any) -> None:
    statement["Resource"] = f"arn:aws:s3:::{bucket}{statement['Resource']}"
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    s3.put_bucket_policy(Bucket=bucket, Policy=document)
    assert s3.get_bucket_policy(Bucket=bucket)["Policy"] == document


def test_a_policy_on_the_class_holds_for_parts_too(s3: Any, bucket: str) -> None:
    only = {"StringNotEquals": {"s3:x-amz-storage-class": "DEEP_ARCHIVE"}}
    policy(
        s3, bucket, Effect="Deny", Principal="*", Action="s3:PutObject", Resource="/data/*", Condition=only
    )
    assert refused(s3.put_object, Bucket=bucket, Key="data/k", Body=b"") == (403, "AccessDenied")
    s3.put_object(Bucket=bucket, Key="meta/k", Body=b"")
    s3.put_object(Bucket=bucket, Key="data/k", Body=b"", StorageClass="DEEP_ARCHIVE")
    assert refused(s3.create_multipart_upload, Bucket=bucket, Key="data/m") == (403, "AccessDenied")
    where = {"Bucket": bucket, "Key": "data/m"}
    where["UploadId"] = s3.create_multipart_upload(**where, StorageClass="DEEP_ARCHIVE")["UploadId"]
    part = s3.upload_part(**where, PartNumber=1, Body=b"x")
    parts = [{"PartNumber": 1, "ETag": part["ETag"], "ChecksumCRC32": part["ChecksumCRC32"]}]
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})


def test_a_policy_that_denies_deletion_denies_key_by_key(s3: Any, bucket: str) -> None:
    for key in ("keep/a", "b"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    policy(s3, bucket, Effect="Deny", Principal="*", Action="s3:DeleteObject", Resource="/keep/*")
    wanted = {"Objects": [{"Key": "keep/a"}, {"Key": "b"}]}
    done = s3.delete_objects(Bucket=bucket, Delete=wanted)
    assert [entry["Key"] for entry in done["Deleted"]] == ["b"]
    assert [(entry["Key"], entry["Code"]) for entry in done["Errors"]] == [("keep/a", "AccessDenied")]
    policy(s3, bucket, Effect="Deny", Principal="*", Action="s3:*", Resource="")
    assert refused(s3.list_objects_v2, Bucket=bucket) == (403, "AccessDenied")
    s3.delete_bucket_policy(Bucket=bucket)
    s3.list_objects_v2(Bucket=bucket)


def test_documents_are_kept(s3: Any, bucket: str) -> None:
    block = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert set(block.values()) == {True}
    s3.delete_public_access_block(Bucket=bucket)
    assert refused(s3.get_public_access_block, Bucket=bucket)[0] == 404
    owned = s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"]
    assert owned == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == [{"Key": "a", "Value": "b"}]
    assert s3.get_bucket_acl(Bucket=bucket)["Grants"][0]["Permission"] == "FULL_CONTROL"
    assert s3.get_bucket_encryption(Bucket=bucket)
    cors = {"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]}
    assert refused(s3.put_bucket_cors, Bucket=bucket, CORSConfiguration=cors) == (501, "NotImplemented")
    assert refused(s3.put_bucket_policy, Bucket=bucket, Policy="{}") == (400, "MalformedPolicy")
    assert ACCOUNT_ID in s3.list_buckets()["Owner"]["ID"]
