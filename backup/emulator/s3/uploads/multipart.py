"""Multipart uploads: created, filled in any order, listed, aborted.

Source: S3 API Reference (CreateMultipartUpload, UploadPart, ListParts, ListMultipartUploads,
AbortMultipartUpload).
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterator

from backup.emulator.core.s3_errors import S3Error, invalid_argument
from backup.emulator.core.state.clock import DAY_MS
from backup.emulator.core.state.meter import begin_storing, end_storing
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer
from backup.emulator.s3.buckets.buckets import owner_id
from backup.emulator.s3.buckets.documents import xml_answer
from backup.emulator.s3.buckets.object_lock import wanted_lock
from backup.emulator.s3.call import S3Call, iso_date
from backup.emulator.s3.objects.listing import after
from backup.emulator.s3.objects.objects import SSE, check_new_object, header_tags
from backup.emulator.s3.removing import remove_upload
from backup.emulator.s3.request.checksums import ALGORITHMS, COMPOSITE, DEFAULT
from backup.emulator.s3.request.receive import Stored, claimed_algorithm, mismatched
from backup.emulator.s3.xml import Node, document, encoded

MOST_PARTS = 10_000
PAGE = 1000


def create_upload(call: S3Call, tx: Transaction) -> Answer:
    """Create an upload, with the class, metadata and checksum type of its future object."""
    check_new_object(call, tx)
    algorithm, kind = _wanted_checksum(call)
    lock = wanted_lock(call, tx)
    upload_id = secrets.token_urlsafe(96)
    tx.db.execute(
        "INSERT INTO object_uploads (upload_id, bucket, key, created_ms, class, headers, tags, algorithm, "
        "checksum_type, asked, retain_mode, retain_until_ms, legal_hold) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(upload_id, call.at.id, call.raw_key, tx.now_ms, call.storage_class()),
            *(json.dumps(call.object_headers()), json.dumps(header_tags(call))),
            *(algorithm or DEFAULT, kind, algorithm is not None),
            *(lock.mode, lock.until_ms, lock.hold),
        ),
    )
    headers = {"Content-Type": "application/xml", **SSE}
    if algorithm is not None:
        headers |= {"x-amz-checksum-algorithm": algorithm, "x-amz-checksum-type": kind}
    nodes: list[Node] = [("Bucket", call.at.name), ("Key", call.key), ("UploadId", upload_id)]
    return Answer(200, headers, document("InitiateMultipartUploadResult", nodes))


def _wanted_checksum(call: S3Call) -> tuple[str | None, str]:
    name, kind = call.header("x-amz-checksum-algorithm"), call.header("x-amz-checksum-type")
    if name is None:
        if kind is not None:
            raise S3Error(
                "InvalidRequest",
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
            )
        return None, ALGORITHMS[DEFAULT].types[0]
    algorithm = ALGORITHMS.get(name.upper())
    if algorithm is None:
        raise S3Error("InvalidRequest", "Checksum algorithm provided is unsupported. Please try again.")
    if kind is not None and kind not in ("COMPOSITE", "FULL_OBJECT"):
        raise S3Error("InvalidRequest", "Value for x-amz-checksum-type header is invalid.")
    if kind is not None and kind not in algorithm.types:
        raise S3Error(
            "InvalidRequest",
            f"The {kind} checksum type cannot be used with the {name.lower()} checksum algorithm.",
        )
    return algorithm.name, kind or algorithm.types[0]


def find_upload(call: S3Call, tx: Transaction) -> sqlite3.Row:
    """The open upload of this key; NoSuchUpload otherwise."""
    row: sqlite3.Row | None = tx.db.execute(
        "SELECT * FROM object_uploads WHERE upload_id = ? AND bucket = ? AND key = ? AND state = 'open'",
        (call.query.get("uploadId", ""), call.at.id, call.raw_key),
    ).fetchone()
    if row is None:
        raise S3Error("NoSuchUpload", None, {"UploadId": call.query.get("uploadId", "")})
    return row


def part_number(call: S3Call) -> int:
    """The part number in the query, 1 to 10,000."""
    try:
        return call.number("partNumber", 0, low=1, high=MOST_PARTS)
    except S3Error as error:
        raise invalid_argument(
            "Part number must be an integer between 1 and 10000, inclusive",
            "partNumber",
            call.query.get("partNumber", ""),
        ) from error


def check_part(call: S3Call, tx: Transaction) -> str | None:
    """Check a part before its body arrives; return the checksum algorithm of the upload.

    If the upload named none, a part may have any checksum, as s3fs sends them.
    """
    part_number(call)
    row = find_upload(call, tx)
    given = claimed_algorithm(call)
    if row["asked"] and given not in (None, row["algorithm"]):
        raise mismatched(row["algorithm"], given)
    return str(row["algorithm"])


def upload_part(call: S3Call, tx: Transaction, stored: Stored) -> Answer:
    """Store a part, replacing an earlier one of its number."""
    row = find_upload(call, tx)
    if row["asked"] and row["checksum_type"] == COMPOSITE and stored.claimed is None:
        raise mismatched(row["algorithm"], None)
    write_part(call, tx, row, part_number(call), stored)
    headers = {"ETag": f'"{stored.md5}"', **SSE}
    if stored.claimed is not None:
        headers |= dict([stored.claimed])
    return Answer(200, headers)


def write_part(call: S3Call, tx: Transaction, upload: sqlite3.Row, number: int, stored: Stored) -> None:
    """Record a part, and delete the one it replaces."""
    old = tx.db.execute(
        "SELECT file FROM object_parts WHERE upload = ? AND number = ?", (upload["id"], number)
    ).fetchone()
    if old is not None:
        tx.discarded.append(old["file"])
    tx.db.execute(
        "INSERT OR REPLACE INTO object_parts VALUES (?, ?, ?, ?, ?, ?, ?)",
        (upload["id"], number, stored.size, stored.file, stored.md5, stored.checksum, tx.now_ms),
    )
    part = f"part {upload['id']}/{number}"
    end_storing(tx, part)
    begin_storing(tx, call.at.place, part, "s3:STANDARD", stored.size, item="parts")


def abort_upload(call: S3Call, tx: Transaction) -> Answer:
    """Delete the upload and its parts."""
    remove_upload(tx, find_upload(call, tx)["id"])
    return Answer(204)


def list_parts(call: S3Call, tx: Transaction) -> Answer:
    """An open upload's parts by number."""
    row = find_upload(call, tx)
    limit = call.max_of("max-parts", PAGE)
    marker = call.number("part-number-marker", 0)
    parts = tx.db.execute(
        "SELECT * FROM object_parts WHERE upload = ? AND number > ? ORDER BY number LIMIT ?",
        (row["id"], marker, limit + 1),
    ).fetchall()
    shown, asked = parts[:limit], bool(row["asked"])
    element = ALGORITHMS[row["algorithm"]].element
    nodes: list[Node] = [
        ("Bucket", call.at.name),
        ("Key", encoded(call.key, call.query.get("encoding-type"))),
        ("UploadId", row["upload_id"]),
        *_who(call.at.account_id),
        ("StorageClass", row["class"]),
        ("PartNumberMarker", marker),
        ("NextPartNumberMarker", shown[-1]["number"] if shown else 0),
        ("MaxParts", limit),
        ("IsTruncated", len(parts) > limit),
        ("ChecksumAlgorithm", row["algorithm"] if asked else None),
        ("ChecksumType", row["checksum_type"] if asked else None),
        *(
            (
                "Part",
                [
                    ("PartNumber", part["number"]),
                    ("LastModified", iso_date(part["created_ms"])),
                    ("ETag", f'"{part["etag"]}"'),
                    ("Size", part["length"]),
                    (element, part["checksum"] if asked else None),
                ],
            )
            for part in shown
        ),
    ]
    return xml_answer(document("ListPartsResult", nodes))


def _who(account: str) -> list[Node]:
    person: list[Node] = [("ID", owner_id(account)), ("DisplayName", account)]
    return [("Initiator", person), ("Owner", person)]


def list_uploads(call: S3Call, tx: Transaction) -> Answer:
    """The bucket's open uploads by key and upload id, with prefix, delimiter and markers."""
    query, encoding = call.query, call.query.get("encoding-type")
    limit = call.max_of("max-uploads", PAGE)
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    found = list(_uploads(call, tx, prefix.encode(), delimiter.encode(), limit + 1))
    shown, is_truncated = found[:limit], len(found) > limit
    last_key, last_upload = ("", "")
    if is_truncated and shown:
        row, common = shown[-1]
        last_key = (common if row is None else bytes(row["key"])).decode()
        last_upload = "" if row is None else row["upload_id"]
    nodes: list[Node] = [
        ("Bucket", call.at.name),
        ("KeyMarker", encoded(query.get("key-marker", ""), encoding)),
        ("UploadIdMarker", query.get("upload-id-marker", "")),
        ("NextKeyMarker", encoded(last_key, encoding) if is_truncated else None),
        ("NextUploadIdMarker", last_upload if is_truncated else None),
        ("Prefix", encoded(prefix, encoding)),
        ("Delimiter", encoded(delimiter, encoding) if delimiter else None),
        ("EncodingType", encoding),
        ("MaxUploads", limit),
        ("IsTruncated", is_truncated),
        *(("Upload", _upload(call, row, encoding)) for row, _ in shown if row is not None),
        *(
            ("CommonPrefixes", [("Prefix", encoded(common.decode(), encoding))])
            for row, common in shown
            if row is None
        ),
    ]
    return xml_answer(document("ListMultipartUploadsResult", nodes))


def _uploads(
    call: S3Call, tx: Transaction, prefix: bytes, delimiter: bytes, limit: int
) -> Iterator[tuple[sqlite3.Row | None, bytes]]:
    """At most `limit` rows or common prefixes after the markers."""
    key, upload = call.query.get("key-marker", "").encode(), call.query.get("upload-id-marker", "")
    if key and delimiter and key.endswith(delimiter) and key.startswith(prefix):
        key, upload = after(key), ""
    if key and not upload:
        key += b"\x00"
    key = max(key, prefix)
    count = 0
    while count < limit:
        row = tx.db.execute(
            "SELECT * FROM object_uploads WHERE bucket = ? AND state = 'open' AND (key > ? OR (key = ? AND "
            "upload_id > ?)) ORDER BY key, upload_id LIMIT 1",
            (call.at.id, key, key, upload),
        ).fetchone()
        if row is None or not bytes(row["key"]).startswith(prefix):
            return
        key, upload = bytes(row["key"]), row["upload_id"]
        at = key.find(delimiter, len(prefix)) if delimiter else -1
        count += 1
        if at < 0:
            yield row, b""
            continue
        common = key[: at + len(delimiter)]
        yield None, common
        key, upload = after(common), ""


def _upload(call: S3Call, row: sqlite3.Row, encoding: str | None) -> list[Node]:
    asked = bool(row["asked"])
    return [
        ("Key", encoded(bytes(row["key"]).decode(), encoding)),
        ("UploadId", row["upload_id"]),
        *_who(call.at.account_id),
        ("StorageClass", row["class"]),
        ("Initiated", iso_date(row["created_ms"])),
        ("ChecksumAlgorithm", row["algorithm"] if asked else None),
        ("ChecksumType", row["checksum_type"] if asked else None),
    ]


def forget_completed(tx: Transaction) -> None:
    """Delete the records of uploads completed over a day ago; until then Complete may be repeated."""
    tx.db.execute(
        "DELETE FROM object_uploads WHERE state = 'completed' AND completed_ms < ?", (tx.now_ms - DAY_MS,)
    )
