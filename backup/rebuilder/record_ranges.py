"""Checks values of catalog records against valid ranges before they are applied: signed values may be absurd.

A fault is a short text on what is out of range; it is empty if nothing is. Values that pass can be shown,
compared, counted and restored safely; whether they are true is not checked here.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from typing import Final

from backup.errors import FormatError
from backup.format import records
from backup.format.catalog import decode_extra, unpack_u64
from backup.format.holes import Layout
from backup.format.marks import MOST_TAGS, note_fault, tag_fault
from backup.inventory.store.times import micros
from backup.model import EntryKind, Extra, PackKind

MOST_NUMBERS: Final = 2**48  # of entries, snapshots and catalogs: what follows them can still be counted
MOST_SMALL_NUMBERS: Final = 2**31  # of owners, directories, archives, domains: u32 in memory
MOST_CHUNKS: Final = 2**32 - 2**28  # u32 in catalogs
MOST_AHEAD: Final = 1_000_000  # snapshots that failed between two that did not
_EARLIEST: Final = micros(datetime(1, 1, 3, tzinfo=UTC))  # two days of room for time zones
_LATEST: Final = micros(datetime(9999, 12, 29, tzinfo=UTC))
_SNAPSHOT_ID: Final = re.compile(r"[0-9a-f]{8,64}")
_LONGEST_TEXT: Final = 4096
_LONGEST_NAME: Final = 4096
_MOST_IDS: Final = 2**32 - 1  # -1 as the system's calls have it: "leave it as it is"
_KINDS: Final = frozenset(map(int, EntryKind))
_FILE, _SYMLINK = int(EntryKind.FILE), int(EntryKind.SYMLINK)
_NO_NAMES: Final = frozenset({b"", b".", b".."})
_HIDDEN: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})


def is_time(value: int) -> bool:
    """Whether microseconds since 1970 are within the calendar, in every time zone."""
    return _EARLIEST <= value <= _LATEST


def is_text(value: str) -> bool:
    """Whether a text is short, of one line, and without characters that control a terminal."""
    if len(value) > _LONGEST_TEXT:
        return False
    plain = value.isascii() and value.isprintable()
    return plain or not any(unicodedata.category(letter) in _HIDDEN for letter in value)


def snapshot_fault(record: records.SnapshotRecord) -> str:
    """Return the fault of a snapshot."""
    if not 1 <= record.number < MOST_NUMBERS:
        return "its number"
    if _SNAPSHOT_ID.fullmatch(record.id) is None:
        return "its id"
    if not (is_time(record.started_at) and is_time(record.finished_at)):
        return "its time"
    return "" if is_text(record.host) else "its host's name"


def entry_fault(record: records.EntryRecord) -> str:
    """Return the fault of an entry by itself; quick, as it is called for each."""
    name, kind = record.name, record.kind
    if name in _NO_NAMES or b"/" in name or b"\0" in name or len(name) > _LONGEST_NAME:
        return "its name"
    if kind not in _KINDS:
        return "its kind"
    if record.mode > 0o7777:
        return "its mode"
    if (record.content_id is None) == (kind == _FILE) or len(record.chunks) % 4:
        return "its content"
    if not 1 <= record.number < MOST_NUMBERS or not 1 <= record.added_in < MOST_NUMBERS:
        return "its number"
    if record.extra is None:
        return "its target" if kind == _SYMLINK else ""
    return _extra_fault(record)


def _extra_fault(record: records.EntryRecord) -> str:
    try:
        extra = decode_extra(record.extra) or Extra()
        if extra.holes:
            Layout(extra.holes, record.size)
    except FormatError:
        return "its attributes"
    if b"\0" in extra.target or (record.kind == _SYMLINK) == (not extra.target):
        return "its target"
    if any(not name or b"\0" in name for name, _ in extra.xattrs):
        return "its attributes"
    return "" if all(is_text(name) for *_, name in extra.acl_names) else "its attributes"


def directory_fault(record: records.DirectoryRecord) -> str:
    """Return the fault of a directory: it must be an absolute path in its shortest form."""
    steps = record.path.split(b"/")
    is_plain = record.path == b"/" or (steps[0] == b"" and not _NO_NAMES.intersection(steps[1:]))
    if not is_plain or b"\0" in record.path:
        return "its path"
    return "" if 1 <= record.number < MOST_SMALL_NUMBERS else "its number"


def owner_fault(record: records.OwnerRecord) -> str:
    """Return the fault of an owner."""
    if not 1 <= record.number < MOST_SMALL_NUMBERS:
        return "its number"
    if record.uid >= _MOST_IDS or record.gid >= _MOST_IDS:
        return "its ids"
    return "" if is_text(record.user) and is_text(record.group) else "its names"


def archive_fault(record: records.ArchiveRecord) -> str:
    """Return the fault of an archive."""
    if not 1 <= record.number < MOST_SMALL_NUMBERS:
        return "its number"
    if record.kind != PackKind.DATA:
        return "its kind"
    if not is_time(record.stored_at):
        return "its time"
    if not 0 < record.size < 2**46:
        return "its size"
    return "" if is_text(record.archive_id) and is_text(record.state) else "its id"


def amendment_fault(record: records.Record) -> str:
    """Return what is at fault in a change of what was saved, and the fault."""
    if isinstance(record, records.MarksRecord):
        what, fault = "tags or a pin", _marks_fault(record)
    elif isinstance(record, records.DumpRecord):
        what, fault = "what is known of a dump", _dump_fault(record)
    else:
        return ""
    return f"{what}: {fault}" if fault else ""


def _marks_fault(record: records.MarksRecord) -> str:
    """Return the fault of a snapshot's tags and pin."""
    if len(record.tags) > MOST_TAGS or any(tag_fault(tag) for tag in record.tags):
        return "its tags"
    if note_fault(record.note):
        return "its note"
    return "" if record.until is None or is_time(record.until) else "its time"


def _dump_fault(record: records.DumpRecord) -> str:
    """Return the fault of what is known of a dump."""
    known = record.engine, record.version, record.charset
    if not all(map(is_text, known)) or len(record.database) > _LONGEST_NAME:
        return "its names"
    return "" if all(fewest <= most for _, fewest, most in record.tables) else "its tables"


def verified_fault(record: records.VerifiedRecord, size: int) -> str:
    """Return the fault of what a check has read of an archive of `size` bytes."""
    if record.grade not in {1, 2} or not is_time(record.at):
        return "its grade or time"
    if len(record.pieces) % 16:
        return "its pieces"
    bounds = unpack_u64(record.pieces)
    whole = all(0 <= start < end <= size for start, end in zip(bounds[::2], bounds[1::2], strict=True))
    return "" if whole else "its pieces"
