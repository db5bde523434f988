"""CompleteMultipartUpload: make one object of the named parts, if all checksums and conditions hold.

Source: S3 API Reference (CompleteMultipartUpload), S3 User Guide (checking-object-integrity).
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Mapping
from itertools import pairwise

from msgspec import Struct

from backup.emulator.core.s3_errors import S3Error
from backup.emulator.core.state.meter import end_storing
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer
from backup.emulator.s3.buckets.documents import xml_answer
from backup.emulator.s3.buckets.object_lock import WantedLock
from backup.emulator.s3.call import S3Call, find_object
from backup.emulator.s3.objects.conditions import check_write
from backup.emulator.s3.objects.objects import SSE, insert_object
from backup.emulator.s3.objects.versioning import new_version_header
from backup.emulator.s3.request.checksums import ALGORITHMS, BY_HEADER, COMPOSITE, Algorithm
from backup.emulator.s3.request.receive import bad_checksum
from backup.emulator.s3.xml import Element, Node, document, parse

from .multipart import MOST_PARTS, find_upload


class Named(Struct, frozen=True):
    """A part as named in the request."""

    number: int
    etag: str
    checksums: tuple[tuple[str, str], ...]


def complete_upload(call: S3Call, tx: Transaction) -> Answer:
    """Make the object atomically; parts that are not named are deleted."""
    wanted = _named_parts(call)
    done = _completed(call, tx)
    if done is not None:
        return _again(call, tx, done)
    upload = find_upload(call, tx)
    rows = _stored_parts(tx, upload, wanted)
    _check_sizes(call, rows, wanted)
    algorithm = ALGORITHMS[upload["algorithm"]]
    if upload["asked"]:
        _check_checksums(upload, algorithm, wanted, rows)
    checksum = _checksum(call, upload, algorithm, rows)
    size = sum(row["length"] for row in rows)
    _check_size(call, size)
    check_write(call, find_object(call, tx))
    digest = hashlib.md5(b"".join(bytes.fromhex(row["etag"]) for row in rows), usedforsecurity=False)
    number, version = insert_object(
        call,
        tx,
        size=size,
        etag=f"{digest.hexdigest()}-{len(rows)}",
        checksum=(upload["algorithm"], checksum, upload["checksum_type"]),
        parts=len(rows),
        storage_class=upload["class"],
        headers=upload["headers"],
        tags=upload["tags"],
        lock=WantedLock(upload["retain_mode"], upload["retain_until_ms"], upload["legal_hold"]),
    )
    _move_parts(tx, upload, number, rows)
    tx.db.execute(
        "UPDATE object_uploads SET state = 'completed', object = ?, completed_ms = ?, wanted = ? "
        "WHERE id = ?",
        (number, tx.now_ms, _fingerprint(call), upload["id"]),
    )
    made = _object(tx, number)
    assert made is not None  # noqa: S101
    return _answer(call, made, new_version_header(version))


def _named_parts(call: S3Call) -> list[Named]:
    parts = [_named(node) for node in parse(call.body, "CompleteMultipartUpload").children("Part")]
    if not 1 <= len(parts) <= MOST_PARTS:
        raise S3Error("MalformedXML")
    if any(part.number >= other.number for part, other in pairwise(parts)):
        raise S3Error("InvalidPartOrder", None, {"UploadId": call.query["uploadId"]})
    return parts


def _named(node: Element) -> Named:
    number = node.number("PartNumber", low=1, high=MOST_PARTS)
    if number is None:
        raise S3Error("MalformedXML")
    names = {algorithm.element: algorithm.name for algorithm in ALGORITHMS.values()}
    checksums = tuple((names[child.name], child.text) for child in node.children() if child.name in names)
    return Named(number, node.required("ETag").strip('"'), checksums)


def _fingerprint(call: S3Call) -> str:
    return hashlib.sha256(call.body).hexdigest()


def _completed(call: S3Call, tx: Transaction) -> sqlite3.Row | None:
    """The completed upload of this id, if the setting allows repeating Complete."""
    row: sqlite3.Row | None = tx.db.execute(
        "SELECT * FROM object_uploads WHERE upload_id = ? AND bucket = ? AND key = ? AND state = 'completed'",
        (call.query["uploadId"], call.at.id, call.raw_key),
    ).fetchone()
    return row if call.settings.repeat_complete else None


def _again(call: S3Call, tx: Transaction, upload: sqlite3.Row) -> Answer:
    """The answer to a repeated Complete: that of the first, as long as its object exists."""
    row = _object(tx, upload["object"])
    if row is None or upload["wanted"] != _fingerprint(call):
        raise S3Error("NoSuchUpload", None, {"UploadId": upload["upload_id"]})
    return _answer(call, row, new_version_header(row["version"]))


def _object(tx: Transaction, number: int) -> sqlite3.Row | None:
    row: sqlite3.Row | None = tx.db.execute("SELECT * FROM objects WHERE id = ?", (number,)).fetchone()
    return row


def _stored_parts(tx: Transaction, upload: sqlite3.Row, wanted: list[Named]) -> list[sqlite3.Row]:
    stored = {
        row["number"]: row
        for row in tx.db.execute("SELECT * FROM object_parts WHERE upload = ?", (upload["id"],))
    }
    for part in wanted:
        row = stored.get(part.number)
        if row is None or row["etag"] != part.etag:
            details = {"UploadId": upload["upload_id"], "PartNumber": str(part.number), "ETag": part.etag}
            raise S3Error("InvalidPart", None, details)
    return [stored[part.number] for part in wanted]


def _check_sizes(call: S3Call, rows: list[sqlite3.Row], wanted: list[Named]) -> None:
    least = call.settings.minimum_part_bytes
    for row, part in zip(rows[:-1], wanted, strict=False):
        if row["length"] < least:
            details = {
                "ProposedSize": str(row["length"]),
                "MinSizeAllowed": str(least),
                "PartNumber": str(part.number),
                "ETag": part.etag,
            }
            raise S3Error("EntityTooSmall", None, details)


def _check_checksums(
    upload: sqlite3.Row, algorithm: Algorithm, wanted: list[Named], rows: list[sqlite3.Row]
) -> None:
    for part, row in zip(wanted, rows, strict=True):
        given = dict(part.checksums).get(algorithm.name)
        if given is None and upload["checksum_type"] == COMPOSITE:
            raise S3Error(
                "InvalidRequest",
                f"The upload was created using a {algorithm.name.lower()} checksum. The complete request "
                f"must include the checksum for each part. It was missing for part {part.number} in the "
                "request.",
            )
        if given is not None and given != row["checksum"]:
            details = {"PartNumber": str(part.number), "ETag": part.etag}
            raise S3Error("InvalidPart", None, details)


def _checksum(call: S3Call, upload: sqlite3.Row, algorithm: Algorithm, rows: list[sqlite3.Row]) -> str:
    kind = call.header("x-amz-checksum-type")
    if kind is not None and kind != upload["checksum_type"]:
        raise S3Error(
            "InvalidRequest",
            f"The upload was created using the {upload['checksum_type']} checksum mode. The complete request "
            "must use the same checksum mode.",
        )
    if upload["checksum_type"] == COMPOSITE:
        computed = algorithm.composite([row["checksum"] for row in rows])
    else:
        computed = algorithm.joined([(row["checksum"], row["length"]) for row in rows])
    for header, other in BY_HEADER.items():
        claimed = call.header(header)
        if claimed is not None and other is not algorithm:
            raise bad_checksum(other)
        if claimed is not None and claimed not in (computed, computed.partition("-")[0]):
            raise bad_checksum(algorithm)
    return computed


def _check_size(call: S3Call, size: int) -> None:
    claimed = call.header("x-amz-mp-object-size")
    if claimed is None:
        return
    if not re.fullmatch(r"[0-9]{1,18}", claimed):
        raise S3Error("InvalidRequest", "Value for x-amz-mp-object-size header is invalid.")
    if int(claimed) != size:
        raise S3Error(
            "InvalidRequest",
            f"The provided 'x-amz-mp-object-size' header value {claimed} does not match what was computed: "
            f"{size}",
        )


def _move_parts(tx: Transaction, upload: sqlite3.Row, number: int, rows: list[sqlite3.Row]) -> None:
    start, pieces = 0, []
    for position, row in enumerate(rows, 1):
        pieces.append((number, position, start, row["length"], row["file"], row["checksum"]))
        start += row["length"]
    tx.db.executemany("INSERT INTO object_pieces VALUES (?, ?, ?, ?, ?, ?)", pieces)
    kept = {row["file"] for row in rows}
    files = tx.db.execute(
        "SELECT number, file FROM object_parts WHERE upload = ?", (upload["id"],)
    ).fetchall()
    tx.discarded += [row["file"] for row in files if row["file"] not in kept]
    for row in files:
        end_storing(tx, f"part {upload['id']}/{row['number']}")
    tx.db.execute("DELETE FROM object_parts WHERE upload = ?", (upload["id"],))


def _answer(call: S3Call, row: sqlite3.Row, version: Mapping[str, str]) -> Answer:
    host = call.header("host") or ""
    scheme = "https" if call.secure else "http"
    nodes: list[Node] = [
        ("Location", f"{scheme}://{host}/{call.at.name}/{call.key}"),
        ("Bucket", call.at.name),
        ("Key", call.key),
        ("ETag", f'"{row["etag"]}"'),
        (ALGORITHMS[row["algorithm"]].element, row["checksum"]),
        ("ChecksumType", row["checksum_type"]),
    ]
    return xml_answer(document("CompleteMultipartUploadResult", nodes), {**SSE, **version})
