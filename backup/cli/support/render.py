"""Values in the form that people and scripts read: sizes, times, paths, tables, JSON."""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, tzinfo
from typing import IO, TYPE_CHECKING, Any

from backup.model import SnapshotId

if TYPE_CHECKING:
    from backup.cli.support.tables import Sheet

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
# What may move the cursor, hide or reorder text: control, format (bidi overrides), line and paragraph
# separators, and the lone surrogates that stand for bytes which are not UTF-8.
_ESCAPED = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})
_LONG_ID = 40
_WIDE = 10_000  # columns of a pipe: never break a line for it


def size(count: int) -> str:
    """A number of bytes in binary units: 0 B, 1.5 MiB."""
    if abs(count) < 1024:
        return f"{count} B"
    value = float(count)
    for unit in _UNITS:
        value /= 1024
        if abs(value) < 1023.95 or unit == _UNITS[-1]:
            break
    return f"{value:.1f} {unit}"


def rate(count: float, seconds: float) -> str:
    """The bytes per second; a dash if none is known yet."""
    return f"{size(int(count / seconds))}/s" if seconds > 0 else "-"


def duration(seconds: float) -> str:
    """A length of time with its two largest units: 0.4 s, 45 s, 3 min 20 s, 5 h 2 min, 2 d 3 h."""
    if 0.05 <= seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = max(0, round(seconds))
    for unit, name, smaller, smaller_name in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit} {name}" + (f" {rest} {smaller_name}" if rest else "")
    return f"{whole} s"


def local_time(moment: datetime | None, zone: tzinfo | None = None) -> str:
    """A time to the minute in `zone` (None: this machine's), with its name; a dash for None."""
    return "-" if moment is None else moment.astimezone(zone).strftime("%Y-%m-%d %H:%M %Z")


def time_of(mtime_ns: int) -> str:
    """A file's modification time like `local_time`; one beyond the calendar as seconds."""
    seconds = mtime_ns // 10**9
    try:
        return local_time(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        return f"@{seconds}"


def counted(count: int, noun: str) -> str:
    """A number with its noun: 1 archive, 2 archives, 1,024 entries."""
    plural = noun if count == 1 else f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {plural}"


def shown_archive(archive_id: str | None) -> str | None:
    """An archive's id for a table: Glacier's have 138 characters, of which 16 identify it."""
    long = archive_id is not None and len(archive_id) > _LONG_ID
    return f"{archive_id[:16]}…" if archive_id is not None and long else archive_id


def shown_id(snapshot: SnapshotId) -> str:
    """The first 8 hex digits of a snapshot's id."""
    return snapshot[:8]


def printable(text: str) -> str:
    """A text of lines that is safe for terminals: characters that are not printable become escapes."""
    return _escape(text, kept="\n\t")


def shown_path(path: bytes) -> str:
    r"""A path on one line: bytes that are not UTF-8 as \xNN, control characters as escapes."""
    return _escape(path.decode("utf-8", "surrogateescape"), kept="")


def path_document(path: bytes) -> dict[str, str]:
    """A path for JSON: `path`, and `path_b64` with the exact bytes where they are not UTF-8."""
    try:
        return {"path": path.decode()}
    except UnicodeDecodeError:
        return {"path": path.decode("utf-8", "replace"), "path_b64": base64.b64encode(path).decode()}


def json_line(document: object) -> str:
    """One line of JSON; datetimes as RFC 3339, dataclasses and structs as objects, enums by value."""
    import msgspec

    try:
        return msgspec.json.encode(document).decode()
    except UnicodeEncodeError:  # a lone surrogate in a message: JSON can escape it, UTF-8 cannot hold it
        import json

        return json.dumps(msgspec.to_builtins(document), separators=(",", ":"))


def table(columns: Sequence[object], rows: Iterable[Sequence[object]], *, title: str | None = None) -> Sheet:
    """A table of `Column`s or mere titles; cells as they are, bytes as paths, None as a dash."""
    from backup.cli.support.tables import Sheet, column_of

    cells = [[_cell(value) for value in row] for row in rows]
    return Sheet([column_of(one) for one in columns], cells, title)


def print_rich(renderable: Any, stream: IO[str], *, wide: bool = False) -> None:
    """Print a renderable; no colour and no line breaks of its own where the stream is no terminal.

    On a terminal tables leave out what has no place there, unless they may be `wide`.
    """
    from rich.console import Console

    # Both, as a dumb terminal has 80 columns for rich whatever is said of its width alone.
    width, height = (None, None) if stream.isatty() and not wide else (_WIDE, 25)
    plain = Console(file=stream, width=width, height=height, highlight=False, markup=False, emoji=False)
    plain.print(renderable)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bytes):
        return shown_path(value)
    if isinstance(value, datetime):
        return local_time(value)
    return _escape(str(value), kept="\n")


def _escape(text: str, *, kept: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        letter if letter in kept or unicodedata.category(letter) not in _ESCAPED else _escaped(letter)
        for letter in text
    )


def _escaped(letter: str) -> str:
    number = ord(letter)
    if 0xDC80 <= number <= 0xDCFF:  # surrogateescape's stand-in for one byte
        return f"\\x{number - 0xDC00:02x}"
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
