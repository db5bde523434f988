"""Connections to an inventory's SQLite file and the transactions on them, by Python's own driver."""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Final

MOST_IDLE: Final = 4
"""So many connections are kept for the next transactions."""

if sys.version_info < (3, 12):
    # There the driver looks for an adapter of each bytes and each None, and learns that there is none by an
    # exception: 0.3 us for each value. One that changes nothing is found at once.
    sqlite3.register_adapter(bytes, bytes.__bytes__)
    sqlite3.register_adapter(type(None), {None: None}.get)


class Link:
    """One connection of the driver."""

    __slots__ = ("connection", "generation")

    def __init__(self, connection: sqlite3.Connection, generation: int) -> None:
        self.connection = connection
        self.generation = generation


class Transaction:
    """A transaction, on the thread that began it; `driver` has the functions that run statements in it."""

    __slots__ = ("connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection


@contextmanager
def _without_patience(connection: sqlite3.Connection) -> Iterator[None]:
    """A context in which a lock of another process is an error at once, without waiting."""
    ((patience,),) = connection.execute("PRAGMA busy_timeout")
    connection.execute("PRAGMA busy_timeout=0")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout={int(patience)}")


class Connections:
    """The connections to one file: opened when they are needed, a few kept for later. For any thread."""

    def __init__(self, path: str, connect: Callable[[], sqlite3.Connection]) -> None:
        """`path` is for messages; `connect` opens a connection with all its settings."""
        self.path = path
        self._connect = connect
        self._lock = threading.Lock()
        self._idle: list[Link] = []
        self._generation = 0

    @contextmanager
    def transaction(self, *, writes: bool = False, waits: bool = True) -> Iterator[Transaction]:
        """A transaction that is committed at the end, or rolled back by an exception.

        With `waits` False it does not begin where another process writes just now.
        """
        link = self._take()
        is_sound = False
        try:
            with nullcontext() if waits else _without_patience(link.connection):
                self.begin(link.connection, writes=writes)
            try:
                yield Transaction(link.connection)
                self.commit(link.connection)
            except BaseException:
                link.connection.rollback()
                raise
            finally:
                is_sound = not link.connection.in_transaction
        finally:
            self._give_back(link, is_sound=is_sound)

    @contextmanager
    def outside(self) -> Iterator[sqlite3.Connection]:
        """The driver's connection, in no transaction."""
        link = self._take()
        is_sound = False
        try:
            yield link.connection
            is_sound = not link.connection.in_transaction
        finally:
            self._give_back(link, is_sound=is_sound)

    def open(self) -> sqlite3.Connection:
        """A new connection of the driver."""
        return self._connect()

    def begin(self, connection: sqlite3.Connection, *, writes: bool) -> None:
        """Begin a transaction; one that writes takes the lock of writers at once."""
        connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")

    def commit(self, connection: sqlite3.Connection) -> None:
        """Commit the transaction."""
        connection.commit()

    def keep_less(self, kibibytes: int) -> None:
        """Let each connection keep no more of the file in memory: for a process that only looks, for days."""
        connect = self._connect

        def opened() -> sqlite3.Connection:
            connection = connect()
            connection.execute(f"PRAGMA cache_size={-int(kibibytes)}")
            return connection

        self._connect = opened
        self.close()

    def close(self) -> None:
        """Close all connections; those in use, when their transactions end."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._generation += 1
        for link in idle:
            link.connection.close()

    def _take(self) -> Link:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            generation = self._generation
        return Link(self.open(), generation)

    def _give_back(self, link: Link, *, is_sound: bool) -> None:
        with self._lock:
            is_kept = is_sound and link.generation == self._generation and len(self._idle) < MOST_IDLE
            if is_kept:
                self._idle.append(link)
        if not is_kept:
            link.connection.close()
