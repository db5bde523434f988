"""Translates the database's errors to ours, by SQLite's error codes and not by its messages."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from backup.errors import (
    InventoryDamagedError,
    InventoryOpeningError,
    LockedError,
    NightvaultError,
    SpoolError,
    StateDeniedError,
)
from backup.wording import printable

REBUILD_ADVICE = (
    "`sqlite3 FILE 'pragma integrity_check'` says more; what is whole in the vault comes back with "
    "`nightvault rebuild --set-aside --key FILE`, which deletes nothing"
)

_MEANINGS: dict[int, tuple[type[NightvaultError], str]] = {
    sqlite3.SQLITE_FULL: (SpoolError, "cannot grow"),
    sqlite3.SQLITE_READONLY: (StateDeniedError, "can only be read here"),
    sqlite3.SQLITE_BUSY: (LockedError, "is in use"),
    sqlite3.SQLITE_LOCKED: (LockedError, "is in use"),
    sqlite3.SQLITE_READONLY_RECOVERY: (InventoryOpeningError, "is being opened by its writer"),
    sqlite3.SQLITE_READONLY_CANTINIT: (InventoryOpeningError, "is being opened by its writer"),
}
"""SQLite's result codes that are no damage, some of them extended (sqlite.org/rescode.html); a damaged file
is no `OperationalError` to begin with."""

_MAYBE_FULL = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
_NEEDED_TO_READ = 64 * 1024
"""Bytes; the index of the write-ahead log, without which nothing is read, takes 32 KiB
(sqlite.org/walformat.html, 2)."""


@contextmanager
def our_errors(where: str | None) -> Iterator[None]:
    """A context manager that turns errors of the database at a path into ours, keeping the cause."""
    try:
        yield
    except NightvaultError:
        raise
    except UnicodeDecodeError as error:  # damaged names in SQLite's own message, which is not UTF-8 then
        raise InventoryDamagedError(f"the inventory {where} is damaged", advice=REBUILD_ADVICE) from error
    except Exception as error:
        cause = _cause_in(error)
        if cause is None:
            raise
        text, detailed = str(cause), getattr(cause, "sqlite_errorcode", 0)
        code = detailed & 0xFF  # without what details it
        if not isinstance(cause, sqlite3.OperationalError):
            raise InventoryDamagedError(
                f"the inventory {where} is damaged: {text}", advice=REBUILD_ADVICE
            ) from error
        if code in _MAYBE_FULL and _is_disk_full(where):
            raise SpoolError(f"the inventory {where} cannot be used: no space is left on its disk") from error
        kind, what = (
            _MEANINGS.get(detailed) or _MEANINGS.get(code) or (InventoryDamagedError, "cannot be used")
        )
        if kind is LockedError:
            text += _held_by(where)
        raise kind(f"the inventory {where} {what}: {text}") from error


def _held_by(path: str | None) -> str:
    """The processes that keep others from writing, for a message."""
    from backup.inventory.store.holders import database_holders  # for an error alone

    found = database_holders(path) if path else ()
    told = ", ".join(
        f"process {holder.process} ({printable(holder.command[:60])})"
        if holder.command
        else f"process {holder.process}"
        for holder in found
        if holder.process
    )
    return f"; its lock is held by {told}" if told else ""


def _cause_in(error: Exception) -> Exception | None:
    """The database's own error, which SQLAlchemy wraps; None for any other."""
    if isinstance(error, sqlite3.Error):
        return error
    if "sqlalchemy.exc" not in sys.modules:  # then none can be of it
        return None
    from sqlalchemy.exc import SQLAlchemyError

    if not isinstance(error, SQLAlchemyError):
        return None
    cause = getattr(error, "orig", None)
    return cause if isinstance(cause, sqlite3.Error) else error


def _is_disk_full(path: str | None) -> bool:
    """Whether the disk of an inventory lacks the little space that SQLite needs even to read it."""
    try:
        disk = os.statvfs(os.path.dirname(path or "") or ".")
    except OSError:
        return False
    return disk.f_frsize * (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail) < _NEEDED_TO_READ
