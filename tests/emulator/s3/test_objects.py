"""Objects: checksums, conditions, ranges, classes, listings, copies."""

from __future__ import annotations

import hashlib
import os
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.emulated import RunningEmulator
from tests.support.emulator_clients import pattern
from tests.support.s3_clients import MIB, S3Talker, b64, client, code, error_of, new_bucket

CHECK = b"123456789"
VECTORS = {
    "CRC32": "y/Q5Jg==",
    "CRC32C": "4waSgw==",
    "CRC64NVME": b64(bytes.fromhex("ae8b14860a799888")),  # the catalogue's check value
    "SHA1": b64(hashlib.sha1(CHECK).digest()),
    "SHA256": b64(hashlib.sha256(CHECK).digest()),
}


@pytest.mark.parametrize("algorithm", VECTORS)
def test_checksums_are_verified_and_told(s3: Any, raw: S3Talker, bucket: str, algorithm: str) -> None:
    name = f"Checksum{algorithm}"
    put = s3.put_object(Bucket=bucket, Key="k", Body=CHECK, **{name: VECTORS[algorithm]})
    assert (put[name], put["ChecksumType"]) == (VECTORS[algorithm], "FULL_OBJECT")
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head[name] == VECTORS[algorithm]
    header = f"x-amz-checksum-{algorithm.lower()}"
    reply = raw.ask("PUT", f"/{bucket}/other", b"12345678", {header: VECTORS[algorithm]})
    assert error_of(reply) == (400, "BadDigest")


def test_without_a_checksum_s3_computes_crc64nvme(s3: Any, raw: S3Talker, bucket: str) -> None:
    reply = raw.ask("PUT", f"/{bucket}/k", CHECK)
    assert reply.headers["x-amz-checksum-crc64nvme"] == VECTORS["CRC64NVME"]
    assert reply.headers["etag"] == f'"{hashlib.md5(CHECK).hexdigest()}"'


def test_content_md5(raw: S3Talker, bucket: str) -> None:
    good = {"content-md5": b64(hashlib.md5(CHECK).digest())}
    assert raw.ask("PUT", f"/{bucket}/k", CHECK, good).status == 200
    assert error_of(raw.ask("PUT", f"/{bucket}/k", b"x", good)) == (400, "BadDigest")
    assert error_of(raw.ask("PUT", f"/{bucket}/k", b"x", {"content-md5": "x"})) == (400, "InvalidDigest")


def test_two_checksums_are_one_too_many(raw: S3Talker, bucket: str) -> None:
    two = {"x-amz-checksum-crc32": VECTORS["CRC32"], "x-amz-checksum-crc32c": VECTORS["CRC32C"]}
    assert error_of(raw.ask("PUT", f"/{bucket}/k", CHECK, two)) == (400, "InvalidRequest")


def test_nothing_is_overwritten_under_if_none_match(s3: Any, bucket: str) -> None:
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")
    with pytest.raises(s3.exceptions.ClientError) as error:
        s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfNoneMatch="*")
    assert code(error) == (412, "PreconditionFailed")
    s3.put_object(Bucket=bucket, Key="k", Body=b"3", IfMatch=first["ETag"])
    with pytest.raises(s3.exceptions.ClientError) as error:
        s3.put_object(Bucket=bucket, Key="k", Body=b"4", IfMatch=first["ETag"])
    assert code(error) == (412, "PreconditionFailed")
    with pytest.raises(s3.exceptions.ClientError) as error:
        s3.put_object(Bucket=bucket, Key="gone", Body=b"4", IfMatch=first["ETag"])
    assert code(error) == (404, "NoSuchKey")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"3"


def test_conditional_reads(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    later = datetime.now(UTC) + timedelta(days=900)
    for condition, status in (
        ({"IfNoneMatch": etag}, 304),
        ({"IfMatch": '"other"'}, 412),
        ({"IfModifiedSince": later}, 304),
        ({"IfUnmodifiedSince": datetime(2020, 1, 1, tzinfo=UTC)}, 412),
    ):
        with pytest.raises(s3.exceptions.ClientError) as error:
            s3.get_object(Bucket=bucket, Key="k", **condition)
        assert code(error)[0] == status
    assert s3.get_object(Bucket=bucket, Key="k", IfMatch=etag)["Body"].read() == b"1"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("bytes=0-0", (206, 0, 1)),
        ("bytes=10-", (206, 10, 1000)),
        ("bytes=-5", (206, 995, 1000)),
        ("bytes=900-5000", (206, 900, 1000)),
        ("bytes=5-1", (200, 0, 1000)),
        ("lines=1-2", (200, 0, 1000)),
    ],
)
def test_ranges(raw: S3Talker, bucket: str, text: str, wanted: tuple[int, int, int]) -> None:
    data = pattern(1000)
    raw.ask("PUT", f"/{bucket}/k", data)
    reply = raw.ask("GET", f"/{bucket}/k", headers={"range": text})
    status, first, end = wanted
    assert (reply.status, reply.body) == (status, data[first:end])
    if status == 206:
        assert reply.headers["content-range"] == f"bytes {first}-{end - 1}/1000"


def test_a_range_behind_the_end(raw: S3Talker, bucket: str) -> None:
    raw.ask("PUT", f"/{bucket}/k", b"x")
    reply = raw.ask("GET", f"/{bucket}/k", headers={"range": "bytes=1-"})
    assert error_of(reply) == (416, "InvalidRange")


def test_metadata_headers_and_class_come_back(s3: Any, bucket: str) -> None:
    s3.put_object(
        Bucket=bucket, Key="k", Body=b"x", Metadata={"sha": "1"}, StorageClass="GLACIER_IR",
        ContentType="text/plain", CacheControl="no-cache", Tagging="a=1&b=%20",
    )  # fmt: skip
    got = s3.get_object(Bucket=bucket, Key="k", ResponseContentType="text/html")
    assert (got["Metadata"], got["StorageClass"], got["ContentType"]) == (
        {"sha": "1"},
        "GLACIER_IR",
        "text/html",
    )
    assert (got["CacheControl"], got["TagCount"], got["Body"].read()) == ("no-cache", 2, b"x")
    tags = s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"]
    assert tags == [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": " "}]


def test_refused_before_the_body(s3: Any, raw: S3Talker, bucket: str) -> None:
    for headers, wanted in (
        ({"x-amz-storage-class": "ICE"}, (400, "InvalidStorageClass")),
        ({"x-amz-meta-x": "y" * 2100}, (400, "MetadataTooLarge")),
        ({"x-amz-acl": "public-read"}, (400, "AccessControlListNotSupported")),
        ({"x-amz-server-side-encryption": "aws:kms"}, (501, "NotImplemented")),
        ({"x-amz-object-lock-mode": "COMPLIANCE"}, (400, "InvalidRequest")),
        ({"x-amz-object-lock-event-hold": "ON"}, (501, "NotImplemented")),
    ):
        assert error_of(raw.ask("PUT", f"/{bucket}/k", b"x", headers)) == wanted
    assert error_of(raw.ask("PUT", f"/{bucket}/{'k' * 1025}", b"x")) == (400, "KeyTooLongError")
    assert error_of(raw.ask("PUT", "/no-such-bucket/k", b"x")) == (404, "NoSuchBucket")


def test_deleting(s3: Any, raw: S3Talker, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    with pytest.raises(s3.exceptions.ClientError) as error:
        s3.delete_object(Bucket=bucket, Key="k", IfMatch='"other"')
    assert code(error) == (412, "PreconditionFailed")
    s3.delete_object(Bucket=bucket, Key="k", IfMatch=etag)
    s3.delete_object(Bucket=bucket, Key="k")
    keys = [f"k{number}" for number in range(5)]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    done = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in [*keys, "none"]]})
    assert sorted(entry["Key"] for entry in done["Deleted"]) == [*keys, "none"]
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    bare = raw.ask("POST", f"/{bucket}", b"<Delete><Object><Key>k</Key></Object></Delete>", query="delete=")
    assert error_of(bare) == (400, "InvalidRequest")


@pytest.mark.parametrize(("count", "wanted"), [(0, 400), (1, 200), (1000, 200), (1001, 400)])
def test_a_thousand_keys_are_deleted_at_once(raw: S3Talker, bucket: str, count: int, wanted: int) -> None:
    keys = "".join(f"<Object><Key>{number}</Key></Object>" for number in range(count))
    body = f"<Delete><Quiet>true</Quiet>{keys}</Delete>".encode()
    digest = b64(hashlib.md5(body).digest())
    answer = raw.ask("POST", f"/{bucket}", body, {"content-md5": digest}, query="delete=")
    assert answer.status == wanted
    assert wanted == 200 or error_of(answer) == (400, "MalformedXML")
    assert b"<Deleted>" not in answer.body, "it was to be quiet"


def test_deletions_are_checked_before_they_are_believed(raw: S3Talker, bucket: str) -> None:
    body = b"<Delete><Object><Key>k</Key></Object></Delete>"
    digest = b64(hashlib.md5(b"other").digest())
    answer = raw.ask("POST", f"/{bucket}", body, {"content-md5": digest}, query="delete=")
    assert error_of(answer) == (400, "BadDigest")


def test_copies_change_the_class(s3: Any, bucket: str, emulator: RunningEmulator) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"data", Metadata={"x": "1"})
    source = {"Bucket": bucket, "Key": "a"}
    s3.copy_object(Bucket=bucket, Key="b", CopySource=source, StorageClass="GLACIER")
    s3.copy_object(Bucket=bucket, Key="a", CopySource=source, StorageClass="STANDARD_IA")
    assert s3.head_object(Bucket=bucket, Key="b")["StorageClass"] == "GLACIER"
    got = s3.get_object(Bucket=bucket, Key="a")
    assert (got["Body"].read(), got["Metadata"], got["StorageClass"]) == (b"data", {"x": "1"}, "STANDARD_IA")
    with pytest.raises(s3.exceptions.ClientError) as error:
        s3.copy_object(Bucket=bucket, Key="c", CopySource={"Bucket": bucket, "Key": "b"})
    assert code(error) == (403, "ObjectNotInActiveTierError")
    with pytest.raises(s3.exceptions.ClientError) as error:
        s3.copy_object(Bucket=bucket, Key="a", CopySource=source, StorageClass="STANDARD_IA")
    assert code(error) == (400, "InvalidRequest")


keys = st.text(alphabet="ab/é", min_size=1, max_size=6)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sets(keys, max_size=12), st.sampled_from(["", "a", "a/"]), st.sampled_from(["", "/", "é"]),
    st.integers(1, 5),
)  # fmt: skip
def test_every_page_together_is_the_listing(
    s3: Any, stored: set[str], prefix: str, delimiter: str, size: int
) -> None:
    bucket = new_bucket(s3)
    for key in stored:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    matching = sorted((key for key in stored if key.startswith(prefix)), key=str.encode)
    rolled: list[str] = []
    for key in matching:
        head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
        name = prefix + head + found if found else key
        if name not in rolled:
            rolled.append(name)
    for operation in ("list_objects_v2", "list_objects"):
        pages = s3.get_paginator(operation).paginate(
            Bucket=bucket, Prefix=prefix, Delimiter=delimiter, PaginationConfig={"PageSize": size}
        )
        seen: list[str] = []
        for page in pages:
            names = [entry["Key"] for entry in page.get("Contents", [])]
            names += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
            assert len(names) <= size
            seen += sorted(names, key=str.encode)
        assert seen == rolled


def test_a_key_with_control_characters_survives_a_listing(s3: Any, raw: S3Talker, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a\x01\r\n<&>", Body=b"")
    assert s3.list_objects_v2(Bucket=bucket)["Contents"][0]["Key"] == "a\x01\r\n<&>"
    assert b"<Key>a&#x1;&#xd;" in raw.ask("GET", f"/{bucket}").body


def test_attributes(s3: Any, bucket: str, emulator: RunningEmulator) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=CHECK, ChecksumAlgorithm="CRC64NVME", StorageClass="GLACIER")
    found = s3.get_object_attributes(
        Bucket=bucket,
        Key="k",
        ObjectAttributes=["ETag", "Checksum", "StorageClass", "ObjectSize", "ObjectParts"],
    )
    assert found["Checksum"] == {"ChecksumCRC64NVME": VECTORS["CRC64NVME"], "ChecksumType": "FULL_OBJECT"}
    assert (found["StorageClass"], found["ObjectSize"], "ObjectParts" in found) == ("GLACIER", 9, False)
    assert client(emulator.s3_url).get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []


@pytest.mark.parametrize("then", ["deleted", "replaced", "replaced twice"])
def test_a_download_ends_with_what_it_began(
    emulator: RunningEmulator, s3: Any, bucket: str, then: str
) -> None:
    files = emulator.state / "files"
    data, before = os.urandom(32 * MIB), set(files.iterdir())
    s3.put_object(Bucket=bucket, Key="k", Body=data)
    (file,) = set(files.iterdir()) - before
    body = s3.get_object(Bucket=bucket, Key="k")["Body"]
    begun = body.read(MIB)
    if then == "deleted":
        s3.delete_object(Bucket=bucket, Key="k")
    for number in range(then.count("replaced") + then.count("twice")):
        s3.put_object(Bucket=bucket, Key="k", Body=b"new %d" % number)
    assert file.exists()
    assert begun + body.read() == data
    until = time.monotonic() + 10
    while file.exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert not file.exists(), "once it was sent it goes"


def test_a_download_that_is_given_up_keeps_no_file(emulator: RunningEmulator, s3: Any, bucket: str) -> None:
    files = emulator.state / "files"
    before = set(files.iterdir())
    s3.put_object(Bucket=bucket, Key="k", Body=os.urandom(32 * MIB))
    (file,) = set(files.iterdir()) - before
    body = s3.get_object(Bucket=bucket, Key="k")["Body"]
    body.read(MIB)
    s3.delete_object(Bucket=bucket, Key="k")
    body.close()
    until = time.monotonic() + 10
    while file.exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert not file.exists()
