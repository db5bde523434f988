"""Locks in the state directory: exclusive ones by name, and one shared by all who have the inventory open.

Each is a lock of a small file, so it ends with its process; the files stay, and mean nothing by themselves.
Every process with the inventory open shares the lock `open`, so that it is not moved meanwhile: what the
process then records would be in a file that nobody reads any more.

A living process keeps its lock even if it is suspended for good. `take_away` gives the lock's name to a new
file, and the fence keeps the old holder from recording anything more: once it goes on, another run may have
finished what it had sent, and gone on from there. So a process that takes the lock of backups also takes the
next fencing number, and begins each transaction that writes by comparing it. What it had recorded as
submitted before losing the lock is finished by the next run.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from backup.errors import LockedError, SpoolError, StateDeniedError
from backup.files import FileLock, file_lock, renew_lock_file
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import changed, value_of

BACKUP = "backup"
"""The lock of whatever stores catalogs."""

_FENCE = "fence"
_OPEN = "open"
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def hold_lock(directory: str, name: str) -> Iterator[FileLock]:
    """Hold the lock `name` exclusively. `LockedError` if another process holds it."""
    others = "another backup is running on this inventory, or a rebuild"
    told = others if name == BACKUP else f"another {name} is running on this inventory"
    with _lock(directory, name, told=told) as lock:
        yield lock


def is_held(directory: str, name: str) -> bool:
    """Whether a process holds the lock `name`, also one of a container that shares the directory."""
    try:
        _lock(directory, name, told="").close()
    except LockedError:
        return True
    return False


def take_away(directory: str, name: str) -> None:
    """Take the lock `name` away from the process that holds it; call `raise_fence` first."""
    path = os.path.join(directory, f"{name}.lock")
    try:
        renew_lock_file(path)
    except FileNotFoundError:
        return
    except OSError as error:
        kind = StateDeniedError if error.errno in _DENIED else SpoolError
        raise kind(f"the lock {path} cannot be replaced: {error.strerror}") from error


def share_opening(directory: str) -> FileLock:
    """Take the shared lock, held as long as the inventory is open. `LockedError` while it is being replaced.

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


class Fence:
    """The fencing number of this process, if it holds the lock."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: int | None = None

    @contextmanager
    def holding(self, number: int) -> Iterator[None]:
        """A context in which this process writes only as long as no other has taken a higher number."""
        self._held = number
        try:
            yield
        finally:
            self._held = None

    def require(self, tx: Transaction) -> None:
        """`LockedError` if the lock was taken from this process; each transaction that writes asks."""
        if self._held is None or self._held == _fence_number(tx):
            return
        raise LockedError(
            "the lock of this process was taken away by `nightvault unlock --force`, and another may have "
            "gone on since: it records nothing more",
            advice="nothing is lost: the next backup finishes what this one had recorded, and stores the "
            "rest",
        )


def raise_fence(tx: Transaction) -> int:
    """Take the next fencing number: a process with a lower one cannot write any more."""
    number = _fence_number(tx) + 1
    if not changed(tx, "UPDATE counters SET next = ? WHERE name = ?", (number, _FENCE)):
        changed(tx, "INSERT INTO counters (next, name) VALUES (?, ?)", (number, _FENCE))
    return number


def _fence_number(tx: Transaction) -> int:
    return int(value_of(tx, "SELECT next FROM counters WHERE name = ?", (_FENCE,)) or 0)
