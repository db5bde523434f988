"""Object Lock: versions that nobody deletes until a date, or as long as a legal hold is on them.

Source: S3 User Guide (object-lock, object-lock-managing), S3 API Reference (PutObjectLockConfiguration,
PutObjectRetention, PutObjectLegalHold). A plain deletion of a locked key only adds a delete marker. The
headers that lock an object as it is stored are not here: a bucket's default retention and the two calls are.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from backup.emulator.core.s3_errors import S3Error
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

_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")
_MISSING = "Bucket is missing Object Lock Configuration"


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


def lock_by_default(call: S3Call, tx: Transaction, number: int) -> None:
    """Lock a version that was just stored for as long as the bucket says."""
    kept = None if call.at.lock is None else default_of(call.at.lock)
    if kept is not None:
        until = tx.now_ms + int(kept[1].total_seconds() * 1000)
        _retain(tx, number, kept[0], until)


def _retain(tx: Transaction, number: int, mode: str | None, until_ms: int | None) -> None:
    tx.db.execute(
        "UPDATE objects SET retain_mode = ?, retain_until_ms = ? WHERE id = ?", (mode, until_ms, number)
    )


def check_has_checksum(call: S3Call) -> None:
    """Refuse an upload without any checksum where a bucket locks by default."""
    names = {name for name, _ in call.inbound.headers}
    sums = any(name.startswith(("x-amz-checksum-", "x-amz-sdk-checksum-")) for name in names)
    trailer = "x-amz-checksum-" in (call.header("x-amz-trailer") or "")
    if call.at.lock is None or default_of(call.at.lock) is None or sums or trailer or "content-md5" in names:
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
            raise S3Error("InvalidArgument", "The retain until date must be in the future!")
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
    tx.db.execute("UPDATE objects SET legal_hold = ? WHERE id = ?", (status == "ON", row["id"]))
    return Answer(200)
