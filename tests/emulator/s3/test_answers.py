"""Answers that real clients ask for before anything else: versions, settings that nobody made, ACLs."""

from __future__ import annotations

import urllib.request
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.support.emulated import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, RunningEmulator
from tests.support.s3_clients import S3Talker, client, code, error_of, new_bucket_name

KEYS = ("a/1", "a/2", "b", "c/1", "d e+f", "e", "\u00e9")
WHERE = {"CreateBucketConfiguration": {"LocationConstraint": REGION}}
FULL_CONTROL = [("CanonicalUser", "FULL_CONTROL")]


def refused(action: Any, **how: Any) -> tuple[int, str]:
    with pytest.raises(action.__self__.exceptions.ClientError) as error:
        action(**how)
    return code(error)


@pytest.fixture
def filled(s3: Any, bucket: str) -> str:
    """A bucket with an object for each key."""
    for key in KEYS:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode(), StorageClass="GLACIER_IR")
    return bucket


def test_versions_of_a_bucket_without_versions(s3: Any, filled: str) -> None:
    """ListObjectVersions is there."""
    s3.delete_object(Bucket=filled, Key="e")
    listed = s3.list_object_versions(Bucket=filled)
    assert [entry["Key"] for entry in listed["Versions"]] == [key for key in KEYS if key != "e"]
    assert {(entry["VersionId"], entry["IsLatest"]) for entry in listed["Versions"]} == {("null", True)}
    entry = listed["Versions"][0]
    head = s3.head_object(Bucket=filled, Key="a/1")
    assert (entry["ETag"], entry["Size"]) == (head["ETag"], head["ContentLength"])
    assert (entry["StorageClass"], entry["LastModified"]) == ("GLACIER_IR", head["LastModified"])
    assert "DeleteMarkers" not in listed
    assert (listed["IsTruncated"], listed["MaxKeys"]) == (False, 1000)
    assert s3.get_object(Bucket=filled, Key="a/1", VersionId=entry["VersionId"])["Body"].read() == b"a/1"


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize(("prefix", "delimiter"), [("", ""), ("", "/"), ("a/", ""), ("a/", "/"), ("", "/1")])
def test_versions_page_by_page(s3: Any, filled: str, size: int, prefix: str, delimiter: str) -> None:
    """The pages are those of ListObjectsV2, whatever their length."""
    how = {"Bucket": filled, "Prefix": prefix, "Delimiter": delimiter}
    wanted = s3.list_objects_v2(**how)
    pages = list(
        s3.get_paginator("list_object_versions").paginate(**how, PaginationConfig={"PageSize": size})
    )
    keys = [entry["Key"] for page in pages for entry in page.get("Versions", ())]
    assert keys == [entry["Key"] for entry in wanted.get("Contents", ())]
    prefixes = [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", ())]
    assert prefixes == [entry["Prefix"] for entry in wanted.get("CommonPrefixes", ())]
    for page in pages:
        count = len(page.get("Versions", ())) + len(page.get("CommonPrefixes", ()))
        assert count == size or not page["IsTruncated"]


def test_markers_of_versions(s3: Any, raw: S3Talker, filled: str) -> None:
    """KeyMarker alone or with VersionIdMarker, encoded names, and what is refused."""
    for marker in ({"KeyMarker": "b"}, {"KeyMarker": "b", "VersionIdMarker": "null"}):
        page = s3.list_object_versions(Bucket=filled, **marker, MaxKeys=1)
        assert [entry["Key"] for entry in page["Versions"]] == ["c/1"]
        assert (page["NextKeyMarker"], page["NextVersionIdMarker"]) == ("c/1", "null")
    page = s3.list_object_versions(Bucket=filled, Delimiter="/", MaxKeys=1)
    assert page["NextKeyMarker"] == "a/"
    assert "NextVersionIdMarker" not in page
    assert s3.list_object_versions(Bucket=filled, MaxKeys=0)["IsTruncated"] is False
    sent = raw.ask("GET", f"/{filled}", query="encoding-type=url&prefix=d&versions=")
    assert b"<Key>d%20e%2Bf</Key>" in sent.body
    assert refused(s3.list_object_versions, Bucket=filled, VersionIdMarker="null") == (400, "InvalidArgument")
    wrong = {"KeyMarker": "b", "VersionIdMarker": "other"}
    assert refused(s3.list_object_versions, Bucket=filled, **wrong) == (400, "InvalidArgument")


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        ("get_object_lock_configuration", "ObjectLockConfigurationNotFoundError"),
        ("get_bucket_cors", "NoSuchCORSConfiguration"),
        ("get_bucket_website", "NoSuchWebsiteConfiguration"),
        ("get_bucket_replication", "ReplicationConfigurationNotFoundError"),
        ("get_bucket_policy_status", "NoSuchBucketPolicy"),
        ("get_bucket_tagging", "NoSuchTagSet"),
        ("get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration"),
    ],
)
def test_a_setting_that_nobody_made(s3: Any, bucket: str, ask: str, answer: str) -> None:
    """Clients would take NotImplemented for a failure."""
    assert refused(getattr(s3, ask), Bucket=bucket) == (404, answer)


def test_settings_that_are_empty(s3: Any, bucket: str) -> None:
    """Logging, notifications and lists of configurations are there, with nothing in them."""
    assert "LoggingEnabled" not in s3.get_bucket_logging(Bucket=bucket)
    assert set(s3.get_bucket_notification_configuration(Bucket=bucket)) == {"ResponseMetadata"}
    assert "Status" not in s3.get_bucket_accelerate_configuration(Bucket=bucket)
    assert s3.get_bucket_request_payment(Bucket=bucket)["Payer"] == "BucketOwner"
    for kind in ("analytics", "intelligent_tiering", "inventory", "metrics"):
        listed = getattr(s3, f"list_bucket_{kind}_configurations")(Bucket=bucket)
        assert listed["IsTruncated"] is False
        one = getattr(s3, f"get_bucket_{kind}_configuration")
        assert refused(one, Bucket=bucket, Id="x") == (404, "NoSuchConfiguration")
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    for lock in (s3.get_object_retention, s3.get_object_legal_hold):
        assert refused(lock, Bucket=bucket, Key="k") == (400, "InvalidRequest")
        assert refused(lock, Bucket=bucket, Key="none") == (404, "NoSuchKey")
    for delete in (s3.delete_bucket_cors, s3.delete_bucket_website, s3.delete_bucket_replication):
        delete(Bucket=bucket)


def test_whether_a_policy_is_public(s3: Any, bucket: str) -> None:
    """GetBucketPolicyStatus; a new bucket would refuse the public one."""
    s3.delete_public_access_block(Bucket=bucket)
    for principal, public in (('"*"', True), ('{"AWS": "999999999999"}', False)):
        s3.put_bucket_policy(
            Bucket=bucket,
            Policy=f'{{"Statement": {{"Effect": "Allow", "Principal": {principal}, "Action": "s3:GetObject", '
            f'"Resource": "arn:aws:s3:::{bucket}/*"}}}}',
        )
        assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"] is public


def test_encryption_of_a_bucket(s3: Any, bucket: str) -> None:
    """AES256 can be set and taken back; nothing else is promised."""
    default = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]

    def rules(algorithm: str) -> dict[str, Any]:
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": algorithm}, "BucketKeyEnabled": True}
        return {"ServerSideEncryptionConfiguration": {"Rules": [rule]}}

    s3.put_bucket_encryption(Bucket=bucket, **rules("AES256"))
    kept = s3.get_bucket_encryption(Bucket=bucket)
    assert kept["ServerSideEncryptionConfiguration"] == rules("AES256")["ServerSideEncryptionConfiguration"]
    assert refused(s3.put_bucket_encryption, Bucket=bucket, **rules("aws:kms")) == (501, "NotImplemented")
    assert refused(s3.put_bucket_encryption, Bucket=bucket, **rules("ROT13")) == (400, "MalformedXML")
    s3.delete_bucket_encryption(Bucket=bucket)
    again = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert again == default
    assert s3.head_bucket(Bucket=bucket)


def test_acls_are_read_and_never_set(s3: Any, bucket: str) -> None:
    """As a bucket with owner enforced answers."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"kept", ACL="bucket-owner-full-control")
    for acl in (s3.get_bucket_acl(Bucket=bucket), s3.get_object_acl(Bucket=bucket, Key="k")):
        assert [(g["Grantee"]["Type"], g["Permission"]) for g in acl["Grants"]] == FULL_CONTROL
        assert acl["Grants"][0]["Grantee"]["ID"] == acl["Owner"]["ID"]
    not_supported = (400, "AccessControlListNotSupported")
    assert refused(s3.put_bucket_acl, Bucket=bucket, ACL="private") == not_supported
    assert refused(s3.put_object_acl, Bucket=bucket, Key="k", ACL="public-read") == not_supported
    assert refused(s3.put_object, Bucket=bucket, Key="k", ACL="public-read") == not_supported
    grant = {"GrantRead": 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'}
    assert refused(s3.put_object, Bucket=bucket, Key="k", **grant) == not_supported
    assert refused(s3.get_object_acl, Bucket=bucket, Key="none") == (404, "NoSuchKey")
    assert refused(s3.put_object_acl, Bucket=bucket, Key="none", ACL="private") == (404, "NoSuchKey")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"kept"


def test_a_bucket_is_not_made_public(s3: Any) -> None:
    """A public ACL is not taken silently where a bucket is made."""
    name = new_bucket_name()
    enforced = (400, "InvalidBucketAclWithObjectOwnership")
    for acl in ("public-read", "public-read-write", "authenticated-read"):
        assert refused(s3.create_bucket, Bucket=name, ACL=acl, **WHERE) == enforced
    assert refused(s3.create_bucket, Bucket=name, GrantRead="id=1", **WHERE) == enforced
    assert refused(
        s3.create_bucket, Bucket=name, ACL="public-read", ObjectOwnership="ObjectWriter", **WHERE
    ) == (400, "InvalidBucketAclWithBlockPublicAccessError")
    assert refused(s3.head_bucket, Bucket=name) == (404, "404")
    s3.create_bucket(Bucket=name, ACL="private", ObjectOwnership="BucketOwnerPreferred", **WHERE)
    owned = s3.get_bucket_ownership_controls(Bucket=name)["OwnershipControls"]["Rules"]
    assert owned == [{"ObjectOwnership": "BucketOwnerPreferred"}]


def test_signatures_of_version_2(emulator: RunningEmulator, bucket: str, raw: S3Talker) -> None:
    """The sentence that real S3 says to them, in the header and in the query."""
    sentence = "Please use AWS4-HMAC-SHA256."
    old = boto3.client(
        "s3",
        endpoint_url=emulator.s3_url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        config=Config(signature_version="s3", retries={"max_attempts": 0}, s3={"addressing_style": "path"}),
    )
    with pytest.raises(old.exceptions.ClientError, match=sentence) as error:
        old.list_objects_v2(Bucket=bucket)
    assert code(error) == (400, "InvalidRequest")
    url = old.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    assert "AWSAccessKeyId=" in url
    with pytest.raises(urllib.request.HTTPError) as failed:
        urllib.request.urlopen(url, timeout=10)
    assert (failed.value.code, sentence.encode() in failed.value.read()) == (400, True)


def test_unsigned_is_denied_still(emulator: RunningEmulator, bucket: str, raw: S3Talker) -> None:
    """No key at all is another matter."""
    from botocore import UNSIGNED

    anonymous = client(emulator.s3_url, signature_version=UNSIGNED)
    assert refused(anonymous.list_objects_v2, Bucket=bucket) == (403, "AccessDenied")
    assert error_of(raw.ask("GET", "/", query="acl=")) == (405, "MethodNotAllowed")
