"""Lifecycle rules applied by the emulator's clock, to the newest versions of objects.

Source: S3 User Guide (object-lifecycle-mgmt, lifecycle-transition-general-considerations): a rule acts at
the midnight UTC after the age was reached; by default no object under 128 KiB is moved, unless its rule
filters by size or the bucket says `varies_by_storage_class`, which lets small objects into the archives.
What expires where versions are kept is hidden by a delete marker.
"""

from __future__ import annotations

import sqlite3

from backup.emulator.core.state.meter import BilledStore, begin_storing, count, end_storing
from backup.emulator.core.state.store import Transaction
from backup.emulator.s3.buckets.lifecycle_rules import RANKS, LifecycleRule, When, parse_lifecycle
from backup.emulator.s3.removing import remove_upload

from .versioning import remove_newest

SMALLEST_BYTES = 128 * 1024
ARCHIVES = ("GLACIER", "DEEP_ARCHIVE")


def apply_lifecycles(tx: Transaction) -> None:
    """Apply the rules of every bucket that are due at this moment."""
    rows = tx.db.execute("SELECT bucket, text FROM bucket_documents WHERE kind = 'lifecycle'").fetchall()
    for row in rows:
        minimum = tx.db.execute(
            "SELECT text FROM bucket_documents WHERE bucket = ? AND kind = 'lifecycle minimum'",
            (row["bucket"],),
        ).fetchone()
        varies = minimum is not None and minimum["text"] == "varies_by_storage_class"
        for rule in parse_lifecycle(row["text"].encode()):
            if rule.enabled:
                _apply(tx, row["bucket"], rule, varies=varies)


def _apply(tx: Transaction, bucket: int, rule: LifecycleRule, *, varies: bool) -> None:
    for when, target in rule.transitions:
        low = rule.larger_than
        if low is None and rule.smaller_than is None and not (varies and target in ARCHIVES):
            low = SMALLEST_BYTES - 1
        before = RANKS[: RANKS.index(target)]
        where, values = _chosen(bucket, rule, when, tx.now_ms, low)
        marks = ",".join("?" * len(before))
        found = f"SELECT id, size FROM objects WHERE {where} AND class IN ({marks})"  # noqa: S608
        for row in tx.db.execute(found, (*values, *before)).fetchall():
            _move(tx, bucket, row, target)
    if rule.expiration is not None:
        where, values = _chosen(bucket, rule, rule.expiration, tx.now_ms, rule.larger_than)
        place = _place(tx, bucket)
        for row in tx.db.execute(f"SELECT key FROM objects WHERE {where}", values).fetchall():  # noqa: S608
            remove_newest(tx, place, bucket, bytes(row["key"]))
    if rule.abort_days is not None:
        born = When(rule.abort_days, None).born_before(tx.now_ms)
        rows = tx.db.execute(
            "SELECT id FROM object_uploads WHERE bucket = ? AND state = 'open' AND created_ms < ? "
            "AND substr(key, 1, ?) = ?",
            (bucket, born, len(rule.prefix), rule.prefix),
        ).fetchall()
        for row in rows:
            remove_upload(tx, row["id"])


def _move(tx: Transaction, bucket: int, row: sqlite3.Row, target: str) -> None:
    """Move an object to another class; the request that this is costs as one that completes an upload."""
    tx.db.execute("UPDATE objects SET class = ? WHERE id = ?", (target, row["id"]))
    place = _place(tx, bucket)
    end_storing(tx, f"object {row['id']}")
    begin_storing(tx, place, f"object {row['id']}", f"s3:{target}", row["size"])
    count(tx, place, f"s3:{target}", "complete")


def _place(tx: Transaction, bucket: int) -> BilledStore:
    owner = tx.db.execute("SELECT * FROM buckets WHERE id = ?", (bucket,)).fetchone()
    return BilledStore(owner["account_id"], "s3", owner["region"], owner["name"])


def _chosen(
    bucket: int, rule: LifecycleRule, when: When, now_ms: int, low: int | None
) -> tuple[str, tuple[object, ...]]:
    where = (
        "bucket = ? AND is_latest = 1 AND is_marker = 0 "
        "AND substr(key, 1, ?) = ? AND created_ms < ? AND size > ? AND size < ?"
    )
    high = 2**60 if rule.smaller_than is None else rule.smaller_than
    born = when.born_before(now_ms)
    return where, (bucket, len(rule.prefix), rule.prefix, born, -1 if low is None else low, high)
