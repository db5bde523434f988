"""Conditional reads and writes.

Source: S3 User Guide (conditional-reads, conditional-writes), RFC 9110 for the order of the reads'
conditions."""

from __future__ import annotations

import sqlite3
from email.utils import parsedate_to_datetime

from backup.emulator.core.s3_errors import S3Error, invalid_argument, not_implemented
from backup.emulator.s3.call import S3Call


def check_read(call: S3Call, row: sqlite3.Row) -> bool:
    """Whether to send the object (else 304); 412 if a condition forbids it."""
    match, none_match = call.header("if-match"), call.header("if-none-match")
    if match is not None:
        if not _names(match, row["etag"]):
            raise _failed("If-Match")
    else:
        unmodified = _seconds(call.header("if-unmodified-since"))
        if unmodified is not None and row["created_ms"] // 1000 > unmodified:
            raise _failed("If-Unmodified-Since")
    if none_match is not None:
        return not _names(none_match, row["etag"])
    modified = _seconds(call.header("if-modified-since"))
    return modified is None or row["created_ms"] // 1000 > modified


def check_source(call: S3Call, row: sqlite3.Row) -> None:
    """Check the conditions on a copy's source: 412 if one forbids it, 400 for a date that is none."""
    match, none_match, modified, unmodified = (
        call.header(f"x-amz-copy-source-if-{name}")
        for name in ("match", "none-match", "modified-since", "unmodified-since")
    )
    changed = row["created_ms"] // 1000
    since, until = _date("modified-since", modified), _date("unmodified-since", unmodified)
    there = _names(match, row["etag"]) if match is not None else until is None or changed <= until
    if none_match is not None:
        newer = not _names(none_match, row["etag"])
    else:
        newer = since is None or changed > since
    if not (there and newer):
        raise _failed("x-amz-copy-source-If-Match")


def _date(name: str, text: str | None) -> int | None:
    """The date of a condition on a copy's source in seconds."""
    seconds = _seconds(text)
    if text is not None and seconds is None:
        header = f"x-amz-copy-source-if-{name}"
        raise invalid_argument(f"The {header} header is not a valid date.", header, text)
    return seconds


def check_write(call: S3Call, row: sqlite3.Row | None, *, deleting: bool = False) -> None:
    """Check If-None-Match: * (no object) and If-Match (that etag, 404 without an object)."""
    none_match, match = call.header("if-none-match"), call.header("if-match")
    if none_match is not None:
        if none_match.strip() != "*" or match is not None or deleting:
            raise not_implemented("If-None-Match")
        if row is not None:
            raise _failed("If-None-Match")
    if match is None:
        return
    if row is None:
        raise S3Error("NoSuchKey", None, {"Key": call.key})
    if not _names(match, row["etag"]):
        raise _failed("If-Match")


def _names(header: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")]
    return "*" in tags or etag in tags


def _seconds(text: str | None) -> int | None:
    """An HTTP date in seconds; None if it cannot be parsed, which is ignored."""
    if text is None:
        return None
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, OverflowError, TypeError):
        return None


def _failed(condition: str) -> S3Error:
    return S3Error("PreconditionFailed", None, {"Condition": condition})
