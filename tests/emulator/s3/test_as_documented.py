"""What AWS's documents say of copies, policies, lifecycle rules, names and tokens, and was not so here."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from typing import Any

import pytest
from awscrt import checksums as crt

from backup.emulator.s3.request.receive import NEED_A_DIGEST
from tests.support.emulated import ACCOUNT_ID, RunningEmulator, StaticKey, write_accounts
from tests.support.s3_clients import (
    DOCUMENTS,
    MIB,
    S3Talker,
    client,
    error_of,
    new_bucket,
    new_bucket_name,
    refused,
)

OTHER = "999999999999"
OTHER_KEY = StaticKey("AKIAOTHEROTHEROTHER0", "other-secret")
FIRST, SECOND = b"a" * (5 * MIB), b"b" * 100
WHOLE = FIRST + SECOND


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    """Our client of an emulator with two accounts, and the other's."""
    folder = tmp_path_factory.mktemp("accounts")
    accounts = write_accounts(folder / "accounts.toml", others={OTHER: OTHER_KEY})
    with RunningEmulator(folder / "state", accounts) as running:
        yield (
            client(running.s3_url),
            client(running.s3_url, OTHER_KEY.access_key_id, OTHER_KEY.secret_access_key),
        )


# Copies.


def uploaded_in_parts(s3: Any, bucket: str, **how: Any) -> dict[str, str]:
    where = {"Bucket": bucket, "Key": "parts"}
    where["UploadId"] = s3.create_multipart_upload(**where, **how)["UploadId"]
    parts = []
    for number, data in enumerate((FIRST, SECOND), 1):
        made = s3.upload_part(**where, PartNumber=number, Body=data, **how)
        sums = {name: made[name] for name in made if name.startswith("Checksum")}
        parts.append({"PartNumber": number, "ETag": made["ETag"], **sums})
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    return {"Bucket": bucket, "Key": "parts"}


@pytest.mark.parametrize("how", [{}, {"ChecksumAlgorithm": "SHA256"}, {"ChecksumAlgorithm": "CRC32C"}])
def test_a_copy_of_an_object_in_parts_is_one_whole(s3: Any, bucket: str, how: dict[str, str]) -> None:
    """It kept the ETag `…-2`, the composite checksum and the number of parts, in place as well."""
    source = uploaded_in_parts(s3, bucket, **how)
    assert s3.head_object(**source, PartNumber=1)["PartsCount"] == 2
    for key in ("copy", "parts"):
        made = s3.copy_object(Bucket=bucket, Key=key, CopySource=source, StorageClass="STANDARD_IA")
        etag = f'"{hashlib.md5(WHOLE).hexdigest()}"'
        head = s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        assert (made["CopyObjectResult"]["ETag"], head["ETag"]) == (etag, etag)
        assert head["ChecksumType"] == made["CopyObjectResult"]["ChecksumType"] == "FULL_OBJECT"
        name = f"Checksum{how.get('ChecksumAlgorithm', 'CRC64NVME')}"
        value = {
            "ChecksumSHA256": hashlib.sha256(WHOLE).digest(),
            "ChecksumCRC32C": crt.crc32c(WHOLE).to_bytes(4, "big"),
            "ChecksumCRC64NVME": crt.crc64nvme(WHOLE).to_bytes(8, "big"),
        }[name]
        assert head[name] == made["CopyObjectResult"][name] == base64.b64encode(value).decode()
        part = s3.head_object(Bucket=bucket, Key=key, PartNumber=1)
        assert (part["ContentLength"], "PartsCount" in part) == (len(WHOLE), False)
        assert refused(s3.get_object, Bucket=bucket, Key=key, PartNumber=2) == (416, "InvalidPartNumber")
        wanted = s3.get_object_attributes(Bucket=bucket, Key=key, ObjectAttributes=["ETag", "ObjectParts"])
        assert "ObjectParts" not in wanted
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == WHOLE


def test_the_checksum_of_a_copy_is_by_the_algorithm_that_is_asked_for(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"data", ChecksumAlgorithm="CRC32")
    how = {"Bucket": bucket, "Key": "copy", "CopySource": f"{bucket}/k"}
    assert "ChecksumCRC32" in s3.copy_object(**how)["CopyObjectResult"]
    made = s3.copy_object(**how, ChecksumAlgorithm="SHA256")["CopyObjectResult"]
    assert made["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(b"data").digest()).decode()
    assert "ChecksumCRC32" not in s3.head_object(Bucket=bucket, Key="copy", ChecksumMode="ENABLED")
    assert refused(s3.copy_object, **how, ChecksumAlgorithm="NOPE")[0] == 400


BEFORE = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)
AFTER = format_datetime(datetime(2999, 1, 1, tzinfo=UTC), usegmt=True)  # other tests advance the shared clock
SOURCE = "x-amz-copy-source-if-"
RIGHT, WRONG = f'"{hashlib.md5(b"data").hexdigest()}"', '"00000000000000000000000000000000"'


@pytest.mark.parametrize(
    ("conditions", "status"),
    [
        ({"modified-since": BEFORE}, 200),
        ({"modified-since": AFTER}, 412),
        ({"unmodified-since": AFTER}, 200),
        ({"unmodified-since": BEFORE}, 412),
        ({"match": RIGHT, "unmodified-since": BEFORE}, 200),
        ({"match": WRONG, "unmodified-since": AFTER}, 412),
        ({"none-match": RIGHT, "modified-since": BEFORE}, 412),
        ({"none-match": WRONG, "modified-since": AFTER}, 200),
        ({"modified-since": "yesterday"}, 400),
        ({"unmodified-since": "2026"}, 400),
    ],
)
@pytest.mark.parametrize("is_part", [False, True])
def test_conditions_of_a_copy_by_date(
    s3: Any, raw: S3Talker, bucket: str, conditions: dict[str, str], status: int, *, is_part: bool
) -> None:
    """The two pairs are those of the API reference: an ETag decides alone."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"data")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="copy")["UploadId"] if is_part else ""
    headers = {
        "x-amz-copy-source": f"/{bucket}/k",
        **{SOURCE + name: condition for name, condition in conditions.items()},
    }
    query = f"partNumber=1&uploadId={upload}" if is_part else ""
    assert raw.ask("PUT", f"/{bucket}/copy", headers=headers, query=query).status == status


def test_the_owner_of_a_copys_source_is_compared(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"data")
    how = {"Bucket": bucket, "Key": "copy", "CopySource": f"{bucket}/k"}
    s3.copy_object(**how, ExpectedSourceBucketOwner=ACCOUNT_ID)
    assert refused(s3.copy_object, **how, ExpectedSourceBucketOwner=OTHER) == (403, "AccessDenied")
    part = {**how, "UploadId": s3.create_multipart_upload(Bucket=bucket, Key="copy")["UploadId"]}
    s3.upload_part_copy(**part, PartNumber=1, ExpectedSourceBucketOwner=ACCOUNT_ID)
    denied = refused(s3.upload_part_copy, **part, PartNumber=1, ExpectedSourceBucketOwner=OTHER)
    assert denied == (403, "AccessDenied")


# Public access.


def allowing(bucket: str, principal: object, **condition: Any) -> str:
    arn = f"arn:aws:s3:::{bucket}"
    statement = {"Effect": "Allow", "Principal": principal, "Action": "s3:*", "Resource": [arn, f"{arn}/*"]}
    return json.dumps({"Statement": [{**statement, "Condition": condition} if condition else statement]})


def blocked(**settings: bool) -> dict[str, bool]:
    names = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    return {name: settings.get(name, False) for name in names}


def test_a_public_policy_is_refused_while_the_block_is_on(s3: Any, bucket: str) -> None:
    """It is on in each new bucket."""
    everybody = {"Bucket": bucket, "Policy": allowing(bucket, "*")}
    assert refused(s3.put_bucket_policy, **everybody) == (403, "AccessDenied")
    with pytest.raises(s3.exceptions.ClientError, match="prevented by the BlockPublicPolicy setting"):
        s3.put_bucket_policy(**everybody)
    only = {"Bucket": bucket, "PublicAccessBlockConfiguration": blocked(BlockPublicPolicy=True)}
    s3.put_public_access_block(**only)
    assert refused(s3.put_bucket_policy, **everybody) == (403, "AccessDenied")
    only["PublicAccessBlockConfiguration"] = blocked(RestrictPublicBuckets=True, BlockPublicAcls=True)
    s3.put_public_access_block(**only)
    s3.put_bucket_policy(**everybody)
    s3.delete_bucket_policy(Bucket=bucket)
    s3.delete_public_access_block(Bucket=bucket)
    s3.put_bucket_policy(**everybody)


@pytest.mark.parametrize(
    ("condition", "is_public"),
    [
        ({}, True),
        ({"StringEquals": {"aws:SourceAccount": "111122223333"}}, False),
        ({"StringEquals": {"aws:PrincipalOrgID": ["o-1", "o-2"]}}, False),
        ({"StringLike": {"aws:SourceArn": "arn:aws:s3:::*"}}, True),
        ({"StringNotEquals": {"aws:SourceAccount": "111122223333"}}, True),
        ({"StringEqualsIfExists": {"aws:SourceAccount": "111122223333"}}, True),
        ({"StringEquals": {"s3:prefix": "a/"}}, True),
        ({"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}, False),
        ({"IpAddress": {"aws:SourceIp": "0.0.0.0/1"}}, True),
        ({"IpAddress": {"aws:SourceIp": ["203.0.113.7", "0.0.0.0/0"]}}, True),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, False),
        ({"IpAddress": {"aws:SourceIp": "2000::/16"}}, True),
        ({"Bool": {"aws:SecureTransport": "true"}}, True),
    ],
)
def test_what_is_public(s3: Any, bucket: str, condition: dict[str, Any], *, is_public: bool) -> None:
    """The User Guide's words: public, unless fixed values say whom it lets in."""
    policy = {"Bucket": bucket, "Policy": allowing(bucket, {"AWS": "*"}, **condition)}
    if is_public:
        assert refused(s3.put_bucket_policy, **policy) == (403, "AccessDenied")
        s3.delete_public_access_block(Bucket=bucket)
    s3.put_bucket_policy(**policy)
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"] == is_public


def test_restrict_public_buckets_keeps_other_accounts_out(theirs: tuple[Any, Any]) -> None:
    ours, other = theirs
    bucket = new_bucket(ours)
    ours.put_object(Bucket=bucket, Key="k", Body=b"")
    ours.put_public_access_block(
        Bucket=bucket, PublicAccessBlockConfiguration=blocked(RestrictPublicBuckets=True)
    )
    ours.put_bucket_policy(Bucket=bucket, Policy=allowing(bucket, "*"))
    assert refused(other.get_object, Bucket=bucket, Key="k") == (403, "AccessDenied")
    assert ours.get_object(Bucket=bucket, Key="k")
    ours.put_bucket_policy(Bucket=bucket, Policy=allowing(bucket, {"AWS": OTHER}))
    assert other.get_object(Bucket=bucket, Key="k"), "a policy that names accounts is not public"
    ours.put_bucket_policy(Bucket=bucket, Policy=allowing(bucket, "*"))
    ours.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=blocked())
    assert other.get_object(Bucket=bucket, Key="k")


# Bodies.


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_body_needs_a_digest(raw: S3Talker, bucket: str, kind: str) -> None:
    body = DOCUMENTS[kind].encode()
    asked = partial(raw.ask, "PUT", f"/{bucket}", body, query=f"{kind}=")
    reply = asked()
    assert error_of(reply) == (400, "InvalidRequest")
    assert b"Missing required header for this request: Content-MD5" in reply.body
    right = base64.b64encode(hashlib.md5(body).digest()).decode()
    assert asked(headers={"content-md5": right}).status in (200, 204)
    crc = base64.b64encode(crt.crc32(body).to_bytes(4, "big")).decode()
    assert asked(headers={"x-amz-checksum-crc32": crc}).status in (200, 204)


def test_a_policy_needs_none(raw: S3Talker, bucket: str) -> None:
    """minio-go sends none, and AWS takes it."""
    policy = allowing(bucket, {"AWS": OTHER}).encode()
    assert raw.ask("PUT", f"/{bucket}", policy, query="policy=").status == 204
    assert "PutBucketPolicy" not in NEED_A_DIGEST


def test_conditions_of_a_deletion_that_are_not_known_delete_nothing(
    s3: Any, raw: S3Talker, bucket: str
) -> None:
    """The object went although the condition was false."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"data")
    for condition in ({"Size": 99}, {"LastModifiedTime": datetime(2020, 1, 1, tzinfo=UTC)}):
        wanted = {"Objects": [{"Key": "other"}, {"Key": "k", **condition}]}
        assert refused(s3.delete_objects, Bucket=bucket, Delete=wanted) == (501, "NotImplemented")
    for name, value in (("size", "99"), ("last-modified-time", BEFORE)):
        reply = raw.ask("DELETE", f"/{bucket}/k", headers={f"x-amz-if-match-{name}": value})
        assert error_of(reply) == (501, "NotImplemented")
    assert s3.head_object(Bucket=bucket, Key="k")


# Lifecycle rules.

RULE = {"ID": "a", "Status": "Enabled", "Filter": {"Prefix": ""}}
MIDNIGHT, LATER = datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 1, 2, tzinfo=UTC)


def moves(storage_class: str, **when: Any) -> dict[str, Any]:
    return {"StorageClass": storage_class, **when}


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ([{**RULE, "Expiration": {"Days": 9}}] * 2, "InvalidArgument"),
        ([{**RULE, "ID": "x" * 256, "Expiration": {"Days": 9}}], "InvalidArgument"),
        ([{**RULE, "Transitions": [moves("GLACIER", Days=9)], "Expiration": {"Days": 9}}], "InvalidArgument"),
        (
            [{**RULE, "Transitions": [moves("GLACIER", Date=LATER)], "Expiration": {"Date": LATER}}],
            "InvalidArgument",
        ),
        ([{**RULE, "Transitions": [moves("GLACIER", Days=n) for n in (1, 2)]}], "InvalidRequest"),
        ([{**RULE, "Expiration": {"Date": MIDNIGHT + timedelta(hours=1)}}], "InvalidArgument"),
        ([{**RULE, "Transitions": [moves("GLACIER", Date=LATER + timedelta(seconds=1))]}], "InvalidArgument"),
        (
            [{**RULE, "Transitions": [moves("GLACIER", Days=1)], "Expiration": {"Date": LATER}}],
            "InvalidRequest",
        ),
    ],
)
def test_lifecycle_rules_that_aws_refuses(s3: Any, bucket: str, rules: list[Any], code: str) -> None:
    how = {"Bucket": bucket, "LifecycleConfiguration": {"Rules": rules}}
    assert refused(s3.put_bucket_lifecycle_configuration, **how) == (400, code)
    assert refused(s3.get_bucket_lifecycle_configuration, Bucket=bucket)[0] == 404


def test_lifecycle_rules_that_aws_takes(s3: Any, bucket: str) -> None:
    rules = [
        {**RULE, "ID": "x" * 255, "Transitions": [moves("GLACIER", Days=8)], "Expiration": {"Days": 9}},
        {**RULE, "ID": "b", "Transitions": [moves("GLACIER", Date=MIDNIGHT)], "Expiration": {"Date": LATER}},
        {**RULE, "ID": "c", "Transitions": [moves("GLACIER", Days=8), moves("DEEP_ARCHIVE", Days=98)]},
    ]
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})
    assert len(s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]) == 3


# Names and tokens.


@pytest.mark.parametrize(
    "name",
    [
        *("sthree-bucket", "amzn-s3-demo-bucket", "bucket-s3alias", "bucket--ol-s3", "bucket.mrap"),
        *("bucket--x-s3", "bucket--table-s3"),
    ],
)
def test_reserved_names(raw: S3Talker, name: str) -> None:
    assert error_of(raw.ask("PUT", f"/{name}")) == (400, "InvalidBucketName")


def test_tokens_that_were_never_given(s3: Any, bucket: str) -> None:
    for key in ("a", "b"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    given = s3.list_objects_v2(Bucket=bucket, MaxKeys=1)["NextContinuationToken"]
    follows = s3.list_objects_v2(Bucket=bucket, ContinuationToken=given)["Contents"]
    assert [follow["Key"] for follow in follows] == ["b"]
    of_buckets = s3.list_buckets(MaxBuckets=1)["ContinuationToken"]
    assert s3.list_buckets(MaxBuckets=1, ContinuationToken=of_buckets)["Buckets"]
    made_up = ["nonsense", "aWrongToken2", base64.b64encode(b"a").decode(), "=", of_buckets]
    for token in made_up:
        refusal = refused(s3.list_objects_v2, Bucket=bucket, ContinuationToken=token)
        assert refusal == (400, "InvalidArgument"), token
    for token in (*made_up[:-1], given, bucket):
        assert refused(s3.list_buckets, ContinuationToken=token) == (400, "InvalidArgument"), token


def test_buckets_of_a_region(s3: Any, emulator: RunningEmulator) -> None:
    east = new_bucket_name()
    client(emulator.s3_url, region="us-east-1").create_bucket(Bucket=east)
    west = new_bucket(s3)
    names = {bucket["Name"] for bucket in s3.list_buckets(BucketRegion="us-east-1")["Buckets"]}
    assert east in names
    assert west not in names
