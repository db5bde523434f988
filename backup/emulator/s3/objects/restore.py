"""Frozen objects: whether they can be read, the time a restore takes, and the expiry of its copy.

Source: S3 User Guide (restoring-objects, restoring-objects-retrieval-options), S3 API Reference
(RestoreObject). No work is due as time passes: each state follows from four times in the row.
"""

from __future__ import annotations

import sqlite3

from backup.emulator.core.s3_errors import S3Error, invalid_argument, not_implemented
from backup.emulator.core.state.clock import DAY_MS
from backup.emulator.core.state.meter import begin_storing, count, end_storing
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer, http_date
from backup.emulator.s3.call import S3Call, need_object
from backup.emulator.s3.xml import parse

MINUTE_MS = 60 * 1000
HOUR_MS = 60 * MINUTE_MS
FROZEN = ("GLACIER", "DEEP_ARCHIVE")
DURATIONS_MS = {
    ("GLACIER", "Expedited"): 3 * MINUTE_MS,
    ("GLACIER", "Standard"): 4 * HOUR_MS,
    ("GLACIER", "Bulk"): 8 * HOUR_MS,
    ("DEEP_ARCHIVE", "Standard"): 12 * HOUR_MS,
    ("DEEP_ARCHIVE", "Bulk"): 48 * HOUR_MS,
}
TIERS = ("Bulk", "Standard", "Expedited")
MOST_DAYS = 30_000


def is_restoring(row: sqlite3.Row, now_ms: int) -> bool:
    """Whether a restore is under way."""
    return row["class"] in FROZEN and row["restore_due_ms"] is not None and now_ms < row["restore_due_ms"]


def is_restored(row: sqlite3.Row, now_ms: int) -> bool:
    """Whether a frozen object has a copy that can be read."""
    due = row["restore_due_ms"]
    return row["class"] in FROZEN and due is not None and due <= now_ms < row["restore_expiry_ms"]


def is_readable(row: sqlite3.Row, now_ms: int) -> bool:
    """Whether GET returns the object."""
    return row["class"] not in FROZEN or is_restored(row, now_ms)


def restore_header(row: sqlite3.Row, now_ms: int) -> str | None:
    """The value of `x-amz-restore`; None without a restore, or if its copy has expired."""
    if is_restoring(row, now_ms):
        return 'ongoing-request="true"'
    if is_restored(row, now_ms):
        return f'ongoing-request="false", expiry-date="{http_date(row["restore_expiry_ms"])}"'
    return None


def restore_object(call: S3Call, tx: Transaction) -> Answer:
    """Restore an object: 202 for a new or a faster restore, 200 if a copy exists and its expiry is
    changed."""
    row = need_object(call, tx)
    days, tier = _wanted(call)
    if row["class"] not in FROZEN:
        message = "Restore is not allowed for the object's current storage class"
        raise S3Error("InvalidObjectState", message, {"StorageClass": row["class"]})
    if is_restored(row, tx.now_ms):
        _write(tx, row, expiry=_expiry(tx.now_ms, days))
        end_storing(tx, f"copy {row['id']}", _expiry(tx.now_ms, days))
        count(tx, call.at.place, "s3:STANDARD", "upload")  # a request, and nothing to retrieve
        return Answer(200)
    tier = tier or "Standard"
    duration = DURATIONS_MS.get((row["class"], tier))
    if duration is None:
        raise invalid_argument("Retrieval option is not supported by this storage class", "Tier", tier)
    if is_restoring(row, tx.now_ms):
        return _hasten(call, tx, row, tier, tx.now_ms + duration)
    due = tx.now_ms + duration
    start = due if call.settings.restore_days_from_completion else tx.now_ms
    _write(tx, row, tier=tier, asked=tx.now_ms, due=due, expiry=_expiry(start, days))
    _meter(call, tx, row, tier, (due, _expiry(start, days)))
    return Answer(202)


def _wanted(call: S3Call) -> tuple[int, str | None]:
    request = parse(call.body, "RestoreRequest")
    if request.child("SelectParameters") is not None or request.get("Type") is not None:
        raise not_implemented("SelectParameters")
    days = request.number("Days", low=1, high=MOST_DAYS)
    if days is None:
        raise S3Error("MalformedXML")
    parameters = request.child("GlacierJobParameters")
    tier = request.get("Tier") if parameters is None else parameters.required("Tier")
    if tier is not None and tier not in TIERS:
        raise S3Error("MalformedXML")
    return days, tier


def _meter(call: S3Call, tx: Transaction, row: sqlite3.Row, tier: str, span: tuple[int, int]) -> None:
    """Record a retrieval, and the copy that it makes, in the class STANDARD."""
    count(tx, call.at.place, f"s3:{row['class']}", tier.lower(), size=row["size"])
    start, end = span
    copy, there = f"copy {row['id']}", (start, max(start, end))
    end_storing(tx, copy)
    begin_storing(tx, call.at.place, copy, f"s3:{row['class']}", row["size"], item="copy", span=there)


def _hasten(call: S3Call, tx: Transaction, row: sqlite3.Row, tier: str, due: int) -> Answer:
    if TIERS.index(tier) <= TIERS.index(row["restore_tier"]):
        raise S3Error("RestoreAlreadyInProgress")
    _write(tx, row, tier=tier, due=min(due, row["restore_due_ms"]))
    _meter(call, tx, row, tier, (min(due, row["restore_due_ms"]), row["restore_expiry_ms"]))
    return Answer(202)


def _expiry(from_ms: int, days: int) -> int:
    """The first midnight UTC that is so many days away or more."""
    return -(-(from_ms + days * DAY_MS) // DAY_MS) * DAY_MS


def _write(
    tx: Transaction,
    row: sqlite3.Row,
    *,
    tier: str | None = None,
    asked: int | None = None,
    due: int | None = None,
    expiry: int | None = None,
) -> None:
    tx.db.execute(
        "UPDATE objects SET restore_tier = coalesce(?, restore_tier), restore_asked_ms = coalesce(?, "
        "restore_asked_ms), restore_due_ms = coalesce(?, restore_due_ms), restore_expiry_ms = coalesce(?, "
        "restore_expiry_ms) WHERE id = ?",
        (tier, asked, due, expiry, row["id"]),
    )
