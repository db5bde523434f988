"""Multipart uploads: checksums of parts and whole, order, sizes, repeats, lists."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from awscrt import checksums as crt

from tests.support.emulated import RunningEmulator
from tests.support.emulator_clients import pattern
from tests.support.s3_clients import MIB, b64, code

DATA = pattern(11 * MIB)
PIECES = [DATA[: 5 * MIB], DATA[5 * MIB : 10 * MIB], DATA[10 * MIB :]]


def begin(s3: Any, bucket: str, key: str = "k", **how: Any) -> str:
    return str(s3.create_multipart_upload(Bucket=bucket, Key=key, **how)["UploadId"])


def upload(s3: Any, bucket: str, upload_id: str, number: int, body: bytes, **how: Any) -> dict[str, Any]:
    done = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload_id, PartNumber=number, Body=body, **how)
    sums = {name: value for name, value in done.items() if name.startswith("Checksum")}
    return {"PartNumber": number, "ETag": done["ETag"], **sums}


def complete(s3: Any, bucket: str, upload_id: str, parts: list[dict[str, Any]], **how: Any) -> Any:
    whole = {"Parts": parts}
    return s3.complete_multipart_upload(
        Bucket=bucket, Key="k", UploadId=upload_id, MultipartUpload=whole, **how
    )


def refused(s3: Any, *words: Any, **how: Any) -> tuple[int, str]:
    with pytest.raises(s3.exceptions.ClientError) as error:
        complete(s3, *words, **how)
    return code(error)


def test_parts_in_any_order_at_once_with_a_whole_checksum(s3: Any, bucket: str) -> None:
    how = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}
    name = begin(s3, bucket, StorageClass="DEEP_ARCHIVE", Metadata={"a": "b"}, **how)
    with ThreadPoolExecutor(3) as pool:
        tasks = [
            pool.submit(upload, s3, bucket, name, number, body, ChecksumAlgorithm="CRC64NVME")
            for number, body in ((3, PIECES[2]), (1, PIECES[0]), (2, PIECES[1]))
        ]
    parts = sorted((task.result() for task in tasks), key=lambda part: part["PartNumber"])
    whole = b64(crt.crc64nvme(DATA).to_bytes(8, "big"))
    wrong = b64(crc_of(b"x"))
    assert refused(s3, bucket, name, parts, ChecksumCRC64NVME=wrong) == (400, "BadDigest")
    assert refused(s3, bucket, name, parts, MpuObjectSize=5) == (400, "InvalidRequest")
    done = complete(
        s3, bucket, name, parts, ChecksumCRC64NVME=whole, ChecksumType="FULL_OBJECT",
        MpuObjectSize=len(DATA), IfNoneMatch="*",
    )  # fmt: skip
    digests = b"".join(hashlib.md5(piece).digest() for piece in PIECES)
    assert done["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-3"'
    assert (done["ChecksumCRC64NVME"], done["ChecksumType"]) == (whole, "FULL_OBJECT")
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (head["ContentLength"], head["StorageClass"]) == (len(DATA), "DEEP_ARCHIVE")
    assert (head["ChecksumCRC64NVME"], head["Metadata"]) == (whole, {"a": "b"})


def crc_of(data: bytes) -> bytes:
    return int(crt.crc64nvme(data)).to_bytes(8, "big")


def test_composite_checksums_name_each_part(s3: Any, bucket: str) -> None:
    name = begin(s3, bucket, ChecksumAlgorithm="SHA256")
    parts = [
        upload(s3, bucket, name, number, body, ChecksumAlgorithm="SHA256")
        for number, body in enumerate(PIECES, 1)
    ]
    bare = [{key: part[key] for key in ("PartNumber", "ETag")} for part in parts]
    assert refused(s3, bucket, name, bare) == (400, "InvalidRequest")
    other = [{**part, "ChecksumSHA256": b64(hashlib.sha256(b"").digest())} for part in parts]
    assert refused(s3, bucket, name, other) == (400, "InvalidPart")
    done = complete(s3, bucket, name, parts)
    digests = b"".join(hashlib.sha256(piece).digest() for piece in PIECES)
    wanted = b64(hashlib.sha256(digests).digest())
    assert (done["ChecksumSHA256"], done["ChecksumType"]) == (f"{wanted}-3", "COMPOSITE")
    found = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts", "Checksum"])
    assert found["Checksum"]["ChecksumSHA256"] == wanted
    assert [part["Size"] for part in found["ObjectParts"]["Parts"]] == [len(piece) for piece in PIECES]
    second = s3.get_object(Bucket=bucket, Key="k", PartNumber=2)
    assert (second["Body"].read() == PIECES[1], second["PartsCount"]) == (True, 3)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == DATA


def test_sha256_cannot_be_of_the_whole(s3: Any, bucket: str) -> None:
    with pytest.raises(s3.exceptions.ClientError) as error:
        begin(s3, bucket, ChecksumAlgorithm="SHA256", ChecksumType="FULL_OBJECT")
    assert code(error) == (400, "InvalidRequest")


def test_what_complete_refuses(s3: Any, bucket: str, emulator: RunningEmulator) -> None:
    name = begin(s3, bucket)
    small = upload(s3, bucket, name, 1, b"small")
    last = upload(s3, bucket, name, 2, b"last")
    assert refused(s3, bucket, name, [small, last]) == (400, "EntityTooSmall")
    assert refused(s3, bucket, name, [last, small]) == (400, "InvalidPartOrder")
    assert refused(s3, bucket, name, [{**small, "ETag": '"0"'}]) == (400, "InvalidPart")
    assert refused(s3, bucket, name, [{**small, "PartNumber": 3}]) == (400, "InvalidPart")
    assert refused(s3, bucket, name, []) == (400, "MalformedXML")
    assert refused(s3, bucket, "none", [small]) == (404, "NoSuchUpload")
    emulator.change_settings(minimum_part_bytes=1)
    try:
        complete(s3, bucket, name, [small, last])
    finally:
        emulator.change_settings(minimum_part_bytes=5 * MIB)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"smalllast"


def test_a_repeated_part_replaces_and_unnamed_parts_go(s3: Any, bucket: str) -> None:
    name = begin(s3, bucket)
    upload(s3, bucket, name, 1, b"first")
    again = upload(s3, bucket, name, 1, b"second")
    upload(s3, bucket, name, 9, b"unnamed")
    complete(s3, bucket, name, [again])
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"second"


def test_complete_sent_again_is_answered_alike_while_its_object_is_there(
    s3: Any, bucket: str, emulator: RunningEmulator
) -> None:
    name = begin(s3, bucket)
    parts = [upload(s3, bucket, name, 1, b"x")]
    first = complete(s3, bucket, name, parts, IfNoneMatch="*")
    assert complete(s3, bucket, name, parts, IfNoneMatch="*")["ETag"] == first["ETag"]
    emulator.change_settings(repeat_complete=False)
    try:
        assert refused(s3, bucket, name, parts) == (404, "NoSuchUpload")
    finally:
        emulator.change_settings(repeat_complete=True)
    s3.put_object(Bucket=bucket, Key="k", Body=b"other")
    assert refused(s3, bucket, name, parts) == (404, "NoSuchUpload")


def test_complete_never_overwrites_under_if_none_match(s3: Any, bucket: str) -> None:
    name = begin(s3, bucket)
    parts = [upload(s3, bucket, name, 1, b"x")]
    s3.put_object(Bucket=bucket, Key="k", Body=b"earlier")
    assert refused(s3, bucket, name, parts, IfNoneMatch="*") == (412, "PreconditionFailed")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"earlier"
    s3.delete_object(Bucket=bucket, Key="k")
    complete(s3, bucket, name, parts, IfNoneMatch="*")


def test_lists_of_uploads_and_parts_in_pages(s3: Any, bucket: str) -> None:
    names = {(key, begin(s3, bucket, key)) for key in ("a/1", "a/1", "a/2", "b", "k")}
    found = set()
    for page in s3.get_paginator("list_multipart_uploads").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": 2}
    ):
        found |= {(entry["Key"], entry["UploadId"]) for entry in page.get("Uploads", [])}
    assert found == names
    rolled = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/", Prefix="")
    assert [entry["Prefix"] for entry in rolled["CommonPrefixes"]] == ["a/"]
    name = next(name for key, name in names if key == "k")
    for number in (1, 2, 5):
        upload(s3, bucket, name, number, b"x" * number)
    pages = s3.get_paginator("list_parts").paginate(
        Bucket=bucket, Key="k", UploadId=name, PaginationConfig={"PageSize": 2}
    )
    assert [(part["PartNumber"], part["Size"]) for page in pages for part in page["Parts"]] == [
        *((1, 1), (2, 2), (5, 5)),
    ]
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=name)
    with pytest.raises(s3.exceptions.NoSuchUpload):
        s3.list_parts(Bucket=bucket, Key="k", UploadId=name)


def test_a_part_copied_from_an_object(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="source", Body=b"0123456789")
    name = begin(s3, bucket)
    copied = s3.upload_part_copy(
        Bucket=bucket, Key="k", UploadId=name, PartNumber=1, CopySourceRange="bytes=2-4",
        CopySource={"Bucket": bucket, "Key": "source"},
    )["CopyPartResult"]  # fmt: skip
    sums = {key: value for key, value in copied.items() if key.startswith("Checksum")}
    complete(s3, bucket, name, [{"PartNumber": 1, "ETag": copied["ETag"], **sums}])
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"234"
