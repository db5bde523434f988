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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool

from backup.errors import InventoryNewerError, NoInventoryError, StateDeniedError
from backup.inventory.database import HEAD, Transaction, our_errors, sqlite_path

_STEPS = 20_000  # of SQLite's machine between two looks at the time: about a millisecond
_MEMORY_KIB = 4096


@dataclass(slots=True)
class PageReads:
    """Read transactions on the inventory at `url`, `most` at once, each ended after `seconds`."""

    url: str
    most: int = 4
    seconds: float = 10.0
    _engine: Engine | None = field(default=None, init=False)
    _identity: tuple[int, int] = field(default=(0, 0), init=False)
    _lock: Lock = field(default_factory=Lock, init=False)

    @property
    def path(self) -> str:
        """The file of the inventory."""
        return sqlite_path(self.url) or ""

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """A consistent view. `NoInventoryError`, `StateDeniedError`, `InventoryNewerError`, `LockedError`."""
        engine = self._current()
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

    def _current(self) -> Engine:
        """The engine of the file that has the path now: a rebuild replaces it."""
        identity = _identity_of(self.path)
        with self._lock:
            if self._engine is None or identity != self._identity:
                if self._engine is not None:
                    self._engine.dispose()
                self._engine, self._identity = _engine(self.path, self.most), identity
            return self._engine


def _identity_of(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except FileNotFoundError as error:
        raise NoInventoryError(f"no inventory at {path}") from error
    except PermissionError as error:
        raise StateDeniedError(f"permission denied: {path}") from error
    return found.st_dev, found.st_ino


def _engine(path: str, most: int) -> Engine:
    uri = f"file:{quote(os.fsencode(path))}?mode=ro"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=5, check_same_thread=False)

    engine = create_engine(
        URL.create("sqlite", database=path),
        creator=connect,
        poolclass=QueuePool,
        pool_size=most,
        max_overflow=0,
        pool_timeout=5,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # we issue BEGIN ourselves
        for pragma in ("query_only=ON", f"cache_size=-{_MEMORY_KIB}", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


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
