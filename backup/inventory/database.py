"""Opens an inventory: migrations, locks, transactions, and errors in our words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

import backup.inventory.drill_tables
import backup.inventory.message_tables  # noqa: F401  their tables are of the schema, too
from backup.errors import (
    ConfigError,
    InventoryDamagedError,
    InventoryMovedError,
    InventoryNewerError,
    LockedError,
    NightvaultError,
    NoInventoryError,
    StateDeniedError,
)
from backup.files import FileLock
from backup.inventory import schema
from backup.inventory.bulk import insert_rows
from backup.inventory.copies import copy_before_migration, newest_copy_for
from backup.inventory.database_errors import REBUILD_ADVICE, our_errors
from backup.inventory.fence import Fence, raise_fence
from backup.inventory.locks import BACKUP, hold_lock, share_opening, take_away
from backup.inventory.read_only import Access, access_to, read_only_creator
from backup.model import InventoryId

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0012"

APPLICATION_ID = 0x4E564C54  # "NVLT", in the header of an SQLite inventory

Transaction = Connection


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """A path with device and inode of its file, to notice when the file is replaced."""

    path: str
    device: int
    inode: int


@dataclass(frozen=True, slots=True)
class Inventory:
    """An open inventory. Use each transaction on the thread that began it; several may be open at once.

    `opening` is the share in the lock that keeps the file from being moved; `file` shows if it was, all the
    same. Writing, and taking a lock, raise `InventoryMovedError` then.
    """

    engine: Engine
    id: InventoryId
    signer_public: bytes
    lock_directory: str
    predecessor: InventoryId | None = None  # the inventory that this one was rebuilt from
    opening: FileLock | None = None
    file: FileIdentity | None = None
    fence: Fence = field(default_factory=Fence, repr=False, compare=False)

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """A transaction that is committed at the end, or rolled back by an exception."""
        with our_errors(self.engine), self.engine.connect() as connection:
            writer = connection.execution_options(nightvault_write=True)
            with writer.begin():
                self.require_same_file()
                self.fence.require(writer)
                yield writer

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """A consistent view for reading."""
        with our_errors(self.engine), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold the lock `name`; it ends with the process. `LockedError` if another holds it.

        With the lock of backups this process takes a fencing number: if somebody takes the lock away from it,
        it writes nothing any more (`LockedError`).
        """
        with hold_lock(self.lock_directory, name) as lock:
            self.require_same_file()
            if name != BACKUP:
                yield
                return
            with self.writing() as tx:
                if not lock.counts():
                    raise LockedError("the lock was taken away by `nightvault unlock --force` at this moment")
                number = raise_fence(tx)
            with self.fence.holding(number):
                yield

    def take_lock_away(self) -> None:
        """Take the lock of backups from a process that lives and does not go on: it records nothing more."""
        with self.writing() as tx:
            raise_fence(tx)
        take_away(self.lock_directory, BACKUP)

    def require_same_file(self) -> None:
        """Raise `InventoryMovedError` if another file now has the inventory's path."""
        if self.file is not None and _identity_of(self.file.path) != self.file:
            raise InventoryMovedError(f"the inventory {self.file.path} was moved or replaced meanwhile")

    def close(self) -> None:
        """Close the database."""
        self.engine.dispose()
        if self.opening is not None:
            self.opening.close()


def _identity_of(path: str | None) -> FileIdentity | None:
    """The identity of the file at that path; None if there is none."""
    try:
        found = os.stat(path or "")
    except FileNotFoundError:
        return None
    return FileIdentity(path or "", found.st_dev, found.st_ino)


def require_file(url: str | URL) -> None:
    """Raise `ConfigError` unless the inventory is an SQLite file on this machine.

    A lock on a file of this machine keeps runs apart: hosts that share a server's database would write at the
    same time, give out the same numbers twice and make backups that cannot be rebuilt.
    """
    if not _is_sqlite(url):
        raise ConfigError(
            f"inventory.url: {_parsed(url).drivername} cannot be used yet: the locks that keep two runs "
            "apart are files of this machine, so hosts that share a database would write over one another",
            advice="write sqlite:////PATH with a path on this machine, or leave url away; each host has an "
            "inventory of its own",
        )


def _connect(url: str | URL, *, only_reads: bool = False) -> Engine:
    require_file(url)
    options: dict[str, Any] = {"connect_args": {"timeout": 60}}
    if only_reads:
        options = {"creator": read_only_creator(sqlite_path(url) or "")}
    try:
        engine = create_engine(url, pool_size=4, max_overflow=8, **options)
    except (NoSuchModuleError, ImportError) as error:
        raise ConfigError(
            f"inventory.url: no driver for {_parsed(url).drivername} is installed: {error}",
            advice="write sqlite:////PATH",
        ) from error

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # we issue BEGIN ourselves
        for pragma in (
            *(() if only_reads else ("journal_mode=WAL",)),
            "synchronous=FULL",
            "foreign_keys=ON",
            "cache_size=-32768",
            "temp_store=MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("nightvault_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _parsed(url: str | URL) -> URL:
    try:
        return make_url(url)
    except ArgumentError as error:
        raise ConfigError(
            "inventory.url is no database URL",
            advice="write sqlite:////PATH",
        ) from error


def _is_sqlite(url: str | URL) -> bool:
    return _parsed(url).drivername.partition("+")[0] == "sqlite"


def sqlite_path(url: str | URL) -> str | None:
    """The file of an SQLite inventory; None for a server's."""
    return _parsed(url).database if _is_sqlite(url) else None


def migrations_folder() -> str:
    """The folder of migrations: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "migrations", package.parent / "migrations"):
        if (candidate / "env.py").exists():
            return str(candidate)
    raise InventoryDamagedError("this installation lacks its migrations", advice="install nightvault again")


def _alembic(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", migrations_folder().replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest version, whole or not at all."""
    from alembic import command

    with our_errors(engine), engine.connect() as connection:
        writer = connection.execution_options(nightvault_write=True)
        with writer.begin():
            command.upgrade(_alembic(writer), "head")


def create_inventory(
    url: str, *, inventory_id: InventoryId, signer_public: bytes, now: datetime, lock_directory: str
) -> Inventory:
    """Make a new, empty inventory; `NightvaultError` if there is one already."""
    require_file(url)
    opening = share_opening(lock_directory)
    engine = _connect(url)
    _private_file(url)
    migrate(engine)
    with our_errors(engine), engine.connect() as connection:
        writer = connection.execution_options(nightvault_write=True)
        with writer.begin():
            if writer.execute(select(schema.about.c.inventory_id)).first() is not None:
                raise NightvaultError(
                    f"there is an inventory already: {engine.url.render_as_string(hide_password=True)}"
                )
            writer.execute(
                insert(schema.about).values(
                    inventory_id=inventory_id, signer_public=signer_public, created_at=schema.micros(now)
                )
            )
            mark(writer)
            names = ("entries", "chunks", "directories", "owners", "archives")
            insert_rows(writer, schema.counters, [(name, 1) for name in names])
    file = _identity_of(sqlite_path(url))
    return Inventory(engine, inventory_id, signer_public, lock_directory, opening=opening, file=file)


def open_inventory(url: str, *, lock_directory: str) -> Inventory:
    """Open the inventory at `url`, migrating it if it is older than this program."""
    require_file(url)
    path = sqlite_path(url)
    access = Access.WRITES if path is None else access_to(path)
    opening = share_opening(lock_directory)
    file = _identity_of(path)
    engine = _connect(url, only_reads=access is Access.READS)
    with our_errors(engine), engine.connect() as connection, connection.begin():
        _check_application(connection, path)
        if not inspect(connection).has_table("about"):
            raise NoInventoryError(f"no inventory at {path or 'the configured URL'}")
        version = _schema_of(connection)
    if version != HEAD:
        _refuse_newer(version, lock_directory)
        if access is Access.READS:
            raise StateDeniedError(
                f"the inventory {path} is of an older nightvault, and may not be written to bring it up",
                advice="run any command once as a user who may write it, or look at it with that version",
            )
        with hold_lock(lock_directory, "backup"):  # no run of an older program may be active
            _bring_up(engine, lock_directory)
    with our_errors(engine), engine.connect() as connection, connection.begin():
        row = connection.execute(select(schema.about)).first()
    if row is None:
        raise NoInventoryError(
            f"the inventory at {path or 'the configured URL'} was never finished",
            advice="run `nightvault init`",
        )
    predecessor = InventoryId(row.predecessor) if row.predecessor else None
    inventory_id = InventoryId(row.inventory_id)
    return Inventory(engine, inventory_id, row.signer_public, lock_directory, predecessor, opening, file)


def _schema_of(connection: Connection) -> str:
    return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar())


def _bring_up(engine: Engine, state: str) -> None:
    """Migrate an older inventory, of which a copy is kept, unless another process has done so meanwhile."""
    with our_errors(engine):
        with engine.connect() as connection, connection.begin():
            is_older = _schema_of(connection) != HEAD
        if is_older:
            copy_before_migration(engine, state, HEAD)
    migrate(engine)


def open_copy(path: str) -> tuple[Inventory, bool]:
    """A copy of an inventory, to be looked at only; and whether it has the schema of this program.

    Nothing is locked, written or migrated. `NoInventoryError`, `InventoryNewerError`.
    """
    access_to(path)
    folder = os.path.dirname(os.path.abspath(path))
    engine = _connect(URL.create("sqlite", database=path), only_reads=True)
    with our_errors(engine), engine.connect() as connection, connection.begin():
        _check_application(connection, path)
        if not inspect(connection).has_table("about"):
            raise NoInventoryError(f"no inventory at {path}")
        version = _schema_of(connection)
        row = connection.exec_driver_sql("SELECT inventory_id, signer_public FROM about").first()
    if row is None:
        raise NoInventoryError(f"the inventory at {path} was never finished")
    _refuse_newer(version, folder)
    return Inventory(engine, InventoryId(row[0]), row[1], folder), version == HEAD


def mark(tx: Transaction) -> None:
    """Mark an SQLite file as an inventory of ours, in its header."""
    if tx.dialect.name == "sqlite":
        tx.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")


def _check_application(connection: Connection, path: str | None) -> None:
    """Refuse another program's database; 0 is one of ours from before the mark."""
    if path is None:
        return
    found = connection.exec_driver_sql("PRAGMA application_id").scalar()
    if found not in {0, APPLICATION_ID}:
        raise InventoryDamagedError(
            f"{path} is the database of another program (application id {found:#x})",
            advice="point [inventory] url at the right file; " + REBUILD_ADVICE,
        )


def _refuse_newer(version: str, state: str) -> None:
    if version > HEAD:
        copy = newest_copy_for(state, HEAD)
        back = f"go back to {copy}, which has nothing of what was done since (docs/operations.md)"
        raise InventoryNewerError(
            f"the inventory was written by a newer nightvault (schema {version}, this program knows {HEAD})",
            advice="install that version or a later one again" + (f"; or {back}" if copy else ""),
        )


def _private_file(url: str) -> None:
    """Create the SQLite file with mode 0600, before anything is in it."""
    path = sqlite_path(url)
    if path:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
