"""SQLAlchemy on a connection of ours, for the statements that are built with it."""

from __future__ import annotations

import sqlite3
from contextvars import ContextVar
from functools import lru_cache

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import NullPool

_given: ContextVar[sqlite3.Connection] = ContextVar("given")


def core_on(connection: sqlite3.Connection) -> Connection:
    """The connection as SQLAlchemy has it. Its transactions are ours to begin and to end."""
    return _core_on(connection, _engine())


@lru_cache(maxsize=1)
def _engine() -> Engine:
    """One engine for all, so that a statement is compiled once."""
    engine = create_engine("sqlite://", creator=_given.get, poolclass=NullPool, pool_reset_on_return=None)
    # What SQLAlchemy asks the first connection ends with a rollback, which must not be one of ours.
    _core_on(sqlite3.connect(":memory:", isolation_level=None), engine).close()
    return engine


def _core_on(connection: sqlite3.Connection, engine: Engine) -> Connection:
    token = _given.set(connection)
    try:
        made = engine.connect()
    finally:
        _given.reset(token)
    made.begin()  # never ended: to SQLAlchemy all is one transaction, and it begins and ends none
    return made
