"""Objects: put, head, get, delete.

Source: S3 API Reference (PutObject, GetObject, HeadObject, DeleteObject, DeleteObjects).
"""

from __future__ import annotations

import json
import re
import sqlite3
from urllib.parse import unquote

from backup.emulator.core.s3_errors import S3Error, not_implemented
from backup.emulator.core.state.meter import begin_storing
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer, Extent, http_date
from backup.emulator.s3.buckets.object_lock import (
    WantedLock,
    check_has_checksum,
    lock_headers,
    lock_new,
    wanted_lock,
)
from backup.emulator.s3.call import S3Call, find_object, need_object
from backup.emulator.s3.request.checksums import ALGORITHMS, FULL
from backup.emulator.s3.request.receive import Stored

from .conditions import check_read, check_write
from .restore import is_readable, restore_header
from .versioning import (
    make_room,
    new_version_header,
    remove_newest,
    remove_version,
    version_header,
)

KEY_BYTES = 1024
SSE = {"x-amz-server-side-encryption": "AES256"}
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_OVERRIDES = (
    *("content-type", "content-language", "expires", "cache-control", "content-disposition"),
    "content-encoding",
)


def check_new_object(call: S3Call, tx: Transaction) -> None:
    """Check a new object before its body arrives."""
    if len(call.raw_key) > KEY_BYTES:
        raise S3Error(
            "KeyTooLongError", None, {"Size": str(len(call.raw_key)), "MaxSizeAllowed": str(KEY_BYTES)}
        )
    if call.header("x-amz-server-side-encryption") not in (None, "AES256"):
        raise not_implemented("x-amz-server-side-encryption")
    if call.names_an_acl(("private", "bucket-owner-full-control")):
        raise S3Error("AccessControlListNotSupported")
    if call.operation == "PutObject":
        check_has_checksum(call)
    call.storage_class()
    call.object_headers()
    header_tags(call)
    wanted_lock(call, tx)
    check_write(call, find_object(call, tx))


def header_tags(call: S3Call) -> dict[str, str]:
    """The tags of `x-amz-tagging`, at most 10."""
    text = call.header("x-amz-tagging") or ""
    pairs = [part.partition("=") for part in text.split("&") if part]
    tags = {unquote(name.replace("+", " ")): unquote(value.replace("+", " ")) for name, _, value in pairs}
    return check_tags(tags, len(pairs))


def check_tags(tags: dict[str, str], count: int) -> dict[str, str]:
    """Check tags: at most 10, each key once."""
    if count > 10:
        raise S3Error("BadRequest", "Object tags cannot be greater than 10")
    if len(tags) != count or any(not key or len(key) > 128 or len(tags[key]) > 256 for key in tags):
        raise S3Error("InvalidTag", "The TagKey or TagValue you have provided is invalid")
    return tags


def put_object(call: S3Call, tx: Transaction, stored: Stored) -> Answer:
    """Store the object, as a new version or in place of an earlier one, atomically."""
    old = find_object(call, tx)
    check_write(call, old)
    number, version = insert_object(
        call,
        tx,
        size=stored.size,
        etag=stored.md5,
        checksum=(stored.algorithm, stored.checksum, FULL),
        parts=0,
        storage_class=call.storage_class(),
        headers=json.dumps(call.object_headers()),
        tags=json.dumps(header_tags(call)),
        lock=wanted_lock(call, tx),
    )
    tx.db.execute(
        "INSERT INTO object_pieces VALUES (?, 1, 0, ?, ?, ?)",
        (number, stored.size, stored.file, stored.checksum),
    )
    headers = {"ETag": f'"{stored.md5}"', **SSE, **checksum_headers(stored.algorithm, stored.checksum, FULL)}
    return Answer(200, {**headers, **new_version_header(version)})


def insert_object(
    call: S3Call,
    tx: Transaction,
    *,
    size: int,
    etag: str,
    checksum: tuple[str, str, str],
    parts: int,
    storage_class: str,
    headers: str,
    tags: str,
    lock: WantedLock,
) -> tuple[int, str]:
    """Make a row for a new version of the key; its number and version id. The caller records the pieces."""
    version = make_room(tx, call.at.id, call.raw_key, call.at.versioning)
    cursor = tx.db.execute(
        "INSERT INTO objects (bucket, key, size, etag, created_ms, class, headers, tags, algorithm, "
        "checksum, checksum_type, parts, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(call.at.id, call.raw_key, size, etag, tx.now_ms, storage_class, headers, tags),
            *(*checksum, parts, version),
        ),
    )
    number = int(cursor.lastrowid or 0)
    lock_new(call, tx, number, lock)
    begin_storing(tx, call.at.place, f"object {number}", f"s3:{storage_class}", size)
    return number, version


def checksum_headers(algorithm: str, checksum: str, kind: str) -> dict[str, str]:
    """The two headers with an object's checksum and its type."""
    return {ALGORITHMS[algorithm].header: checksum, "x-amz-checksum-type": kind}


def head_object(call: S3Call, tx: Transaction) -> Answer:
    """The headers of an object, frozen or not."""
    return _described(call, tx, need_object(call, tx))


def get_object(call: S3Call, tx: Transaction) -> Answer:
    """The object or a range of it; a frozen one is refused."""
    row = need_object(call, tx)
    if not is_readable(row, tx.now_ms):
        raise S3Error("InvalidObjectState", None, {"StorageClass": row["class"]})
    return _described(call, tx, row)


def _described(call: S3Call, tx: Transaction, row: sqlite3.Row) -> Answer:
    headers = {"ETag": f'"{row["etag"]}"', "Last-Modified": http_date(row["created_ms"])}
    headers |= version_header(call.at.versioning, row)
    if not check_read(call, row):
        return Answer(304, headers)
    headers |= {"Accept-Ranges": "bytes", **SSE, **json.loads(row["headers"])}
    if row["class"] != "STANDARD":
        headers["x-amz-storage-class"] = row["class"]
    restored = restore_header(row, tx.now_ms)
    if restored is not None:
        headers["x-amz-restore"] = restored
    headers |= lock_headers(call, row)
    tags = json.loads(row["tags"])
    if tags:
        headers["x-amz-tagging-count"] = str(len(tags))
    for name in _OVERRIDES:
        if f"response-{name}" in call.query:
            headers[name] = re.sub(r"[^\x20-\x7e\xa0-\xff]", "", call.query[f"response-{name}"])
    return _body(call, tx, row, headers)


def _body(call: S3Call, tx: Transaction, row: sqlite3.Row, headers: dict[str, str]) -> Answer:
    size = row["size"]
    pieces = tx.db.execute(
        "SELECT number, start, length, file, checksum FROM object_pieces WHERE object = ? ORDER BY number",
        (row["id"],),
    ).fetchall()
    shows_checksum = (call.header("x-amz-checksum-mode") or "").upper() == "ENABLED"
    status, first, end = 200, 0, size
    if "partNumber" in call.query:
        status, first, end, headers = _part(call, row, pieces, headers)
    found = _range(call.header("range"), size) if "partNumber" not in call.query else None
    if found is not None:
        status, (first, end) = 206, found
    if status == 206:
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
    if shows_checksum and found is None and "partNumber" not in call.query:
        headers |= checksum_headers(row["algorithm"], row["checksum"], row["checksum_type"])
    if call.operation == "HeadObject":
        return Answer(status, headers, told=end - first)
    extents = []
    for piece in pieces:
        low, high = max(first, piece["start"]), min(end, piece["start"] + piece["length"])
        if low < high:
            extents.append(Extent(call.store.path(piece["file"]), low - piece["start"], high - low))
    held = call.store.hold([extent.path.name for extent in extents])  # S3 goes on with what it began to send
    return Answer(status, headers, extents=tuple(extents), held=held)


def _part(
    call: S3Call, row: sqlite3.Row, pieces: list[sqlite3.Row], headers: dict[str, str]
) -> tuple[int, int, int, dict[str, str]]:
    number = call.number("partNumber", 1, low=1, high=10_000)
    if call.header("range") is not None:
        raise S3Error("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
    if number > max(row["parts"], 1):
        raise S3Error("InvalidPartNumber")
    if row["parts"]:
        headers = {**headers, "x-amz-mp-parts-count": str(row["parts"])}
    if not row["size"]:
        return 200, 0, 0, headers
    if not row["parts"]:  # even a copy of an object in parts, which keeps its files, is one whole
        return 206, 0, row["size"], headers
    piece = pieces[number - 1]
    return 206, piece["start"], piece["start"] + piece["length"], headers


def _range(text: str | None, size: int) -> tuple[int, int] | None:
    """First byte and end (exclusive); None for no range or one that is ignored; 416 beyond the end."""
    found = _RANGE.fullmatch(text.strip()) if text else None
    if text is None or found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        first, last = max(0, size - int(found[2])), size - 1
        beyond = not int(found[2])
    else:
        first = int(found[1])
        last = min(int(found[2]), size - 1) if found[2] else size - 1
        if found[2] and int(found[2]) < first:
            return None
        beyond = first >= size
    if beyond or not size:
        details = {"RangeRequested": text, "ActualObjectSize": str(size)}
        raise S3Error("InvalidRange", None, details, {"Content-Range": f"bytes */{size}"})
    return first, last + 1


def delete_object(call: S3Call, tx: Transaction) -> Answer:
    """Delete an object, or one version of it; 204 whether it existed or not; with If-Match only that etag."""
    check_write(call, find_object(call, tx), deleting=True)
    version = call.query.get("versionId")
    if version is None:
        return Answer(204, remove_newest(tx, call.at.place, call.at.id, call.raw_key))
    return Answer(204, remove_version(call, tx, version))
