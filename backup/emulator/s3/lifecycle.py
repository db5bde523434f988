"""Lifecycle rules: parsed from XML, and applied by the emulator's clock.

Source: S3 User Guide (object-lifecycle-mgmt, lifecycle-transition-general-considerations): a rule acts at
the midnight UTC after the age was reached; by default no object under 128 KiB is moved, unless its rule
filters by size or the bucket says `varies_by_storage_class`, which lets small objects into the archives.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime

from backup.emulator.core.clock import DAY_MS
from backup.emulator.core.meter import Place, begin_storing, count, end_storing
from backup.emulator.core.s3_errors import S3Error
from backup.emulator.core.store import Transaction

from .xml import Element, parse

SMALLEST_BYTES = 128 * 1024
ARCHIVES = ("GLACIER", "DEEP_ARCHIVE")
RANKS = (
    *("STANDARD", "STANDARD_IA", "INTELLIGENT_TIERING", "ONEZONE_IA", "GLACIER_IR", "GLACIER"),
    "DEEP_ARCHIVE",
)
RULES = 1000
_UNKNOWN = ("Tag", "NoncurrentVersionTransition", "NoncurrentVersionExpiration")


@dataclass(frozen=True, slots=True)
class When:
    """The time of a rule: an age in days, or a date (ms since the epoch)."""

    days: int | None
    date_ms: int | None

    def born_before(self, now_ms: int) -> int:
        """The creation time before which objects are due; ages are rounded up to the next midnight UTC."""
        if self.date_ms is not None:
            return now_ms + 1 if now_ms >= self.date_ms else 0
        midnight = now_ms - now_ms % DAY_MS
        return midnight - (self.days or 0) * DAY_MS


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: a filter of objects, and the actions with their times."""

    enabled: bool
    prefix: bytes
    larger_than: int | None
    smaller_than: int | None
    transitions: tuple[tuple[When, str], ...]
    expiration: When | None
    abort_days: int | None


def parse_lifecycle(body: bytes) -> list[Rule]:
    """The rules of a configuration; MalformedXML, or NotImplemented for what would not be done here."""
    rules = parse(body, "LifecycleConfiguration").children("Rule")
    if not 1 <= len(rules) <= RULES:
        raise S3Error("MalformedXML")
    return [_rule(rule) for rule in rules]


def _rule(rule: Element) -> Rule:
    held = rule.child("Filter") or rule
    held = held.child("And") or held
    for name in _UNKNOWN:
        if held.child(name) is not None or rule.child(name) is not None:
            raise S3Error("NotImplemented", f"The emulator does not know {name} in a lifecycle rule.")
    status = rule.get("Status")
    if status not in ("Enabled", "Disabled") or (rule.child("Filter") is None) == (
        rule.child("Prefix") is None
    ):
        raise S3Error("MalformedXML")
    expiration = rule.child("Expiration")
    abort = rule.child("AbortIncompleteMultipartUpload")
    transitions = tuple((_when(node, low=0), _target(node)) for node in rule.children("Transition"))
    if not transitions and expiration is None and abort is None:
        raise S3Error("InvalidRequest", "At least one action needs to be specified in a rule.")
    return Rule(
        status == "Enabled",
        (held.get("Prefix") or "").encode(),
        held.number("ObjectSizeGreaterThan", high=2**50),
        held.number("ObjectSizeLessThan", high=2**50),
        transitions,
        None if expiration is None else _when(expiration, low=1),
        None if abort is None else abort.number("DaysAfterInitiation", low=1),
    )


def _target(node: Element) -> str:
    wanted = node.required("StorageClass")
    if wanted not in RANKS[1:]:
        raise S3Error("MalformedXML")
    return wanted


def _when(node: Element, *, low: int) -> When:
    days, date = node.number("Days", low=low), node.get("Date")
    if (days is None) == (date is None):
        raise S3Error("MalformedXML")
    if date is None:
        return When(days, None)
    try:
        moment = datetime.fromisoformat(date)
    except ValueError as error:
        raise S3Error("MalformedXML") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return When(None, int(moment.timestamp() * 1000))


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


def _apply(tx: Transaction, bucket: int, rule: Rule, *, varies: bool) -> None:
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
        remove_objects(tx, [row[0] for row in tx.db.execute(f"SELECT id FROM objects WHERE {where}", values)])  # noqa: S608
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
    owner = tx.db.execute("SELECT * FROM buckets WHERE id = ?", (bucket,)).fetchone()
    place = Place(owner["account_id"], "s3", owner["region"], owner["name"])
    end_storing(tx, f"object {row['id']}")
    begin_storing(tx, place, f"object {row['id']}", f"s3:{target}", row["size"])
    count(tx, place, f"s3:{target}", "complete")


def _chosen(
    bucket: int, rule: Rule, when: When, now_ms: int, low: int | None
) -> tuple[str, tuple[object, ...]]:
    where = "bucket = ? AND substr(key, 1, ?) = ? AND created_ms < ? AND size > ? AND size < ?"
    high = 2**60 if rule.smaller_than is None else rule.smaller_than
    born = when.born_before(now_ms)
    return where, (bucket, len(rule.prefix), rule.prefix, born, -1 if low is None else low, high)


def remove_objects(tx: Transaction, ids: list[int]) -> None:
    """Delete objects with their pieces' files."""
    for number in ids:
        rows = tx.db.execute("SELECT file FROM object_pieces WHERE object = ?", (number,)).fetchall()
        tx.discarded += [row["file"] for row in rows]
        tx.db.execute("DELETE FROM object_pieces WHERE object = ?", (number,))
        tx.db.execute("DELETE FROM objects WHERE id = ?", (number,))
        end_storing(tx, f"object {number}")
        end_storing(tx, f"copy {number}")


def remove_upload(tx: Transaction, upload: int) -> None:
    """Delete an upload with its parts' files."""
    rows = tx.db.execute("SELECT number, file FROM object_parts WHERE upload = ?", (upload,)).fetchall()
    tx.discarded += [row["file"] for row in rows]
    for row in rows:
        end_storing(tx, f"part {upload}/{row['number']}")
    tx.db.execute("DELETE FROM object_parts WHERE upload = ?", (upload,))
    tx.db.execute("DELETE FROM object_uploads WHERE id = ?", (upload,))
