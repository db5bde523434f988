"""Reads an inventory that another process writes, for as long as this one runs: for the page.

Connections cannot write, and never open the file as immutable while somebody may write to it. SQLite keeps
its newest changes and their index beside the database; where this process may not make these files and they
are not there, nobody writes: then the database is read as it is, and what was read counts only if no writer
came meanwhile.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool, Pool, QueuePool

from backup.errors import (
    InventoryDamagedError,
    InventoryNewerError,
    LockedError,
    NoInventoryError,
    StateDeniedError,
)
from backup.inventory.database import HEAD, Transaction, sqlite_path
from backup.inventory.database_errors import our_errors

_STEPS = 20_000  # of SQLite's machine between two looks at the time: about a millisecond
_MEMORY_KIB = 4096


_T = TypeVar("_T")
_Stamp = tuple[tuple[int, ...] | None, ...]
_ATTEMPTS = 4


@dataclass(slots=True)
class PageReads:
    """Read transactions on the inventory at `url`, `most` at once, each ended after `seconds`."""

    url: str
    most: int = 4
    seconds: float = 10.0
    _engine: Engine | None = field(default=None, init=False)
    _file: tuple[int, ...] = field(default=(), init=False)
    _lock: Lock = field(default_factory=Lock, init=False)

    @property
    def path(self) -> str:
        """The file of the inventory."""
        return sqlite_path(self.url) or ""

    def read(self, make: Callable[[Transaction], _T]) -> _T:
        """What `make` returns of a consistent view; it may be called again if a writer came meanwhile.

        `NoInventoryError`, `StateDeniedError`, `InventoryNewerError`, `LockedError`.
        """
        for attempt in range(_ATTEMPTS):
            before = self._stamp()
            is_settled = before[1] is None and not os.access(os.path.dirname(self.path) or ".", os.W_OK)
            try:
                with self._reading(is_settled=is_settled) as tx:
                    made = make(tx)
            except InventoryDamagedError:  # a writer came or went: what is damaged is so the next time, too
                if attempt == _ATTEMPTS - 1:
                    raise
                continue
            if not is_settled or self._stamp() == before:
                return made
        raise LockedError("the inventory changes at this moment", advice="try again in a moment")

    @contextmanager
    def _reading(self, *, is_settled: bool) -> Iterator[Transaction]:
        engine = _engine(self.path, "immutable=1", NullPool) if is_settled else self._current()
        with our_errors(engine), engine.connect() as connection:
            _limit_time(connection, self.seconds)
            with connection.begin():
                _check_schema(connection, self.path)
                yield connection

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None

    def _stamp(self) -> _Stamp:
        """What changes when somebody writes: file and log."""
        return _stamp_of(self.path), _stamp_of(f"{self.path}-wal")

    def _current(self) -> Engine:
        """The engine of the file that has the path now: a rebuild replaces it."""
        found = (_stamp_of(self.path) or ())[:2]
        if not found:
            raise _gone(self.path)
        with self._lock:
            if self._engine is None or found != self._file:
                if self._engine is not None:
                    self._engine.dispose()
                options = {"pool_size": self.most, "max_overflow": 0, "pool_timeout": 5}
                self._engine, self._file = _engine(self.path, "", QueuePool, **options), found
            return self._engine


def _stamp_of(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise StateDeniedError(f"permission denied: {path}") from error
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _engine(path: str, how: str, pool: type[Pool], **options: int) -> Engine:
    uri = f"file:{quote(os.fsencode(path))}?mode=ro&{how}"

    def connect() -> sqlite3.Connection:
        if not os.access(path, os.R_OK):
            raise StateDeniedError(f"permission denied: {path}") if os.path.exists(path) else _gone(path)
        return sqlite3.connect(uri, uri=True, timeout=5, check_same_thread=False)

    engine = create_engine(URL.create("sqlite", database=path), creator=connect, poolclass=pool, **options)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # we issue BEGIN ourselves
        for pragma in ("query_only=ON", f"cache_size=-{_MEMORY_KIB}", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _gone(path: str) -> NoInventoryError:
    return NoInventoryError(f"no inventory at {path}")


def _limit_time(connection: Connection, seconds: float) -> None:
    """Have SQLite give up what takes longer, so that no request holds a connection for ever."""
    until = time.monotonic() + seconds
    driver: Any = connection.connection.driver_connection
    driver.set_progress_handler(lambda: time.monotonic() > until, _STEPS)


def _check_schema(connection: Connection, path: str) -> None:
    """Begin the view, and refuse an inventory of another version of this program."""
    version = str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar())
    if version > HEAD:
        raise InventoryNewerError(
            f"the inventory was written by a newer nightvault (schema {version}, this program knows {HEAD})",
            advice="restart the page with the installed version",
        )
    if version < HEAD:
        raise StateDeniedError(
            f"the inventory {path} is of an older nightvault",
            advice="it is brought up at the next backup, or by any command of the user that owns it",
        )
