"""Values as text and as JSON: sizes, times, paths, tables."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

from backup.wording import counted, duration, escape, local_time, printable, shown_path, size

if TYPE_CHECKING:
    from backup.cli.render.tables import Sheet
    from backup.model import SnapshotId

__all__ = ["counted", "duration", "local_time", "printable", "shown_path", "size"]  # those of `wording`, too

_CONTROLS = re.compile("[\x7f-\x9f]")  # in JSON as they are, and commands to a terminal
_LONG_ID = 40
_COMMAND = re.compile("`[^`]{1,60}`")
_HELD = "\x00"  # a blank at which no line is broken: it is in no text that is shown
_WIDE = 10_000  # columns of a pipe: never break a line for it


def rate(count: float, seconds: float) -> str:
    """Return a speed in bytes per second as text; a dash if it is not known yet."""
    return f"{size(int(count / seconds))}/s" if seconds > 0 else "-"


def time_of(mtime_ns: int) -> str:
    """Return a file's modification time as `local_time` does; one outside the calendar as seconds."""
    seconds = mtime_ns // 10**9
    try:
        return local_time(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        return f"@{seconds}"


def shown_archive(archive_id: str | None) -> str | None:
    """Return an archive's id for a table: of the 138 characters of Glacier's ids, 16 are enough."""
    long = archive_id is not None and len(archive_id) > _LONG_ID
    return f"{archive_id[:16]}…" if archive_id is not None and long else archive_id


def shown_id(snapshot: SnapshotId) -> str:
    """Return the first 8 hex digits of a snapshot's id."""
    return snapshot[:8]


def path_document(path: bytes) -> dict[str, str]:
    """Return a path for JSON: `path`, and `path_b64` with the exact bytes if they are not UTF-8."""
    try:
        return {"path": path.decode()}
    except UnicodeDecodeError:
        return {"path": path.decode("utf-8", "replace"), "path_b64": base64.b64encode(path).decode()}


def json_line(document: object) -> str:
    """Return one line of JSON: datetimes as RFC 3339, dataclasses and structs as objects, enums by value."""
    import msgspec

    try:
        text = msgspec.json.encode(document).decode()
    except UnicodeEncodeError:  # a lone surrogate in a message: JSON can escape it, UTF-8 cannot hold it
        import json

        text = json.dumps(msgspec.to_builtins(document), separators=(",", ":"))
    return _CONTROLS.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def table(columns: Sequence[object], rows: Iterable[Sequence[object]], *, title: str | None = None) -> Sheet:
    """Return a table; columns are `Column`s or titles; cells that are bytes are paths, None is a dash."""
    from backup.cli.render.tables import Sheet, column_of

    cells = [[_cell(value) for value in row] for row in rows]
    return Sheet([column_of(column) for column in columns], cells, title)


def wrapped(text: str, stream: IO[str]) -> str:
    """Return the text wrapped to the terminal of a stream; unchanged if the stream is no terminal.

    Lines are broken between words and keep their indentation. Commands in backticks are not broken, so that
    they can be copied. Lines that begin with `nightvault: ` continue two columns further in.
    """
    if not stream.isatty():
        return text
    width = _width_of(stream)
    return "\n".join(_folded(line, width) for line in text.split("\n"))


def _folded(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    import textwrap

    indent = " " * (len(line) - len(line.lstrip()) + 2 * line.startswith("nightvault: "))
    held = _COMMAND.sub(lambda found: found[0].replace(" ", _HELD), line)
    pieces = textwrap.wrap(
        held, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(pieces).replace(_HELD, " ")


def _width_of(stream: IO[str]) -> int:
    """The columns of a terminal, or what COLUMNS says of it; 80 if nobody knows."""
    import os

    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and 0 < int(told) < _WIDE:
        return int(told)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def print_rich(renderable: Any, stream: IO[str], *, wide: bool = False) -> None:
    """Print a renderable of rich; without colours and added line breaks if the stream is no terminal.

    On a terminal, tables leave out columns that do not fit, unless `wide`.
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
    return escape(str(value), kept="\n")
