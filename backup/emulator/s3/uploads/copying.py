"""CopyObject and UploadPartCopy: existing bytes, shared on disk or copied.

Source: S3 API Reference (CopyObject, UploadPartCopy).
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

from msgspec import Struct
from msgspec.structs import replace

from backup.emulator.core.s3_errors import S3Error, invalid_argument
from backup.emulator.core.state.store import Store, Transaction
from backup.emulator.core.wire import Answer
from backup.emulator.s3.buckets.documents import xml_answer
from backup.emulator.s3.buckets.object_lock import wanted_lock
from backup.emulator.s3.call import (
    Bucket,
    S3Call,
    find_bucket,
    find_object,
    find_version,
    is_version,
    iso_date,
)
from backup.emulator.s3.metering import meter_reading
from backup.emulator.s3.objects.conditions import check_source, check_write
from backup.emulator.s3.objects.objects import SSE, check_new_object, header_tags, insert_object
from backup.emulator.s3.objects.restore import is_readable
from backup.emulator.s3.objects.versioning import ID, new_version_header, version_header
from backup.emulator.s3.request.checksums import ALGORITHMS, FULL
from backup.emulator.s3.request.receive import Digests, Stored
from backup.emulator.s3.xml import Node, document

from .multipart import find_upload, part_number, write_part

COPY_LIMIT = 5 * 1024**3
REDIRECT = "x-amz-website-redirect-location"
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{1,18})")


class Source(Struct, frozen=True):
    """The source of a copy: bucket and key, and the version if one was named."""

    bucket: str
    key: str
    version: str

    @property
    def query(self) -> Mapping[str, str]:
        """The query of a read of it."""
        return {"versionId": self.version} if self.version else {}


def read_source(call: S3Call) -> Source:
    """The source in the header `x-amz-copy-source`, decoded once."""
    text = call.header("x-amz-copy-source") or ""
    path, _, version = text.partition("?versionId=")
    bucket, _, key = unquote(path).removeprefix("/").partition("/")
    if not bucket or not key:
        raise invalid_argument(
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            "x-amz-copy-source",
            text,
        )
    if version and not is_version(version):
        raise invalid_argument("Invalid version id specified", "x-amz-copy-source", text)
    return Source(bucket, key, version)


def _find_source(call: S3Call, tx: Transaction) -> tuple[Bucket, sqlite3.Row]:
    source = read_source(call)
    bucket = find_bucket(tx, source.bucket)
    if bucket is None:
        raise S3Error("NoSuchBucket", None, {"BucketName": source.bucket})
    if call.header("x-amz-source-expected-bucket-owner") not in (None, bucket.account_id):
        raise S3Error("AccessDenied")
    row = find_version(replace(call, bucket=bucket, key=source.key, query=source.query), tx)
    if row is None and source.version:
        raise S3Error("NoSuchVersion", None, {"Key": source.key, "VersionId": source.version})
    if row is not None and row["is_marker"] and source.version:
        message = "The source of a copy request may not specifically refer to a delete marker by version id."
        raise S3Error("InvalidRequest", message)
    if row is None or row["is_marker"]:
        raise S3Error("NoSuchKey", None, {"Key": source.key})
    if not is_readable(row, tx.now_ms):
        raise S3Error("ObjectNotInActiveTierError")
    check_source(call, row)
    return bucket, row


def source_call(call: S3Call, tx: Transaction) -> S3Call | None:
    """The read of a copy's source as a call to be authorised; None without such a bucket."""
    source = read_source(call)
    bucket = find_bucket(tx, source.bucket)
    if bucket is None:
        return None
    return replace(
        call,
        operation="GetObject",
        bucket_name=bucket.name,
        bucket=bucket,
        key=source.key,
        query=source.query,
    )


def copy_object(call: S3Call, tx: Transaction) -> Answer:
    """Copy an object, with another class or metadata if requested; the bytes are shared by a hard link.

    What was uploaded in parts is read, as the copy has the ETag and checksum of a whole.
    """
    check_new_object(call, tx)
    wanted = _wanted_algorithm(call)
    source, row = _find_source(call, tx)
    if row["size"] > COPY_LIMIT:
        raise S3Error(
            "InvalidRequest",
            "The specified copy source is larger than the maximum allowable size for a copy source: "
            f"{COPY_LIMIT}",
        )
    directive = call.header("x-amz-metadata-directive") or "COPY"
    if directive not in ("COPY", "REPLACE"):
        raise invalid_argument("Unknown metadata directive.", "x-amz-metadata-directive", directive)
    old = find_object(call, tx)
    onto_itself = old is not None and old["id"] == row["id"]
    if onto_itself and directive == "COPY" and call.storage_class() == row["class"]:
        raise S3Error(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself without changing "
            "the object's metadata, storage class, website redirect location or encryption attributes.",
        )
    check_write(call, old)
    replaces, tagged = directive == "REPLACE", _replaces_tags(call)
    etag, checksum = _as_a_whole(call.store, tx, row, wanted)
    pieces = _linked(call.store, tx, row)
    meter_reading(tx, source.place, row["class"], row["size"])
    number, version = insert_object(
        call,
        tx,
        size=row["size"],
        etag=etag,
        checksum=checksum,
        parts=0,
        storage_class=call.storage_class(),
        headers=json.dumps(call.object_headers() if replaces else _copied_headers(call, row)),
        tags=json.dumps(header_tags(call)) if tagged else row["tags"],
        lock=wanted_lock(call, tx),
    )
    tx.db.executemany(
        "INSERT INTO object_pieces VALUES (?, ?, ?, ?, ?, ?)", [(number, *piece) for piece in pieces]
    )
    nodes: list[Node] = [
        ("LastModified", iso_date(tx.now_ms)),
        ("ETag", f'"{etag}"'),
        (ALGORITHMS[checksum[0]].element, checksum[1]),
        ("ChecksumType", checksum[2]),
    ]
    told = _source_header(source, row)
    return xml_answer(document("CopyObjectResult", nodes), {**SSE, **new_version_header(version), **told})


def _copied_headers(call: S3Call, row: sqlite3.Row) -> Mapping[str, str]:
    """The source's headers, but for the redirect, which is never copied: the request may name another."""
    redirect = call.header(REDIRECT)
    kept = {name: value for name, value in json.loads(row["headers"]).items() if name != REDIRECT}
    return kept if redirect is None else {**kept, REDIRECT: redirect}


def _wanted_algorithm(call: S3Call) -> str | None:
    """The algorithm that the copy's checksum is to be of; None: that of the source."""
    name = call.header("x-amz-checksum-algorithm")
    if name is not None and name.upper() not in ALGORITHMS:
        raise S3Error("InvalidRequest", "Checksum algorithm provided is unsupported. Please try again.")
    return None if name is None else name.upper()


def _replaces_tags(call: S3Call) -> bool:
    directive = call.header("x-amz-tagging-directive") or "COPY"
    if directive not in ("COPY", "REPLACE"):
        raise invalid_argument("Unknown tagging directive.", "x-amz-tagging-directive", directive)
    return directive == "REPLACE"


def _as_a_whole(
    store: Store, tx: Transaction, row: sqlite3.Row, wanted: str | None
) -> tuple[str, tuple[str, str, str]]:
    """The ETag of a copy, and its checksum: algorithm, value, type."""
    name = wanted or row["algorithm"]
    if not row["parts"] and name == row["algorithm"]:
        return row["etag"], (name, row["checksum"], FULL)
    algorithm = ALGORITHMS[name]
    digests = Digests(algorithm, payload=False)
    for data in _read(store, tx, row, 0, row["size"]):
        digests.first_half(memoryview(data))
        digests.second_half(memoryview(data))
    return digests.md5.hexdigest(), (name, digests.checksum(algorithm), FULL)


def _source_header(source: Bucket, row: sqlite3.Row) -> Mapping[str, str]:
    """The header with the version that was copied."""
    found = version_header(source.versioning, row).get(ID)
    return {} if found is None else {"x-amz-copy-source-version-id": found}


def _linked(store: Store, tx: Transaction, row: sqlite3.Row) -> list[tuple[object, ...]]:
    pieces = tx.db.execute(
        "SELECT number, start, length, file, checksum FROM object_pieces WHERE object = ?", (row["id"],)
    ).fetchall()
    linked: list[tuple[object, ...]] = []
    for number, start, length, file, checksum in pieces:
        name = store.new_file()
        tx.made.append(name)
        os.link(store.path(file), store.path(name))
        linked.append((number, start, length, name, checksum))
    return linked


def upload_part_copy(call: S3Call, tx: Transaction) -> Answer:
    """Copy another object, or a range of it, as a part, within one transaction."""
    number, upload = part_number(call), find_upload(call, tx)
    source, row = _find_source(call, tx)
    first, end = _copy_range(call.header("x-amz-copy-source-range"), row["size"])
    meter_reading(tx, source.place, row["class"], end - first)
    stored = _copied(call.store, tx, row, first, end, upload["algorithm"])
    write_part(call, tx, upload, number, stored)
    nodes: list[Node] = [("LastModified", iso_date(tx.now_ms)), ("ETag", f'"{stored.md5}"')]
    if upload["asked"]:
        nodes.append((ALGORITHMS[upload["algorithm"]].element, stored.checksum))
    return xml_answer(document("CopyPartResult", nodes), {**SSE, **_source_header(source, row)})


def _copy_range(text: str | None, size: int) -> tuple[int, int]:
    if text is None:
        return 0, size
    found = _RANGE.fullmatch(text)
    if found is None or not int(found[1]) <= int(found[2]) < size:
        raise invalid_argument(
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are "
            "the zero-based offsets of the first and last bytes to copy",
            "x-amz-copy-source-range",
            text,
        )
    return int(found[1]), int(found[2]) + 1


def _copied(store: Store, tx: Transaction, row: sqlite3.Row, first: int, end: int, algorithm: str) -> Stored:
    chosen, name = ALGORITHMS[algorithm], store.new_file()
    tx.made.append(name)
    digests = Digests(chosen, payload=False)
    with store.path(name).open("xb") as target:
        for data in _read(store, tx, row, first, end):
            target.write(data)
            digests.first_half(memoryview(data))
            digests.second_half(memoryview(data))
    return Stored(name, digests.size, digests.md5.hexdigest(), algorithm, digests.checksum(chosen))


def _read(store: Store, tx: Transaction, row: sqlite3.Row, first: int, end: int) -> Iterator[bytes]:
    """An object's bytes from `first` to before `end`, some at a time."""
    pieces = tx.db.execute(
        "SELECT start, length, file FROM object_pieces WHERE object = ? ORDER BY number", (row["id"],)
    ).fetchall()
    for piece in pieces:
        low, high = max(first, piece["start"]), min(end, piece["start"] + piece["length"])
        if low >= high:
            continue
        with store.path(piece["file"]).open("rb") as source:
            source.seek(low - piece["start"])
            left = high - low
            while left:
                data = source.read(min(left, 4 * 1024 * 1024))
                left -= len(data)
                yield data
