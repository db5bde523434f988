"""Locks in the state directory: exclusive ones by name, and one shared by all who have the inventory open.

Each is a lock of a small file, so it ends with its process; the files stay, and mean nothing by themselves.
Every process with the inventory open shares the lock `open`, so that it is not moved meanwhile: what the
process then records would be in a file that nobody reads any more.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from backup.errors import SpoolError, StateDeniedError
from backup.files import FileLock, file_lock

_OPEN = "open"
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def hold_lock(directory: str, name: str) -> Iterator[None]:
    """Hold the lock `name` exclusively. `LockedError` if another process holds it."""
    others = "another backup is running on this inventory, or a rebuild"
    told = others if name == "backup" else f"another {name} is running on this inventory"
    with _lock(directory, name, told=told):
        yield


def share_opening(directory: str) -> FileLock:
    """A share to be held as long as the inventory is open. `LockedError` while somebody replaces it.

    A process that may not write to the state directory, or finds none, has no share: it records nothing,
    either.
    """
    try:
        return _lock(
            directory, _OPEN, shared=True, told="the inventory is being rebuilt, or moved out of the way"
        )
    except StateDeniedError:
        return FileLock(None)
    except SpoolError:
        if os.path.isdir(directory):
            raise
        return FileLock(None)


@contextmanager
def exclusive_opening(directory: str) -> Iterator[None]:
    """Keep every process from opening the inventory. `LockedError`, naming those that have it open."""
    with _lock(directory, _OPEN, told="the inventory is open in another process"):
        yield


def _lock(directory: str, name: str, *, told: str, shared: bool = False) -> FileLock:
    path = os.path.join(directory, f"{name}.lock")
    try:
        return file_lock(path, shared=shared, told=told)
    except OSError as error:
        kind = StateDeniedError if error.errno in _DENIED else SpoolError
        raise kind(f"the lock {path} cannot be made: {error.strerror}") from error
