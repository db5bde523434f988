"""Versions and delete markers: a bucket keeps them when an object is replaced or deleted.

Source: S3 User Guide (Versioning, DeleteMarker, AddingObjectstoVersionSuspendedBuckets). The newest version
of a key is the one made last. Without versioning, and with it suspended, each key has a version `null`, which
the next such write replaces; what was kept before stays.
"""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
import string
from collections.abc import Mapping

from backup.emulator.core.s3_errors import S3Error
from backup.emulator.core.state.meter import BilledStore, begin_storing
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer
from backup.emulator.s3.buckets.documents import read_document, write_document, xml_answer
from backup.emulator.s3.buckets.object_lock import check_unlocked
from backup.emulator.s3.call import S3Call
from backup.emulator.s3.removing import remove_objects
from backup.emulator.s3.xml import document, parse

NULL = "null"
ENABLED, SUSPENDED = "Enabled", "Suspended"
ID, MARKER = "x-amz-version-id", "x-amz-delete-marker"
_LETTERS = string.ascii_letters + string.digits + "._"


def put_versioning(call: S3Call, tx: Transaction) -> Answer:
    """Enable or suspend versioning; a bucket never returns to the state before."""
    wanted = parse(call.body, "VersioningConfiguration")
    status = wanted.get("Status")
    if wanted.get("MfaDelete") == ENABLED:
        raise S3Error("NotImplemented", "The emulator has no MFA.")
    if status not in (ENABLED, SUSPENDED):
        raise S3Error("MalformedXML")
    if call.at.lock is not None and status != ENABLED:
        told = "An Object Lock configuration is present on this bucket, so the versioning state cannot be"
        raise S3Error("InvalidBucketState", f"{told} changed.")
    write_document(tx, call.at.id, "versioning", status)
    return Answer(200)


def get_versioning(call: S3Call, tx: Transaction) -> Answer:
    """The status; nothing for a bucket that never had versions."""
    return xml_answer(document("VersioningConfiguration", [("Status", status_of(tx, call.at.id))]))


def status_of(tx: Transaction, bucket: int) -> str | None:
    """Enabled, Suspended, or None for a bucket that never had versions."""
    return read_document(tx, bucket, "versioning")


def make_room(tx: Transaction, bucket: int, key: bytes, status: str | None) -> str:
    """Let a new version of the key be the newest, and return its id; `status` is that of the bucket."""
    version = _new_id(tx) if status == ENABLED else NULL
    if version == NULL:
        remove_objects(tx, [row["id"] for row in _versions(tx, bucket, key) if row["version"] == NULL])
    tx.db.execute(
        "UPDATE objects SET is_latest = 0 WHERE bucket = ? AND key = ? AND is_latest = 1", (bucket, key)
    )
    return version


def _new_id(tx: Transaction) -> str:
    """A version id that begins with the number that the version's row will have."""
    row = tx.db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'objects'").fetchone()
    following = 1 if row is None else row["seq"] + 1
    return f"{following:012x}" + "".join(secrets.choice(_LETTERS) for _ in range(20))


def number_of(version: str) -> int:
    """The number in a version id; 0 in one that was not made here."""
    return int(version[:12], 16) if re.fullmatch(r"[0-9a-f]{12}", version[:12]) else 0


def _versions(tx: Transaction, bucket: int, key: bytes) -> list[sqlite3.Row]:
    """All versions of a key, the newest first."""
    found = "SELECT id, version FROM objects WHERE bucket = ? AND key = ? ORDER BY id DESC"
    return tx.db.execute(found, (bucket, key)).fetchall()


def remove_newest(tx: Transaction, place: BilledStore, bucket: int, key: bytes) -> Mapping[str, str]:
    """Delete a key without naming a version; the answer's headers. Where versions are kept it is hidden by a
    delete marker, even if there is no such key."""
    status = status_of(tx, bucket)
    if status is None:
        remove_objects(tx, [row["id"] for row in _versions(tx, bucket, key)])
        return {}
    version = make_room(tx, bucket, key, status)
    cursor = tx.db.execute(
        "INSERT INTO objects (bucket, key, size, etag, created_ms, class, headers, algorithm, checksum, "
        "checksum_type, version, is_marker) VALUES (?, ?, 0, '', ?, 'STANDARD', ?, '', '', '', ?, 1)",
        (bucket, key, tx.now_ms, json.dumps({}), version),
    )
    begin_storing(tx, place, f"object {cursor.lastrowid}", "s3:STANDARD", len(key))  # its name is billed
    return {MARKER: "true", ID: version}


def remove_version(call: S3Call, tx: Transaction, version: str) -> Mapping[str, str]:
    """Delete a version for good; the one before it is the newest then. The answer's headers."""
    bucket, key = call.at.id, call.raw_key
    row = tx.db.execute(
        "SELECT * FROM objects WHERE bucket = ? AND key = ? AND version = ?", (bucket, key, version)
    ).fetchone()
    told = {ID: version}
    if row is None:
        return told
    check_unlocked(call, tx, row)
    remove_objects(tx, [row["id"]])
    left = _versions(tx, bucket, key)
    if left:
        tx.db.execute("UPDATE objects SET is_latest = 1 WHERE id = ?", (left[0]["id"],))
    return {**told, MARKER: "true"} if row["is_marker"] else told


def version_header(status: str | None, row: sqlite3.Row) -> Mapping[str, str]:
    """The header with the version of an object, where versions are or were kept, as the status says."""
    return {} if status is None else {ID: row["version"]}


def new_version_header(version: str) -> Mapping[str, str]:
    """The header with the version that was stored; none for `null`."""
    return {} if version == NULL else {ID: version}
