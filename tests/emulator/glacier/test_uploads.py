"""Uploads in one request and in parts, over HTTP."""

from __future__ import annotations

import hashlib
import random
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.emulated import ACCOUNT_ID, RunningEmulator
from tests.support.emulator_clients import (
    MIB,
    Reply,
    Talker,
    arn_of,
    client,
    code_and_message,
    new_vault_name,
    pattern,
    tree_hash,
)

PARTS_OF_GUIDE = [
    ("0-2097151", "bf4dff263ae686b64403208c35a3767e38453d6477e841947588d13d04e1d816"),
    ("2097152-4194303", "9e217b1ceb8db81071f9c6e4a2bf0401a83491d10751ce858a2628f5d699dbdb"),
    ("4194304-5767167", "496d4d95e43c393168f28a6532fd3e158a8477d949db92d5b7df78090fd5ec27"),
]
INVALID = "InvalidParameterValueException"


@pytest.fixture
def glacier(emulator: RunningEmulator) -> Any:
    return client(emulator.glacier_url)


@pytest.fixture
def vault(glacier: Any) -> str:
    name = new_vault_name()
    glacier.create_vault(vaultName=name)
    return name


def _begin(glacier: Any, vault: str, part_size: int = MIB, **how: Any) -> str:
    return str(glacier.initiate_multipart_upload(vaultName=vault, partSize=str(part_size), **how)["uploadId"])


def _put(glacier: Any, vault: str, upload: str, start: int, data: bytes) -> str:
    where = f"bytes {start}-{start + len(data) - 1}/*"
    sent = glacier.upload_multipart_part(vaultName=vault, uploadId=upload, range=where, body=data)
    return str(sent["checksum"])


def _complete(glacier: Any, vault: str, upload: str, data: bytes, **changes: str) -> Any:
    given = {"archiveSize": str(len(data)), "checksum": tree_hash(data), **changes}
    return glacier.complete_multipart_upload(vaultName=vault, uploadId=upload, **given)


def test_upload_in_one_request(talker: Talker, vault: str) -> None:
    body = pattern(MIB + 1)
    reply = talker.upload(f"/-/vaults/{vault}/archives", body, {"x-amz-archive-description": "two  blanks"})
    archive = reply.headers["x-amz-archive-id"]
    assert (reply.status, reply.body) == (201, b"")
    assert re.fullmatch(r"[\w-]{138}", archive)
    assert reply.headers["location"] == f"/{ACCOUNT_ID}/vaults/{vault}/archives/{archive}"
    assert reply.headers["x-amz-sha256-tree-hash"] == tree_hash(body)


def test_wrong_hashes(talker: Talker, vault: str) -> None:
    path = f"/-/vaults/{vault}/archives"
    wrong = "ab" * 32
    reply = talker.upload(path, b"abc", {"x-amz-sha256-tree-hash": wrong})
    assert reply.error == (400, INVALID, f"Checksum mismatch: expected {wrong}, computed {tree_hash(b'abc')}")
    reply = talker.upload(path, b"abc", {"x-amz-content-sha256": wrong})
    assert reply.error == (
        403,
        "InvalidSignatureException",
        (
            "The value passed in as x-amz-content-sha256 does not match the computed payload hash. "
            f"Computed digest: {hashlib.sha256(b'abc').hexdigest()} expected hash: {wrong}"
        ),
    )
    reply = talker.upload(path, b"abc", {"x-amz-sha256-tree-hash": "xyz"})
    assert reply.error == (400, INVALID, "Invalid x-amz-sha256-tree-hash: xyz")
    reply = talker.upload(path, b"abc", {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"})
    assert reply.error == (400, INVALID, "Invalid x-amz-content-sha256: UNSIGNED-PAYLOAD")


def test_hash_headers_are_required(talker: Talker, vault: str) -> None:
    path = f"/-/vaults/{vault}/archives"
    digest = hashlib.sha256(b"abc").hexdigest()
    for headers, missing in (
        ({"x-amz-sha256-tree-hash": digest}, "x-amz-content-sha256"),
        ({"x-amz-content-sha256": digest}, "x-amz-sha256-tree-hash"),
    ):
        reply = talker.ask("POST", path, b"abc", headers)
        assert reply.error == (
            400,
            "MissingParameterValueException",
            f"Required parameter missing: {missing}",
        )


def test_the_content_hash_must_be_signed(talker: Talker, vault: str) -> None:
    path = f"/-/vaults/{vault}/archives"
    digest = hashlib.sha256(b"abc").hexdigest()
    headers = talker.signed("POST", path, b"abc", {"x-amz-sha256-tree-hash": digest})
    reply = talker.send("POST", path, b"abc", {**headers, "x-amz-content-sha256": digest})
    assert reply.error == (
        403,
        "InvalidSignatureException",
        "The header x-amz-content-sha256 must be signed.",
    )


def test_empty_archives_are_impossible(talker: Talker, vault: str) -> None:
    assert talker.upload(f"/-/vaults/{vault}/archives", b"", {}).error == (
        400,
        INVALID,
        "Invalid Content-Length: 0",
    )


def test_more_than_4_gib_is_refused(talker: Talker, vault: str) -> None:
    path = f"/-/vaults/{vault}/archives"
    digest = "ab" * 32
    headers = talker.signed(
        "POST",
        path,
        headers={"x-amz-content-sha256": digest, "x-amz-sha256-tree-hash": digest},
        payload_hash=digest,
    )
    given = {**headers, "Content-Length": "4294967297", "Expect": "100-continue"}
    reply = talker.send("POST", path, b"", given, length=False)
    assert reply.error == (400, INVALID, "Invalid Content-Length: 4294967297")
    assert reply.headers["connection"] == "close"


def test_a_stalled_body_times_out(talker: Talker, vault: str) -> None:
    path = f"/-/vaults/{vault}/archives"
    digest = hashlib.sha256(b"abcdef").hexdigest()
    headers = talker.signed(
        "POST",
        path,
        headers={"x-amz-content-sha256": digest, "x-amz-sha256-tree-hash": digest},
        payload_hash=digest,
    )
    reply = talker.send("POST", path, b"abc", {**headers, "Content-Length": "6"}, length=False)
    assert reply.error == (408, "RequestTimeoutException", "Request timed out.")


@pytest.mark.parametrize("text", ["a" * 1025, "caf\u00e9", "tab\there"])
def test_bad_descriptions(talker: Talker, vault: str, text: str) -> None:
    headers = {"x-amz-archive-description": text, "x-amz-part-size": str(MIB)}
    reply = talker.ask("POST", f"/-/vaults/{vault}/multipart-uploads", headers=headers)
    assert reply.error[:2] == (400, INVALID)
    assert talker.upload(f"/-/vaults/{vault}/archives", b"abc", headers).error[:2] == (400, INVALID)


def test_leading_blanks_of_a_description_are_cut(glacier: Any, vault: str) -> None:
    upload = _begin(glacier, vault, archiveDescription="  x  y")
    listed = glacier.list_multipart_uploads(vaultName=vault)["UploadsList"]
    assert [(entry["MultipartUploadId"], entry["ArchiveDescription"]) for entry in listed] == [
        (upload, "x  y")
    ]


@pytest.mark.parametrize("size", [0, 1, 524288, 3 * MIB, 1048577, 2 * 4294967296])
def test_part_sizes(glacier: Any, vault: str, size: int) -> None:
    with pytest.raises(ClientError) as refused:
        _begin(glacier, vault, size)
    assert code_and_message(refused) == (
        INVALID,
        (
            f"Invalid part size: {size}. Part size must not be null, must be a power of two and be between "
            "1048576 and 4294967296 bytes."
        ),
    )


def test_vectors_through_parts_in_any_order(talker: Talker, glacier: Any, vault: str) -> None:
    data = pattern(5767168)
    upload = _begin(glacier, vault, 2 * MIB, archiveDescription="P")
    starts = [0, 2 * MIB, 4 * MIB]
    random.Random(7).shuffle(starts)
    for start in starts:
        _put(glacier, vault, upload, start, data[start : start + 2 * MIB])
    listed = talker.ask("GET", f"/-/vaults/{vault}/multipart-uploads/{upload}").json
    assert list(listed) == [
        *("MultipartUploadId", "VaultARN", "ArchiveDescription", "PartSizeInBytes"),
        *("CreationDate", "Parts", "Marker"),
    ]
    assert listed["VaultARN"] == arn_of(vault)
    assert [(part["RangeInBytes"], part["SHA256TreeHash"]) for part in listed["Parts"]] == PARTS_OF_GUIDE
    done = _complete(glacier, vault, upload, data)
    assert done["checksum"] == "3493387cee361be12e24da9c024bf3e2a55f81df464f6ae822209f79a92248f5"
    assert done["location"] == f"/{ACCOUNT_ID}/vaults/{vault}/archives/{done['archiveId']}"


def test_parallel_parts(emulator: RunningEmulator, glacier: Any, vault: str) -> None:
    data = pattern(16 * MIB + 5)
    upload = _begin(glacier, vault, 4 * MIB)
    with ThreadPoolExecutor(4) as pool:
        starts = range(0, len(data), 4 * MIB)
        hashes = list(pool.map(lambda at: _put(glacier, vault, upload, at, data[at : at + 4 * MIB]), starts))
    assert hashes == [tree_hash(data[at : at + 4 * MIB]) for at in starts]
    assert _complete(glacier, vault, upload, data)["archiveId"]


def test_completing_again_gives_the_same_archive(glacier: Any, vault: str) -> None:
    upload = _begin(glacier, vault)
    _put(glacier, vault, upload, 0, b"abc")
    first = _complete(glacier, vault, upload, b"abc")
    again = _complete(glacier, vault, upload, b"abc")
    assert again["archiveId"] == first["archiveId"]
    assert again["location"] == first["location"]
    with pytest.raises(ClientError) as refused:
        _complete(glacier, vault, upload, b"abd")
    assert code_and_message(refused)[0] == INVALID
    assert glacier.list_multipart_uploads(vaultName=vault)["UploadsList"] == []
    for call in (
        lambda: glacier.list_parts(vaultName=vault, uploadId=upload),
        lambda: _put(glacier, vault, upload, 0, b"abc"),
    ):
        with pytest.raises(ClientError) as refused:
            call()
        assert code_and_message(refused) == (
            "ResourceNotFoundException",
            f"The upload ID was not found: {upload}",
        )
    with pytest.raises(ClientError) as refused:
        glacier.abort_multipart_upload(vaultName=vault, uploadId=upload)
    assert code_and_message(refused)[0] == INVALID


def test_a_resent_part_replaces_the_earlier_one(glacier: Any, vault: str) -> None:
    upload = _begin(glacier, vault)
    data = pattern(MIB + 10)
    _put(glacier, vault, upload, 0, bytes(MIB))
    _put(glacier, vault, upload, MIB, data[MIB:])
    with pytest.raises(ClientError, match="Checksum mismatch: expected"):
        _complete(glacier, vault, upload, data)
    _put(glacier, vault, upload, 0, data[:MIB])
    assert _complete(glacier, vault, upload, data)["checksum"] == tree_hash(data)


def test_failed_completions_leave_the_upload_open(glacier: Any, vault: str) -> None:
    upload = _begin(glacier, vault)
    data = pattern(3 * MIB)
    with pytest.raises(ClientError, match=INVALID):
        _complete(glacier, vault, upload, data)
    _put(glacier, vault, upload, 0, data[:MIB])
    _put(glacier, vault, upload, 2 * MIB, data[2 * MIB :])
    with pytest.raises(ClientError, match="gap"):
        _complete(glacier, vault, upload, data)
    _put(glacier, vault, upload, MIB, data[MIB : MIB + 7])
    with pytest.raises(ClientError, match=INVALID):
        _complete(glacier, vault, upload, data)
    _put(glacier, vault, upload, MIB, data[MIB : 2 * MIB])
    with pytest.raises(ClientError, match="Invalid x-amz-archive-size: 9"):
        _complete(glacier, vault, upload, data, archiveSize="9")
    with pytest.raises(ClientError) as refused:
        _complete(glacier, vault, upload, data, checksum="cd" * 32)
    assert code_and_message(refused) == (
        INVALID,
        f"Checksum mismatch: expected {'cd' * 32}, computed {tree_hash(data)}",
    )
    with pytest.raises(ClientError, match="Invalid x-amz-sha256-tree-hash: zz"):
        _complete(glacier, vault, upload, data, checksum="zz")
    assert _complete(glacier, vault, upload, data)["archiveId"]


def _part(talker: Talker, vault: str, upload: str, where: str, data: bytes) -> Reply:
    path = f"/-/vaults/{vault}/multipart-uploads/{upload}"
    return talker.upload(path, data, {"content-range": where}, "PUT")


def test_ranges_of_parts(talker: Talker, glacier: Any, vault: str) -> None:
    upload = _begin(glacier, vault, MIB)
    for where, data, message in (
        ("bytes 5-4/*", b"ab", "Invalid Content-Range: bytes 5-4/*"),
        ("0-1", b"ab", "Invalid Content-Range: 0-1"),
        ("bytes 0-2/*", b"ab", "Content-Range: bytes 0-2/* is incompatible with Content-Length: 2"),
        ("bytes 1-2/*", b"ab", "Invalid Content-Range: bytes 1-2/*"),
        ("bytes 0-1048576/*", bytes(MIB + 1), "Invalid Content-Range: bytes 0-1048576/*"),
        ("bytes 10485760000-10485760001/*", b"ab", "Invalid Content-Range: bytes 10485760000-10485760001/*"),
    ):
        assert _part(talker, vault, upload, where, data).error == (400, INVALID, message)
    for where in ("bytes 0-1/*", "bytes 0-1/2"):
        reply = _part(talker, vault, upload, where, b"ab")
        assert (reply.status, reply.headers["x-amz-sha256-tree-hash"]) == (204, tree_hash(b"ab"))
        assert "content-length" not in reply.headers
    empty = _part(talker, vault, upload, "bytes 2-1/*", b"")
    assert empty.error == (400, INVALID, "Invalid Content-Range: bytes 2-1/*")


def test_aborting(glacier: Any, vault: str) -> None:
    upload = _begin(glacier, vault)
    _put(glacier, vault, upload, 0, b"abc")
    glacier.abort_multipart_upload(vaultName=vault, uploadId=upload)
    glacier.abort_multipart_upload(vaultName=vault, uploadId=upload)
    with pytest.raises(ClientError, match="upload ID was not found"):
        _complete(glacier, vault, upload, b"abc")
    assert glacier.list_multipart_uploads(vaultName=vault)["UploadsList"] == []


def test_paging_of_parts_and_uploads(glacier: Any, vault: str) -> None:
    uploads = [_begin(glacier, vault) for _ in range(3)]
    for number in range(3):
        _put(glacier, vault, uploads[0], number * MIB, b"x")
    page = glacier.list_parts(vaultName=vault, uploadId=uploads[0], limit="2")
    rest = glacier.list_parts(vaultName=vault, uploadId=uploads[0], limit="2", marker=page["Marker"])
    starts = [part["RangeInBytes"] for part in page["Parts"] + rest["Parts"]]
    assert starts == ["0-0", "1048576-1048576", "2097152-2097152"]
    assert "Marker" not in rest
    first = glacier.list_multipart_uploads(vaultName=vault, limit="2")
    assert first["Marker"] == uploads[2]
    last = glacier.list_multipart_uploads(vaultName=vault, limit="2", marker=uploads[2])
    found = [entry["MultipartUploadId"] for entry in first["UploadsList"] + last["UploadsList"]]
    assert found == uploads
    with pytest.raises(ClientError, match="Invalid limit"):
        glacier.list_parts(vaultName=vault, uploadId=uploads[0], limit="51")
    for call in (
        glacier.list_multipart_uploads,
        lambda **how: glacier.list_parts(uploadId=uploads[0], **how),
    ):
        with pytest.raises(ClientError, match="Invalid marker"):
            call(vaultName=vault, marker="no")


def test_an_idle_upload_goes_after_a_day(emulator: RunningEmulator, glacier: Any, vault: str) -> None:
    upload = _begin(glacier, vault)
    emulator.advance(23 * 3600)
    _put(glacier, vault, upload, 0, b"abc")
    emulator.advance(23 * 3600)
    assert len(glacier.list_parts(vaultName=vault, uploadId=upload)["Parts"]) == 1
    emulator.advance(3600)
    with pytest.raises(ClientError, match="upload ID was not found"):
        glacier.list_parts(vaultName=vault, uploadId=upload)


def test_deleting_archives(glacier: Any, vault: str) -> None:
    other = new_vault_name()
    glacier.create_vault(vaultName=other)
    archive = glacier.upload_archive(vaultName=vault, body=b"x")["archiveId"]
    with pytest.raises(ClientError) as refused:
        glacier.delete_archive(vaultName=other, archiveId=archive)
    assert code_and_message(refused) == (INVALID, f"Invalid vault name: {arn_of(other)}")
    for _ in range(2):
        glacier.delete_archive(vaultName=vault, archiveId=archive)
    glacier.delete_archive(vaultName=vault, archiveId="-never-was")
    with pytest.raises(ClientError) as refused:
        glacier.initiate_job(
            vaultName=vault, jobParameters={"Type": "archive-retrieval", "ArchiveId": archive}
        )
    assert code_and_message(refused) == (
        "ResourceNotFoundException",
        f"The archive ID was not found: {archive}",
    )
