"""The protocol of engines of databases, and the choice of what a dump has."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase
from typing import Final, Protocol
from urllib.parse import quote

from msgspec import Struct

from backup.databases.loading import Loading, Wish
from backup.source.read import FileUnreadableError
from backup.source.streams import TOP, DumpNote, NotedStream, OpenStream, Stop

GLOBALS: Final = ""
"""In place of a database's name: what belongs to none, as roles do."""
_LONGEST: Final = 240  # bytes of a name, so that it has room for what follows it
_TAIL: Final = 512

Rows = tuple[tuple[str, int, int], ...]
"""Tables, with the fewest and the most rows that each may have."""


class DumpChoice(Struct, frozen=True, kw_only=True):
    """The choice of what a database's dump has; patterns of tables as `log_*` or `schema.log_*`."""

    options: tuple[str, ...] = ()
    exclude_tables: tuple[str, ...] = ()
    only_schemas: tuple[str, ...] = ()

    def has(self, schema: str, table: str) -> bool:
        """Whether a table is in the dump."""
        if self.only_schemas and schema not in self.only_schemas:
            return False
        names = (table, f"{schema}.{table}")
        return not any(fnmatchcase(name, left_out) for left_out in self.exclude_tables for name in names)


class Engine(Protocol):
    """One engine, of one server."""

    @property
    def has_globals(self) -> bool:
        """Whether it can dump what belongs to no database."""
        ...

    def listed(self, stop: Stop) -> Sequence[str]:
        """The names of its databases, without those of the server itself; `FileUnreadableError`."""
        ...

    def shown(self, name: str) -> tuple[str, ...]:
        """The command that dumps a database, or the `GLOBALS`, as `config show` prints it."""
        ...

    def holds(self, name: str, stop: Stop) -> str:
        """The content of a database in words; "" if nothing, or if there is none. `FileUnreadableError`."""
        ...

    def rows(self, name: str, stop: Stop) -> Rows:
        """The tables of a database with their rows now; `FileUnreadableError`."""
        ...

    def loading(self, name: str, wish: Wish, stop: Stop) -> AbstractContextManager[Loading]:
        """Begin to load a dump into a database, or the `GLOBALS`; `LoadFailedError`."""
        ...

    def dumping(self, name: str, stop: Stop) -> AbstractContextManager[NotedStream]:
        """Begin to dump a database, or the `GLOBALS`; `FileUnreadableError`."""
        ...


def path_of(kind: str, name: str, ending: str = ".dump") -> bytes:
    """The path in snapshots of a database's dump: its name is percent-escaped, and a very long one cut."""
    escaped = quote(name.encode("utf-8", "surrogateescape"), safe="")
    if len(escaped) > _LONGEST:
        escaped = f"{escaped[: _LONGEST - 20]}%~{hashlib.sha256(escaped.encode()).hexdigest()[:16]}"
    return TOP + f"/databases/{kind}/{escaped}{ending}".encode()


class CheckedDump:
    """A dump that is being read: once the command has ended well, it must begin and end as one that is whole.

    `noted` is asked then for what is known of it.
    """

    def __init__(
        self, dump: OpenStream, noted: Callable[[], DumpNote], *, begins: bytes = b"", ends: bytes = b""
    ) -> None:
        self._dump = dump
        self._noted = noted
        self._begins, self._ends = begins, ends
        self._first, self._last = b"", b""
        self.size = dump.size
        self.note: DumpNote | None = None

    def fill(self, view: memoryview) -> int:
        """Fill the view."""
        filled = self._dump.fill(view)
        if len(self._first) < len(self._begins):
            self._first += bytes(view[: min(filled, len(self._begins) - len(self._first))])
        self._last = (self._last + bytes(view[max(0, filled - _TAIL) : filled]))[-_TAIL:]
        return filled

    def finish(self) -> None:
        """Check that this was the whole dump, and note what is known of it."""
        self._dump.finish()
        if not self._first.startswith(self._begins):
            raise FileUnreadableError("what came is no dump: it begins otherwise")
        if self._ends not in self._last:
            raise FileUnreadableError("the dump ended early: its last line is missing")
        self.note = self._noted()
