"""The one place where SQLAlchemy and Alembic are at work on an inventory: its migrations.

All other modules use the driver itself (`driver`). SQLAlchemy is given our connection for a migration.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from backup.errors import InventoryDamagedError
from backup.inventory.store.connections import Transaction


class _Lent:
    """A connection of the driver that SQLAlchemy can neither close nor commit."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def _nothing(self) -> None:
        """SQLAlchemy believes that it began, and ends, a transaction."""

    commit = rollback = close = _nothing


@contextmanager
def as_sqlalchemy(tx: Transaction) -> Iterator[Connection]:
    """The connection as SQLAlchemy has it, in the transaction."""
    engine = create_engine("sqlite://", creator=lambda: _Lent(tx.connection), poolclass=NullPool)
    with engine.connect() as connection, connection.begin():
        yield connection


def upgrade(tx: Transaction, version: str) -> None:
    """Bring the schema up to that version, in the transaction."""
    config = Config()
    config.set_main_option("script_location", migrations_folder().replace("%", "%%"))
    with as_sqlalchemy(tx) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)


def migrations_folder() -> str:
    """The folder of migrations: inside the installed package, or beside it in a checkout."""
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    for above in (package, os.path.dirname(package)):
        candidate = os.path.join(above, "migrations")
        if os.path.exists(os.path.join(candidate, "env.py")):
            return candidate
    raise InventoryDamagedError("this installation lacks its migrations", advice="install nightvault again")
