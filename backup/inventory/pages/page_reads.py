"""Reads an inventory that another process writes, for as long as this one runs: for the page.

Where this process may not read the inventory, it reads the copy that the daemon makes for it
(`page_copies.py`), which is never written to.

Connections cannot write, and never open the file as immutable while another process may write to it. SQLite
keeps its newest changes and their index beside the database; where this process may not make these files and
they are not there, nobody writes: then the database is read as it is, and what was read counts only if no
writer came meanwhile.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import BoundedSemaphore, Event, Lock
from typing import TypeVar
from urllib.parse import quote

from backup.errors import (
    InventoryDamagedError,
    InventoryNewerError,
    InventoryOpeningError,
    LockedError,
    NightvaultError,
    NoInventoryError,
    StateDeniedError,
)
from backup.inventory.store.connections import Connections, Transaction
from backup.inventory.store.database import HEAD, sqlite_path
from backup.inventory.store.database_errors import our_errors
from backup.inventory.store.driver import value_of

_STEPS = 20_000  # of SQLite's machine between two looks at the time: about a millisecond
_MEMORY_KIB = 4096


_T = TypeVar("_T")
_Stamp = tuple[tuple[int, ...] | None, ...]
_ATTEMPTS = 6
_PAUSE = 0.01  # seconds after the first attempt, four times as long after each other: 3.4 s in all
_LONGEST_WAIT = 5.0  # seconds, for one of the places


@dataclass(slots=True)
class PageReads:
    """Read transactions on the inventory at `url`, `most` at once, each ended after `seconds`.

    `copy` is the path of the copy for those who may not read the inventory; "" for none.
    """

    url: str
    copy: str = ""
    most: int = 4
    seconds: float = 10.0
    _connections: Connections | None = field(default=None, init=False)
    _file: tuple[int, ...] = field(default=(), init=False)
    _lock: Lock = field(default_factory=Lock, init=False)
    _closed: Event = field(default_factory=Event, init=False)
    _places: BoundedSemaphore = field(init=False)

    def __post_init__(self) -> None:
        """Make the places."""
        self._places = BoundedSemaphore(self.most)

    @property
    def path(self) -> str:
        """The file of the inventory."""
        return sqlite_path(self.url) or ""

    def read(self, make: Callable[[Transaction], _T]) -> _T:
        """Return the result of `make` on a consistent view; it is called again if a writer came meanwhile.

        `NoInventoryError`, `StateDeniedError`, `InventoryNewerError`, `LockedError`.
        """
        for attempt in range(_ATTEMPTS):
            is_copied = self._is_copied()
            before = () if is_copied else self._stamp()
            is_settled = not is_copied and before[1] is None and not _may_write_beside(self.path)
            try:
                with self._reading(is_copied=is_copied, is_settled=is_settled) as tx:
                    made = make(tx)
            except NightvaultError as error:
                if attempt == _ATTEMPTS - 1 or not _may_pass(error):
                    raise
                self._closed.wait(_PAUSE * 4**attempt)
                continue
            if not is_settled or self._stamp() == before:
                return made
        raise LockedError("the inventory changes at this moment", advice="try again in a moment")

    def as_of(self) -> datetime | None:
        """The time of the copy that is read; None where the inventory itself is."""
        made = _stamp_of(self.copy) if self._is_copied() else None
        return None if made is None else datetime.fromtimestamp(made[-1] / 1e9, UTC)

    def _is_copied(self) -> bool:
        """Whether the copy is read: the inventory is there, as far as can be known, and may not be read."""
        if not self.copy or os.access(self.path, os.R_OK):
            return False
        try:
            os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except PermissionError:
            pass
        return os.access(self.copy, os.R_OK)

    @contextmanager
    def _reading(self, *, is_copied: bool, is_settled: bool) -> Iterator[Transaction]:
        connections = (
            _connections_to(self.path, "immutable=1") if is_settled else self._current(is_copied=is_copied)
        )
        try:
            with self._room(), our_errors(self.path), connections.transaction() as tx:
                _limit_time(tx.connection, self.seconds)
                _check_schema(tx, self.path)
                yield tx
        finally:
            if is_settled:
                connections.close()

    @contextmanager
    def _room(self) -> Iterator[None]:
        """A context manager that waits a while for one of the `most` places for readers."""
        if not self._places.acquire(timeout=_LONGEST_WAIT):
            raise LockedError(
                "too many requests read the inventory at the same time", advice="try again in a moment"
            )
        try:
            yield
        finally:
            self._places.release()

    def close(self) -> None:
        """Close all connections without waiting for readers."""
        self._closed.set()
        with self._lock:
            if self._connections is not None:
                self._connections.close()
                self._connections = None

    def _stamp(self) -> _Stamp:
        """A value that changes when the inventory is written to: the status of its file and log."""
        return _stamp_of(self.path), _stamp_of(f"{self.path}-wal")

    def _current(self, *, is_copied: bool) -> Connections:
        """The connections to the file that has the path now: a rebuild replaces it, and so does a copy."""
        path, how = (self.copy, "immutable=1") if is_copied else (self.path, "")
        found = _stamp_of(path) or ()
        if not found:
            raise _gone(path)
        if not is_copied:
            found = found[:2]  # it is written to
        with self._lock:
            if self._connections is None or found != self._file:
                if self._connections is not None:
                    self._connections.close()
                self._connections, self._file = _connections_to(path, how), found
            return self._connections


def _may_pass(error: NightvaultError) -> bool:
    """Whether a writer that came or went may be the reason; what is damaged is so the next time, too.

    A log that a writer removed while it was being opened is to SQLite one that cannot be made in this
    directory.
    """
    code = getattr(error.__cause__, "sqlite_errorcode", None)
    is_log_gone = code == sqlite3.SQLITE_READONLY_DIRECTORY
    return is_log_gone or isinstance(error, InventoryDamagedError | InventoryOpeningError)


def _may_write_beside(path: str) -> bool:
    return os.access(os.path.dirname(path) or ".", os.W_OK)


def _stamp_of(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise _denied(path) from error
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _connections_to(path: str, how: str) -> Connections:
    uri = f"file:{quote(os.fsencode(path))}?mode=ro&{how}"

    def connect() -> sqlite3.Connection:
        if not os.access(path, os.R_OK):
            raise _denied(path) if os.path.exists(path) else _gone(path)
        connection = sqlite3.connect(uri, uri=True, timeout=5, isolation_level=None, check_same_thread=False)
        for pragma in ("query_only=ON", f"cache_size=-{_MEMORY_KIB}", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    return Connections(path, connect)


def _denied(path: str) -> StateDeniedError:
    return StateDeniedError(
        f"permission denied: {path}",
        advice="a page of another user reads a copy: does the daemon run, with [web] in its config?",
    )


def _gone(path: str) -> NoInventoryError:
    return NoInventoryError(f"no inventory at {path}")


def _limit_time(connection: sqlite3.Connection, seconds: float) -> None:
    """Have SQLite give up what takes longer, so that no request holds a connection for ever."""
    until = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS)


def _check_schema(tx: Transaction, path: str) -> None:
    """Begin the view, and refuse an inventory of another version of this program."""
    version = str(value_of(tx, "SELECT version_num FROM alembic_version", ()))
    if version > HEAD:
        raise InventoryNewerError(
            f"the inventory was written by a newer nightvault (schema {version}, this program knows {HEAD})",
            advice="restart the page with the installed version",
        )
    if version < HEAD:
        raise StateDeniedError(
            f"the inventory {path} is of an older nightvault",
            advice="it is migrated by the next backup, or by any command of the user that owns it",
        )
