"""The copy of the inventory that the page reads, where the page is another user than the inventory's.

SQLite's locks are file locks, and any process that may read a file may lock it: a page that may read the
inventory could block every backup. So it gets a copy, which is never written to or locked. Each copy is a new
file, made from one consistent view, and takes the name of the one before.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Final

from backup.errors import SpoolError
from backup.files import Draft
from backup.inventory.store.connections import Connections
from backup.inventory.store.copies import database_size, require_room
from backup.inventory.store.database_errors import our_errors

PAGE_COPY: Final = "page.sqlite"
_PART_OF_TIME: Final = 100  # copies that nobody waits for take a hundredth of the time at most
_MODE: Final = 0o640

_Stamp = tuple[tuple[int, ...], ...]


def page_copy(directory: str) -> str:
    """The path of the copy in a state directory."""
    return os.path.join(directory, PAGE_COPY)


def stamp_of(path: str) -> _Stamp:
    """A value that changes when the inventory at a path is written to: its file's status, and its log's."""
    found = []
    for name in (path, f"{path}-wal"):
        with suppress(OSError):
            at = os.stat(name)
            if at.st_size:
                found.append((at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns))
    return tuple(found)


@dataclass(slots=True)
class PageCopier:
    """Makes copies of the inventory at `source` for the members of `group`, in the directory `directory`."""

    source: str
    directory: str
    group: int
    seconds: Callable[[], float] = time.monotonic
    _copied: _Stamp = field(default=(), init=False)
    _took: float = field(default=0.0, init=False)
    _ended: float = field(default=0.0, init=False)
    _before: int | None = field(default=None, init=False)  # a handle of the copy before

    def is_due(self, *, waited_for: bool) -> bool:
        """Whether the inventory has changed since the last copy; less often if nobody waits for it."""
        if stamp_of(self.source) == self._copied:
            return False
        return waited_for or self.seconds() - self._ended >= self._took * _PART_OF_TIME

    def copy(self, connections: Connections) -> None:
        """Make a copy. `SpoolError` if it cannot be written, and errors of the inventory."""
        began, made, stamp = self.seconds(), time.time_ns(), stamp_of(self.source)
        path = page_copy(self.directory)
        part = f"{path}.part"
        try:
            require_room(self.directory, database_size(connections), "the page's copy of the inventory")
            with (
                our_errors(self.source),
                connections.outside() as source,
                Draft(path, beside=part) as draft,
            ):
                _fill(source, part)
                with os.fdopen(os.dup(draft.file.fileno()), "rb") as handle:
                    draft.sync()
                    _for_group(handle.fileno(), self.group, made)
                before = _placed(draft, path)
        except OSError as error:
            raise SpoolError(
                f"the page's copy of the inventory cannot be written: {path}: {error.strerror}",
                advice="pages show what the last copy has until there is a new one",
            ) from error
        self._let_go()
        self._before = before
        self._copied, self._ended = stamp, self.seconds()
        self._took = self._ended - began

    def close(self) -> None:
        """Make no more copies; the last one stays."""
        self._let_go()

    def _let_go(self) -> None:
        """Truncate the previous copy, even if a process keeps it open: otherwise that could fill the disk."""
        if self._before is not None:
            with suppress(OSError):
                os.ftruncate(self._before, 0)
            os.close(self._before)
            self._before = None


def remove_page_copy(directory: str) -> None:
    """Remove the copy, once there is no page any more, and what a killed process left of the next one."""
    for path in (page_copy(directory), f"{page_copy(directory)}.part"):
        with suppress(OSError):
            os.unlink(path)


def _handle_of(path: str) -> int | None:
    try:
        return os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None


def _for_group(handle: int, group: int, made: int) -> None:
    """Let the group read it; its time is that of the view which it has."""
    os.fchown(handle, -1, group)
    os.fchmod(handle, _MODE)
    os.utime(handle, ns=(made, made))


def _placed(draft: Draft, path: str) -> int | None:
    """Give the copy its name; a handle of the one that had it."""
    before = _handle_of(path)
    try:
        draft.place()
    except BaseException:
        if before is not None:
            os.close(before)
        raise
    return before


def _fill(source: sqlite3.Connection, part: str) -> None:
    with closing(sqlite3.connect(part)) as copy:
        for pragma in ("synchronous=OFF", "journal_mode=OFF"):  # a cut leaves a file that nobody reads
            copy.execute(f"PRAGMA {pragma}")
        try:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, and read where nothing may be written
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:
                raise SpoolError(f"the page's copy of the inventory cannot be written: {error}") from error
            raise
