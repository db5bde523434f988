"""S3's signatures in every form, and what is said to each wrong one."""

from __future__ import annotations

import hashlib
import zlib
from datetime import timedelta
from typing import Any

import pytest

from tests.support.emulator_clients import Talker, pattern
from tests.support.s3_clients import MIB, S3Talker, b64, client, code, error_of

DATA = pattern(150_000)
CHUNKS = [DATA[:65536], DATA[65536:131072], DATA[131072:]]
CRC = {"x-amz-checksum-crc32": b64(zlib.crc32(DATA).to_bytes(4, "big"))}


def read(s3: Any, bucket: str, key: str = "k") -> bytes:
    return bytes(s3.get_object(Bucket=bucket, Key=key)["Body"].read())


@pytest.mark.parametrize("payload", [None, "UNSIGNED-PAYLOAD"])
def test_a_plain_body_with_its_hash_or_without(raw: S3Talker, s3: Any, bucket: str, payload: str) -> None:
    assert raw.ask("PUT", f"/{bucket}/k", DATA, payload=payload).status == 200
    assert read(s3, bucket) == DATA


@pytest.mark.parametrize(("signs", "trailer"), [(True, None), (True, CRC), (False, CRC)])
def test_chunks_in_all_three_forms(
    raw: S3Talker, s3: Any, bucket: str, signs: bool, trailer: dict[str, str] | None
) -> None:
    reply = raw.chunked(f"/{bucket}/k", CHUNKS, trailer=trailer, signs=signs)
    assert reply.status == 200, reply.body
    assert read(s3, bucket) == DATA
    assert "ContentEncoding" not in s3.head_object(Bucket=bucket, Key="k")


def test_large_chunks_stream_through_the_sink(raw: S3Talker, s3: Any, bucket: str) -> None:
    data = pattern(9 * MIB)
    chunks = [data[at : at + MIB] for at in range(0, len(data), MIB)]
    assert raw.chunked(f"/{bucket}/k", chunks).status == 200
    assert read(s3, bucket) == data


@pytest.mark.parametrize(
    ("spoil", "trailer", "wanted"),
    [
        ("chunk", None, (403, "SignatureDoesNotMatch")),
        ("trailer", CRC, (403, "SignatureDoesNotMatch")),
        ("length", None, (400, "IncompleteBody")),
        ("", {"x-amz-checksum-crc32": "AAAAAA=="}, (400, "BadDigest")),
        ("", {"x-amz-checksum-crc32": "AAAA"}, (400, "InvalidRequest")),
    ],
)
def test_a_wrong_chunk_stores_nothing(
    raw: S3Talker, s3: Any, bucket: str, spoil: str, trailer: dict[str, str] | None, wanted: tuple[int, str]
) -> None:
    assert error_of(raw.chunked(f"/{bucket}/k", CHUNKS, trailer=trailer, spoil=spoil)) == wanted
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket=bucket, Key="k")


def test_only_the_last_chunk_may_be_small(raw: S3Talker, bucket: str) -> None:
    reply = raw.chunked(f"/{bucket}/k", [b"x" * 100, b"y" * 9000])
    assert error_of(reply) == (403, "InvalidChunkSizeError")


def test_a_body_that_is_not_the_signed_one(raw: S3Talker, bucket: str) -> None:
    reply = raw.ask("PUT", f"/{bucket}/k", b"other", payload=hashlib.sha256(b"this").hexdigest())
    assert error_of(reply) == (400, "XAmzContentSHA256Mismatch")
    assert b"<S3ComputedContentSHA256>" in reply.body


@pytest.mark.parametrize("minutes", [-16, 16])
def test_a_skewed_clock(raw: S3Talker, bucket: str, minutes: int) -> None:
    reply = raw.ask("GET", f"/{bucket}", late=timedelta(minutes=minutes))
    assert error_of(reply) == (403, "RequestTimeTooSkewed")
    assert b"<MaxAllowedSkewMilliseconds>900000<" in reply.body


def test_wrong_secrets_keys_and_services(raw: S3Talker, bucket: str) -> None:
    wrong = S3Talker(raw.url, secret="wrong")
    assert error_of(wrong.ask("GET", f"/{bucket}")) == (403, "SignatureDoesNotMatch")
    unknown = S3Talker(raw.url, key_id="AKIANOBODY")
    assert error_of(unknown.ask("GET", f"/{bucket}")) == (403, "InvalidAccessKeyId")
    reply = raw.ask("GET", f"/{bucket}", service="glacier")
    assert error_of(reply) == (400, "AuthorizationHeaderMalformed")
    anonymous = Talker(raw.url).send("GET", f"/{bucket}", b"", {"host": "x"})
    assert error_of(anonymous) == (403, "AccessDenied")
    reply = raw.ask("GET", f"/{bucket}", headers={"x-amz-security-token": "t"})
    assert error_of(reply) == (400, "InvalidToken")


def test_an_unsigned_amazon_header_is_refused(raw: S3Talker, bucket: str) -> None:
    path = f"/{bucket}/k"
    signed = Talker(raw.url).signed("PUT", path, b"", {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"},
                                    service="s3", payload_hash="UNSIGNED-PAYLOAD")  # fmt: skip
    reply = Talker(raw.url).send("PUT", path, b"", {**signed, "x-amz-storage-class": "GLACIER"})
    assert error_of(reply) == (403, "AccessDenied")
    assert b"<HeadersNotSigned>x-amz-storage-class<" in reply.body


def test_another_region_is_told_the_right_one(raw: S3Talker, bucket: str) -> None:
    reply = raw.ask("GET", f"/{bucket}", region="us-west-2")
    assert error_of(reply) == (400, "AuthorizationHeaderMalformed")
    assert b"<Region>eu-central-1</Region>" in reply.body
    assert reply.headers["x-amz-bucket-region"] == "eu-central-1"
    head = raw.ask("HEAD", f"/{bucket}", region="us-west-2")
    assert (head.status, head.body) == (400, b"")
    assert head.headers["x-amz-bucket-region"] == "eu-central-1"


def test_another_regions_host_redirects(raw: S3Talker, bucket: str) -> None:
    host = f"{bucket}.s3.us-west-2.amazonaws.com"
    reply = raw.ask("GET", "/", host=host, region="us-west-2")
    assert error_of(reply) == (301, "PermanentRedirect")
    assert f"<Endpoint>{bucket}.s3.eu-central-1.amazonaws.com</Endpoint>".encode() in reply.body


@pytest.mark.parametrize("host", ["{}.s3.eu-central-1.amazonaws.com", "{}.localhost:80", "{}.s3.local"])
def test_the_bucket_may_stand_in_the_host(raw: S3Talker, s3: Any, bucket: str, host: str) -> None:
    assert raw.ask("PUT", "/a/b", b"x", host=host.format(bucket)).status == 200
    assert read(s3, bucket, "a/b") == b"x"


def test_presigned_urls(raw: S3Talker, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    get = Talker(raw.url)
    where = {"host": raw.url.removeprefix("http://")}
    assert get.send("GET", raw.presigned(f"/{bucket}/k"), b"", where).body == b"x"
    old = get.send("GET", raw.presigned(f"/{bucket}/k", late=timedelta(minutes=-2)), b"", where)
    assert error_of(old) == (403, "AccessDenied")
    assert b"<Message>Request has expired</Message>" in old.body
    long = get.send("GET", raw.presigned(f"/{bucket}/k", seconds=700_000), b"", where)
    assert error_of(long) == (400, "AuthorizationQueryParametersError")
    spoilt = get.send("GET", raw.presigned(f"/{bucket}/k")[:-1] + "g", b"", where)
    assert spoilt.status in (400, 403)


@pytest.mark.parametrize(
    "key", ["ü/ä", "a b", "a+b", "a%2Fb", "a&b=c", "~-_.!*'()", "//x", "../../etc", "é" * 512]
)
def test_keys_are_encoded_once(s3: Any, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert read(s3, bucket, key) == key.encode()
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]


def test_another_accounts_key_sees_nothing(s3: Any, bucket: str, emulator: Any) -> None:
    wrong = client(emulator.s3_url, key_id="AKIANOBODY")
    with pytest.raises(s3.exceptions.ClientError) as error:
        wrong.list_objects_v2(Bucket=bucket)
    assert code(error) == (403, "InvalidAccessKeyId")
