"""Opens an inventory: migrations, locks, transactions, and errors in our words."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any

from msgspec import Struct, field

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
from backup.inventory.store.connections import Connections, Transaction
from backup.inventory.store.database_errors import REBUILD_ADVICE, our_errors
from backup.inventory.store.driver import changed, executed, insert_tuples, records, row_of, value_of
from backup.inventory.store.locks import BACKUP, Fence, hold_lock, raise_fence, share_opening, take_away
from backup.inventory.store.read_only import Access, access_to, read_only_creator
from backup.inventory.store.times import micros
from backup.model import InventoryId

HEAD = "0030"

_URL = re.compile(r"(?P<driver>[\w+]+)://[^/?]*(?:/(?P<path>[^?]*))?(?P<options>\?.*)?", re.DOTALL)

APPLICATION_ID = 0x4E564C54  # "NVLT", in the header of an SQLite inventory


class FileIdentity(Struct, frozen=True):
    """A path with device and inode of its file, to notice when the file is replaced."""

    path: str
    device: int
    inode: int


class Inventory(Struct, frozen=True):
    """An open inventory. Use each transaction on the thread that began it; several may be open at once.

    `opening` is the share in the lock that keeps the file from being moved; `file` shows if it was, all the
    same. Writing, and taking a lock, raise `InventoryMovedError` then.
    """

    connections: Connections
    id: InventoryId
    signer_public: bytes
    lock_directory: str
    ancestors: tuple[InventoryId, ...] = ()  # those that this one was rebuilt from, nearest first
    opening: FileLock | None = None
    file: FileIdentity | None = None
    fence: Fence = field(default_factory=Fence)

    @property
    def predecessor(self) -> InventoryId | None:
        """The inventory that this one was rebuilt from."""
        return self.ancestors[0] if self.ancestors else None

    @contextmanager
    def writing(self, *, waits: bool = True) -> Iterator[Transaction]:
        """A transaction that is committed at the end, or rolled back by an exception.

        With `waits` False it is a `LockedError` at once that another process writes just now.
        """
        with our_errors(self.connections.path), self.connections.transaction(writes=True, waits=waits) as tx:
            self.require_same_file()
            self.fence.require(tx)
            yield tx

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """A consistent view for reading."""
        with our_errors(self.connections.path), self.connections.transaction() as tx:
            yield tx

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold the lock `name`; it ends with the process. `LockedError` if another holds it.

        With the lock of backups this process takes a fencing number: if the lock is taken away from it, it
        writes nothing any more (`LockedError`).
        """
        with hold_lock(self.lock_directory, name) as lock:
            self.require_same_file()
            if name != BACKUP:
                yield
                return
            with self.writing() as tx:
                _refuse_newer(_schema_of(tx), self.lock_directory)  # an upgrade since it was opened
                if not lock.counts():
                    raise LockedError("the lock was taken away by `nightvault unlock --force` at this moment")
                number = raise_fence(tx)
            with self.fence.holding(number):
                yield

    def take_lock_away(self) -> None:
        """Take the lock of backups from a living process that hangs: it records nothing more."""
        with self.writing() as tx:
            raise_fence(tx)
        take_away(self.lock_directory, BACKUP)

    def require_same_file(self) -> None:
        """Raise `InventoryMovedError` if another file now has the inventory's path."""
        if self.file is not None and _identity_of(self.file.path) != self.file:
            raise InventoryMovedError(f"the inventory {self.file.path} was moved or replaced meanwhile")

    def close(self) -> None:
        """Close the database."""
        self.connections.close()
        if self.opening is not None:
            self.opening.close()


def _identity_of(path: str | None) -> FileIdentity | None:
    """The identity of the file at that path; None if there is none."""
    try:
        found = os.stat(path or "")
    except FileNotFoundError:
        return None
    return FileIdentity(path or "", found.st_dev, found.st_ino)


def require_file(url: str) -> None:
    """Raise `ConfigError` unless the inventory is an SQLite file on this machine.

    A lock on a file of this machine keeps runs apart: hosts that share a server's database would write at the
    same time, give out the same numbers twice and make backups that cannot be rebuilt.
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise ConfigError("inventory.url is no database URL", advice="write sqlite:////PATH")
    database, _, driver = found["driver"].partition("+")
    if database != "sqlite":
        raise ConfigError(
            f"inventory.url: {found['driver']} cannot be used yet: the locks that keep two runs "
            "apart are files of this machine, so hosts that share a database would write over one another",
            advice="write sqlite:////PATH with a path on this machine, or leave url out; each host has an "
            "inventory of its own",
        )
    if driver not in {"", "pysqlite"} or not found["path"] or found["options"]:
        what = f"no driver for {found['driver']} is installed" if driver else "it is not that of a file"
        raise ConfigError(f"inventory.url: {what}", advice="write sqlite:////PATH")


def sqlite_path(url: str) -> str | None:
    """The file of an SQLite inventory; None for a server's."""
    found = _URL.fullmatch(url)
    is_file = found is not None and found["driver"].partition("+")[0] == "sqlite"
    return found["path"] or None if found is not None and is_file else None


def _open_file(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=60, check_same_thread=False)


def connections_to(path: str, *, only_reads: bool = False) -> Connections:
    """The connections to the SQLite file at `path`, with the settings of an inventory."""
    opened = read_only_creator(path) if only_reads else partial(_open_file, os.path.abspath(path))

    def connect() -> sqlite3.Connection:
        connection = opened()
        connection.isolation_level = None  # we issue BEGIN ourselves
        for pragma in (
            *(() if only_reads else ("journal_mode=WAL",)),
            "synchronous=FULL",
            "foreign_keys=ON",
            "cache_size=-32768",
            "secure_delete=FAST",  # SQLite as Debian compiles it writes zeros over each page that comes free
            "temp_store=MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    return Connections(path, connect)


def migrate(connections: Connections) -> None:
    """Bring the schema to the newest version, whole or not at all."""
    from backup.inventory.store.migrating import upgrade

    with our_errors(connections.path), connections.transaction(writes=True) as tx:
        upgrade(tx, "head")


def create_inventory(
    url: str, *, inventory_id: InventoryId, signer_public: bytes, now: datetime, lock_directory: str
) -> Inventory:
    """Make a new, empty inventory; `NightvaultError` if there is one already."""
    path = _file_of(url)
    opening = share_opening(lock_directory)
    connections = connections_to(path)
    _private_file(path)
    migrate(connections)
    with our_errors(path), connections.transaction(writes=True) as tx:
        if row_of(tx, "SELECT inventory_id FROM about", ()) is not None:
            raise NightvaultError(f"there is an inventory already: {url}")
        about = "INSERT INTO about (inventory_id, signer_public, created_at) VALUES (?, ?, ?)"
        changed(tx, about, (inventory_id, signer_public, micros(now)))
        mark(tx)
        names = ("entries", "chunks", "directories", "owners", "archives")
        insert_tuples(tx, "counters", ("name", "next"), [(name, 1) for name in names])
    file = _identity_of(path)
    return Inventory(connections, inventory_id, signer_public, lock_directory, opening=opening, file=file)


def open_inventory(url: str, *, lock_directory: str) -> Inventory:
    """Open the inventory at `url`, migrating it if it is older than this program."""
    path = _file_of(url)
    access = access_to(path)
    opening = share_opening(lock_directory)
    file = _identity_of(path)
    connections = connections_to(path, only_reads=access is Access.READS)
    with our_errors(path), connections.transaction() as tx:
        version = _checked_schema(tx, path)
        about = _about(tx) if version == HEAD else None
    if version != HEAD:
        _refuse_newer(version, lock_directory)
        if access is Access.READS:
            raise StateDeniedError(
                f"the inventory {path} is of an older nightvault, and this user has no right to migrate it",
                advice="run any command once as a user who may write it, or look at it with that version",
            )
        with hold_lock(lock_directory, "backup"):  # no run of an older program may be active
            _bring_up(connections, lock_directory)
        with our_errors(path), connections.transaction() as tx:
            about = _about(tx)
    if about is None:
        raise NoInventoryError(
            f"the inventory at {path} is incomplete: `nightvault init` was interrupted",
            advice="run `nightvault init`",
        )
    inventory_id, signer_public, joined = about
    before = tuple(InventoryId(joined[start : start + 16]) for start in range(0, len(joined), 16))
    own = InventoryId(inventory_id)
    return Inventory(connections, own, signer_public, lock_directory, before, opening, file)


def has_stopped_containers(inventory: Inventory) -> bool:
    """Whether a run has stopped containers and did not start them again; it may be at work."""
    with inventory.reading() as tx:
        return row_of(tx, "SELECT 1 FROM stopped_containers", ()) is not None


def _about(tx: Transaction) -> tuple[bytes, bytes, bytes] | None:
    found = next(iter(records(tx, "SELECT * FROM about", ())), None)
    return None if found is None else (found["inventory_id"], found["signer_public"], _ancestors(found))


def _ancestors(about: Any) -> bytes:
    return (about["ancestors"] if "ancestors" in about.keys() else None) or b""  # noqa: SIM118 (a row)


def _checked_schema(tx: Transaction, path: str) -> str:
    """The schema of the inventory at `path`. `NoInventoryError`, `InventoryDamagedError` if it is none."""
    _check_application(tx, path)
    if row_of(tx, "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'about'", ()) is None:
        raise NoInventoryError(f"no inventory at {path}")
    return _schema_of(tx)


def _schema_of(tx: Transaction) -> str:
    return str(value_of(tx, "SELECT version_num FROM alembic_version", ()))


def _bring_up(connections: Connections, state: str) -> None:
    """Migrate an older inventory, of which a copy is kept, unless another process has done so meanwhile."""
    from backup.inventory.store.copies import copy_before_migration

    with our_errors(connections.path):
        with connections.transaction() as tx:
            is_older = _schema_of(tx) != HEAD
        if is_older:
            copy_before_migration(connections, state, HEAD)
    migrate(connections)


def open_copy(path: str) -> tuple[Inventory, bool]:
    """A copy of an inventory, opened read-only, and whether it has the schema of this program.

    Nothing is locked, written or migrated. `NoInventoryError`, `InventoryNewerError`.
    """
    access_to(path)
    folder = os.path.dirname(os.path.abspath(path))
    connections = connections_to(path, only_reads=True)
    with our_errors(path), connections.transaction() as tx:
        version = _checked_schema(tx, path)
        row = row_of(tx, "SELECT inventory_id, signer_public FROM about", ())
    if row is None:
        raise NoInventoryError(f"the inventory at {path} is incomplete: `nightvault init` was interrupted")
    _refuse_newer(version, folder)
    return Inventory(connections, InventoryId(row[0]), row[1], folder), version == HEAD


def mark(tx: Transaction) -> None:
    """Mark an SQLite file as an inventory of ours, in its header."""
    executed(tx, f"PRAGMA application_id = {APPLICATION_ID}", ())


def _check_application(tx: Transaction, path: str) -> None:
    """Refuse another program's database; 0 is one of ours from before the mark."""
    found = value_of(tx, "PRAGMA application_id", ())
    if found not in {0, APPLICATION_ID}:
        raise InventoryDamagedError(
            f"{path} is the database of another program (application id {found:#x})",
            advice="point [inventory] url at the right file; " + REBUILD_ADVICE,
        )


def _refuse_newer(version: str, state: str) -> None:
    if version > HEAD:
        from backup.inventory.store.copies import newest_copy_for

        copy = newest_copy_for(state, HEAD)
        back = f"go back to {copy}, which has nothing of what was done since (docs/operations.md)"
        raise InventoryNewerError(
            f"the inventory was written by a newer nightvault (schema {version}, this program knows {HEAD})",
            advice="install that version or a later one again" + (f"; or {back}" if copy else ""),
        )


def _file_of(url: str) -> str:
    """The file of an inventory. `ConfigError` for anything else."""
    require_file(url)
    return sqlite_path(url) or ""


def _private_file(path: str) -> None:
    """Create the SQLite file with mode 0600, before anything is in it."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
