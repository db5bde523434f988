"""The center's PostgreSQL: opened, brought up to date, and looked into as one host or as all.

Whose rows a transaction sees is a setting of that transaction, so that a pooler in transaction mode may stand
between. Nothing is prepared, and no lock outlives its transaction.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, column, create_engine, func, select, table
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from backup.errors import ConfigError, UnreachableError, UsageError
from backup.inventory.store.migrating import migrations_folder

HEAD = "0007"
AT_ONCE = 8
"""Connections of one process; who finds none within seconds is to come again later."""
_SECONDS = 5
_STATEMENT = "15s"


def opened_database(url: str) -> Engine:
    """The database at that address; nothing is connected yet. `UsageError`.

    Passwords come from libpq's file: an address on the command line is read by everybody on the machine.
    """
    try:
        parts = make_url(url)
    except ArgumentError as error:
        raise UsageError("--database: no address of a database", advice=_AS_IN) from error
    if parts.drivername not in {"postgresql", "postgresql+psycopg"}:
        raise UsageError(f"--database: {parts.drivername}: a center needs PostgreSQL", advice=_AS_IN)
    if parts.password is not None or "password" in parts.query:
        raise UsageError(
            "--database: the address has a password, which all users of this machine would see",
            advice="put it into ~/.pgpass, or a file that PGPASSFILE names",
        )
    options = {"connect_timeout": _SECONDS, "prepare_threshold": None}
    return create_engine(
        parts.set(drivername="postgresql+psycopg"),
        pool_size=AT_ONCE,
        max_overflow=0,
        pool_timeout=_SECONDS,
        pool_pre_ping=True,
        connect_args=options,
    )


_AS_IN = "as in postgresql://nightvault@/nightvault?host=/run/postgresql"


@contextmanager
def seeing(engine: Engine, host_id: str | None) -> Iterator[Connection]:
    """A transaction that sees the rows of a host, or of all with None. `UnreachableError`."""
    with our_errors(), engine.begin() as connection:
        setting = ("nightvault.sees", "all") if host_id is None else ("nightvault.host", host_id)
        connection.execute(
            select(func.set_config(*setting, True), func.set_config("statement_timeout", _STATEMENT, True))
        )
        yield connection


@contextmanager
def our_errors() -> Iterator[None]:
    """Raise what goes wrong at the database as `UnreachableError`, without statements and values."""
    try:
        yield
    except SQLAlchemyError as error:
        told = str(getattr(error, "orig", None) or type(error).__name__)
        raise UnreachableError(
            f"the center's database: {' '.join(told.split())[:300]}",
            advice="does it run, and may this user use it? `nightvault center init` makes its tables",
        ) from error


def set_up(engine: Engine, version: str = HEAD) -> None:
    """Make the tables, or bring them up to that version. `ConfigError` for a user of too many rights."""
    _refuse_mighty(engine)
    config = Config()
    folder = os.path.join(migrations_folder(), "center")
    config.set_main_option("script_location", folder.replace("%", "%%"))
    with our_errors(), engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)


def require_ready(engine: Engine) -> None:
    """Refuse a database that is not set up, or a user of it that may too much. `ConfigError`."""
    _refuse_mighty(engine)
    with our_errors(), engine.connect() as connection:
        version = MigrationContext.configure(connection).get_current_revision()
    if version != HEAD:
        raise ConfigError(
            "the center's database is not set up for this version of nightvault",
            advice="run `nightvault center init` with the same --database",
        )


def _refuse_mighty(engine: Engine) -> None:
    roles = table("pg_roles", column("rolname"), column("rolsuper"), column("rolbypassrls"))
    who = select(roles.c.rolname, roles.c.rolsuper, roles.c.rolbypassrls)
    with our_errors(), engine.connect() as connection:
        found = connection.execute(who.where(roles.c.rolname == func.current_user())).mappings().one()
    if found["rolsuper"] or found["rolbypassrls"]:
        raise ConfigError(
            f"the database's user {found['rolname']} passes row-level security by, which keeps hosts apart",
            advice="make another: CREATE ROLE nightvault LOGIN; CREATE DATABASE nightvault OWNER nightvault",
        )
