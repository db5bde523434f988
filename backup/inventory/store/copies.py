"""Copies of an SQLite inventory, each one file that is whole; giving free pages back to the disk.

A copy is made by SQLite's own backup API, from one consistent view: writers are not blocked meanwhile. It is
checked before it gets its name, and is in a folder that only its owner can read.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from contextlib import closing, suppress
from typing import Any, Final

from backup.errors import InventoryDamagedError, NightvaultError, SpoolError
from backup.files import Draft
from backup.inventory.store.connections import Connections
from backup.inventory.store.locks import hold_lock
from backup.model import MIB

FOLDER: Final = "copies"  # in the state directory
_KEPT_OF_MIGRATIONS: Final = 3
_BEFORE: Final = re.compile(r"before-schema-([0-9]{4})\.sqlite")
_SLACK: Final = 4 * MIB


def copies_in(state: str) -> str:
    """The folder of copies in a state directory; made if it is not there."""
    folder = os.path.join(state, FOLDER)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as error:
        raise SpoolError(f"the folder {folder} cannot be made: {error.strerror}") from error
    return folder


def copy_inventory(connections: Connections, target: str, state: str, *, replace: bool = False) -> int:
    """Copy the inventory into a new file of mode 0600; its size in bytes.

    SQLite writes by the file's name, so it writes in the folder of copies, where nobody else can change what
    that is. `NightvaultError` if the target is there already, unless `replace`; `SpoolError` if it cannot be
    written; `LockedError` while another copy is made.
    """
    if not replace and os.path.lexists(target):
        raise _taken(target)
    folder, size = copies_in(state), database_size(connections)
    part = os.path.join(folder, "copy.part")
    for place in {folder, os.path.dirname(os.path.abspath(target))}:
        require_room(place, size, f"the copy {target}")
    with hold_lock(state, "copy"), Draft(os.path.join(folder, "copy"), beside=part) as draft:
        _clear_beside(part)  # of a process that was killed
        try:
            _fill(connections, part)
            draft.sync()
            _take_over(part, target, replace=replace)
        except FileExistsError as error:
            raise _taken(target) from error
        except OSError as error:
            raise SpoolError(
                f"the copy {target} cannot be written: {error.strerror}", advice="name another place"
            ) from error
        finally:
            _clear_beside(part)
    return os.stat(target).st_size


def _clear_beside(path: str) -> None:
    """Remove what SQLite keeps beside a database."""
    for end in ("-wal", "-shm", "-journal"):
        with suppress(FileNotFoundError):
            os.unlink(path + end)


def _take_over(part: str, target: str, *, replace: bool) -> None:
    """Write what is in a file to the target, by a descriptor that is the target's own."""
    with open(part, "rb") as source, Draft(target) as draft:
        shutil.copyfileobj(source, draft.file, MIB)
        draft.place(replace=replace)


def _taken(target: str) -> NightvaultError:
    return NightvaultError(f"there is a file already: {target}", advice="name another one, or remove it")


def _fill(connections: Connections, part: str) -> None:
    """Fill an empty file from the database, and check it."""
    with connections.outside() as source, closing(sqlite3.connect(part)) as copy:
        copy.execute("PRAGMA synchronous=OFF")  # it is synced as a whole
        try:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, and read where nothing may be written
            (found,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:
                raise SpoolError(f"the copy cannot be written: {error}") from error
            raise
        if found != "ok":
            raise InventoryDamagedError(
                f"the inventory is damaged, so no copy of it was kept: {found}",
                advice="`nightvault inventory verify` says more",
            )


def copy_before_migration(connections: Connections, state: str, version: str) -> str:
    """Keep a copy of an older nightvault's inventory before its schema is changed; returns the copy's path.

    Of these copies the newest few are kept.
    """
    folder = copies_in(state)
    path = os.path.join(folder, f"before-schema-{version}.sqlite")
    copy_inventory(connections, path, state, replace=True)
    for old in migration_copies(state)[:-_KEPT_OF_MIGRATIONS]:
        with suppress(OSError):
            os.unlink(old)
    return path


def migration_copies(state: str) -> list[str]:
    """The copies that were made before migrations, the oldest first."""
    return _named(os.path.join(state, FOLDER), _BEFORE)


def newest_copy_for(state: str, head: str) -> str | None:
    """The newest copy from before a migration that a program of schema `head` can open; None without one."""
    found = [path for path in migration_copies(state) if _schema_of(path) <= head]
    return found[-1] if found else None


def _schema_of(path: str) -> str:
    """The schema of a copy: that before the one of its name."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as copy:
        try:
            return str(copy.execute("SELECT version_num FROM alembic_version").fetchone()[0])
        except (sqlite3.Error, TypeError):
            return "none"


def prune_copies(folder: str, pattern: re.Pattern[str], keep: int) -> list[str]:
    """Delete all but the newest copies whose names match; the deleted paths."""
    gone = _named(folder, pattern)[:-keep]
    for path in gone:
        os.unlink(path)
    return gone


def _named(folder: str, pattern: re.Pattern[str]) -> list[str]:
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    return [os.path.join(folder, name) for name in names if pattern.fullmatch(name)]


def database_size(connections: Connections) -> int:
    """The size of the database in bytes, with what is not in its main file yet."""
    with connections.outside() as source:
        return _one(source, "page_count") * _one(source, "page_size")


def _one(connection: Any, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def vacuum(connections: Connections, folder: str) -> tuple[int, int]:
    """Write the database anew without free pages; its size before and after.

    SQLite writes it twice, into a temporary file in `folder` and into the log beside the inventory, so a cut
    leaves the one from before. `SpoolError` where there is no room for that.
    """
    before = database_size(connections)
    require_room(folder, 2 * before, "the inventory, written anew,")
    had = os.environ.get("SQLITE_TMPDIR")
    os.environ["SQLITE_TMPDIR"] = folder
    try:
        with connections.outside() as source:
            source.execute("PRAGMA temp_store=FILE")
            source.execute("VACUUM")
            source.execute("PRAGMA temp_store=MEMORY")
            source.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        if had is None:
            del os.environ["SQLITE_TMPDIR"]
        else:
            os.environ["SQLITE_TMPDIR"] = had
    return before, database_size(connections)


def require_room(folder: str, size: int, what: str) -> None:
    """Raise `SpoolError` unless a folder has room for so many bytes; `what` needs it."""
    try:
        found = os.statvfs(folder)
    except OSError as error:
        raise SpoolError(f"{folder}: {error.strerror}", advice="name a directory that is there") from error
    free = found.f_bavail * found.f_frsize
    if free < size + _SLACK:
        raise SpoolError(
            f"{what} needs {size + _SLACK >> 20} MiB in {folder}, and {free >> 20} are free",
            advice="free some space there; nothing was changed",
        )
