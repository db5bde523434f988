"""Object Lock: versions that nobody deletes until a date, or as long as a legal hold is on them.

Source: S3 User Guide (object-lock, object-lock-managing), S3 API Reference (PutObject,
PutObjectLockConfiguration, PutObjectRetention, PutObjectLegalHold). A plain deletion of a locked key only
adds a delete marker.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from msgspec import Struct

from backup.emulator.core.s3_errors import S3Error, invalid_argument
from backup.emulator.core.state.clock import DAY_MS
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer, date_ms
from backup.emulator.s3.call import S3Call, need_object
from backup.emulator.s3.xml import Element, Node, document, parse

from .documents import read_document, write_document, xml_answer

KIND = "object lock"
"""How the table of a bucket's documents names its configuration."""

COMPLIANCE, GOVERNANCE = "COMPLIANCE", "GOVERNANCE"
BYPASS = "x-amz-bypass-governance-retention"
EMPTY = document("ObjectLockConfiguration", [("ObjectLockEnabled", "Enabled")]).decode()
"""The configuration of a bucket that locks nothing by itself."""

MODE, UNTIL, HOLD = (f"x-amz-object-lock-{name}" for name in ("mode", "retain-until-date", "legal-hold"))
"""The headers that lock an object as it is stored."""

LOCKING = ("PutObjectRetention", "PutObjectLegalHold")
"""The operations that lock by a document."""

_IN_THE_PAST = "The retain until date must be in the future!"
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")
_MISSING = "Bucket is missing Object Lock Configuration"


class WantedLock(Struct, frozen=True, array_like=True):
    """The lock that an upload asks for by its headers; None where they say nothing."""

    mode: str | None
    until_ms: int | None
    hold: bool | None


def put_configuration(call: S3Call, tx: Transaction) -> Answer:
    """Set the default retention; the first time that switches Object Lock on, and nothing switches it off."""
    if call.at.versioning != "Enabled":
        message = "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration"
        raise S3Error("InvalidBucketState", message)
    text = call.body.decode("utf-8", "strict")
    if parse(call.body, "ObjectLockConfiguration").get("ObjectLockEnabled") != "Enabled":
        raise S3Error("MalformedXML")
    default_of(text)
    write_document(tx, call.at.id, KIND, text)
    return Answer(200)


def get_lock_configuration(call: S3Call, tx: Transaction) -> Answer:
    """The configuration as it was sent."""
    text = read_document(tx, call.at.id, KIND)
    if text is None:
        raise S3Error("ObjectLockConfigurationNotFoundError", None, {"BucketName": call.at.name})
    return xml_answer(text.encode())


@lru_cache(maxsize=16)
def default_of(text: str) -> tuple[str, timedelta] | None:
    """The mode and the time for which a bucket locks what is stored; MalformedXML for what says neither."""
    rule = parse(text.encode(), "ObjectLockConfiguration").child("Rule")
    if rule is None:
        return None
    kept = rule.child("DefaultRetention")
    if kept is None:
        raise S3Error("MalformedXML")
    days, years = kept.number("Days", low=1, high=36_500), kept.number("Years", low=1, high=100)
    if (days is None) == (years is None):
        raise S3Error("MalformedXML")
    return _mode(kept), timedelta(days=days or 365 * (years or 0))


def _mode(node: Element) -> str:
    mode = node.required("Mode")
    if mode not in (COMPLIANCE, GOVERNANCE):
        raise S3Error("MalformedXML")
    return mode


def wanted_lock(call: S3Call, tx: Transaction) -> WantedLock:
    """The lock that an upload's headers ask for; an error for one that no version can have."""
    mode, until, hold = (call.header(name) for name in (MODE, UNTIL, HOLD))
    if (mode, until, hold) == (None, None, None):
        return WantedLock(None, None, None)
    if call.at.lock is None:
        raise S3Error("InvalidRequest", _MISSING)
    if (mode is None) != (until is None):
        raise invalid_argument(f"{UNTIL} and {MODE} must both be supplied", UNTIL, until or "")
    if mode not in (None, COMPLIANCE, GOVERNANCE):
        raise invalid_argument("Unknown wormMode directive.", MODE, mode)
    if hold not in (None, "ON", "OFF"):
        raise invalid_argument("Legal hold must be either of 'ON' or 'OFF'", HOLD, hold)
    until_ms = None
    if until is not None:
        if not _DATE.fullmatch(until):
            raise invalid_argument("The retain until date must be provided in ISO 8601 format", UNTIL, until)
        until_ms = _date(until)
        if until_ms <= tx.now_ms:
            raise invalid_argument(_IN_THE_PAST, UNTIL, until)
    return WantedLock(mode, until_ms, None if hold is None else hold == "ON")


def lock_new(call: S3Call, tx: Transaction, number: int, wanted: WantedLock) -> None:
    """Lock a version that was just stored as was asked for, else for as long as the bucket says."""
    if wanted.hold is not None:
        _hold(tx, number, on=wanted.hold)
    kept = None if call.at.lock is None else default_of(call.at.lock)
    if wanted.mode is not None:
        _retain(tx, number, wanted.mode, wanted.until_ms)
    elif kept is not None:
        until = tx.now_ms + int(kept[1].total_seconds() * 1000)
        _retain(tx, number, kept[0], until)


def _retain(tx: Transaction, number: int, mode: str | None, until_ms: int | None) -> None:
    tx.db.execute(
        "UPDATE objects SET retain_mode = ?, retain_until_ms = ? WHERE id = ?", (mode, until_ms, number)
    )


def check_has_checksum(call: S3Call) -> None:
    """Refuse an upload without any checksum that asks for a lock, or where a bucket locks by default."""
    names = {name for name, _ in call.inbound.headers}
    sums = any(name.startswith(("x-amz-checksum-", "x-amz-sdk-checksum-")) for name in names)
    trailer = "x-amz-checksum-" in (call.header("x-amz-trailer") or "")
    by_default = call.at.lock is not None and default_of(call.at.lock) is not None
    asked = not names.isdisjoint((MODE, UNTIL, HOLD))
    if not (by_default or asked) or sums or trailer or "content-md5" in names:
        return
    message = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with"
    raise S3Error("InvalidRequest", f"{message} Object Lock parameters")


def is_retained(row: sqlite3.Row, now_ms: int) -> bool:
    """Whether a version's retention is not over yet."""
    return row["retain_until_ms"] is not None and row["retain_until_ms"] > now_ms


def check_unlocked(call: S3Call, tx: Transaction, row: sqlite3.Row) -> None:
    """Raise AccessDenied for a version that is locked; who may bypass GOVERNANCE was asked before."""
    bypassed = row["retain_mode"] == GOVERNANCE and bypasses(call)
    if row["legal_hold"] or (is_retained(row, tx.now_ms) and not bypassed):
        raise S3Error("AccessDenied", "Access Denied because object protected by object lock.")


def bypasses(call: S3Call) -> bool:
    """Whether a call asks to bypass GOVERNANCE."""
    return (call.header(BYPASS) or "").lower() == "true"


def lock_headers(call: S3Call, row: sqlite3.Row) -> Mapping[str, str]:
    """The headers by which HeadObject and GetObject tell of an object's lock, to who may see it."""
    headers = {}
    if call.sees_retention and row["retain_mode"] is not None:
        headers["x-amz-object-lock-mode"] = row["retain_mode"]
        headers["x-amz-object-lock-retain-until-date"] = date_ms(row["retain_until_ms"])
    if call.sees_hold and row["legal_hold"] is not None:
        headers["x-amz-object-lock-legal-hold"] = "ON" if row["legal_hold"] else "OFF"
    return headers


def _lockable(call: S3Call, tx: Transaction) -> sqlite3.Row:
    row = need_object(call, tx)
    if call.at.lock is None:
        raise S3Error("InvalidRequest", _MISSING)
    return row


def get_retention(call: S3Call, tx: Transaction) -> Answer:
    """A version's mode and date."""
    row = _lockable(call, tx)
    if row["retain_mode"] is None:
        raise S3Error("NoSuchObjectLockConfiguration")
    nodes: list[Node] = [("Mode", row["retain_mode"]), ("RetainUntilDate", date_ms(row["retain_until_ms"]))]
    return xml_answer(document("Retention", nodes))


def put_retention(call: S3Call, tx: Transaction) -> Answer:
    """Lock a version, or lock it for longer; COMPLIANCE is never shortened, GOVERNANCE only by a bypass."""
    row, wanted = _lockable(call, tx), parse(call.body, "Retention")
    mode, until = None, None
    if wanted.children():
        mode, until = _mode(wanted), _date(wanted.required("RetainUntilDate"))
        if until <= tx.now_ms:
            raise S3Error("InvalidArgument", _IN_THE_PAST)
    if is_retained(row, tx.now_ms):
        stays = mode is not None and until is not None and until >= row["retain_until_ms"]
        stricter = stays and (mode == row["retain_mode"] or mode == COMPLIANCE)
        if not stricter and not (row["retain_mode"] == GOVERNANCE and bypasses(call)):
            raise S3Error("AccessDenied", "Access Denied because object protected by object lock.")
    _retain(tx, row["id"], mode, until)
    return Answer(200)


def _date(text: str) -> int:
    if not _DATE.fullmatch(text):
        raise S3Error("MalformedXML")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise S3Error("MalformedXML") from error
    return int(moment.astimezone(UTC).timestamp() * 1000)


def get_legal_hold(call: S3Call, tx: Transaction) -> Answer:
    """Whether a version is under a legal hold."""
    row = _lockable(call, tx)
    if row["legal_hold"] is None:
        raise S3Error("NoSuchObjectLockConfiguration")
    return xml_answer(document("LegalHold", [("Status", "ON" if row["legal_hold"] else "OFF")]))


def put_legal_hold(call: S3Call, tx: Transaction) -> Answer:
    """Put a version under a legal hold, or take it off."""
    row = _lockable(call, tx)
    status = parse(call.body, "LegalHold").get("Status")
    if status not in ("ON", "OFF"):
        raise S3Error("MalformedXML")
    _hold(tx, row["id"], on=status == "ON")
    return Answer(200)


def _hold(tx: Transaction, number: int, *, on: bool) -> None:
    tx.db.execute("UPDATE objects SET legal_hold = ? WHERE id = ?", (on, number))


def lock_context(call: S3Call, tx: Transaction) -> Mapping[str, str]:
    """The condition keys of a call that locks: by its headers, or by the document that it sends.

    Days that remain are counted by the emulator's clock, and a part of one counts as a day.
    """
    told = {
        "mode": call.header(MODE),
        "retain-until-date": call.header(UNTIL),
        "legal-hold": call.header(HOLD),
    }
    try:
        if call.operation == LOCKING[0]:
            wanted = parse(call.body, "Retention")
            told = {"mode": wanted.get("Mode"), "retain-until-date": wanted.get("RetainUntilDate")}
        elif call.operation == LOCKING[1]:
            told = {"legal-hold": parse(call.body, "LegalHold").get("Status")}
        until = told.get("retain-until-date")
        if until is not None:
            told["remaining-retention-days"] = str(-(-(_date(until) - tx.now_ms) // DAY_MS))
    except S3Error:
        return {}  # no such document: the operation refuses it
    return {f"s3:object-lock-{name}": value for name, value in told.items() if value is not None}
