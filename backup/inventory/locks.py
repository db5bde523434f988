"""Locks in the state directory: who is alone at something, and who has the inventory open.

Each is a `flock` of a small file, so it dies with its process; the files stay, and mean nothing by
themselves. Whoever has the inventory open shares the lock `open`: it is not moved under him, for what he
records then would be in a file that nobody reads any more.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from backup.errors import LockedError, SpoolError, StateDeniedError

_OPEN = "open"
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def hold_lock(directory: str, name: str) -> Iterator[None]:
    """Hold the lock `name` alone. `LockedError` if another has it."""
    handle = _file(directory, name)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            others = "another backup is running on this inventory, or a rebuild"
            told = others if name == "backup" else f"another {name} is running on this inventory"
            raise LockedError(told) from error
        yield
    finally:
        os.close(handle)


class Opening:
    """A share in the lock of those who have the inventory open; it ends with `close`, or as garbage."""

    def __init__(self, handle: int | None) -> None:
        self._handle = handle

    def close(self) -> None:
        """Give the share back; again does nothing."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def __del__(self) -> None:
        self.close()


def share_opening(directory: str) -> Opening:
    """To be held as long as the inventory is open. `LockedError` while somebody replaces it.

    Who may not write to the state directory, or finds none, has no share: he records nothing, either.
    """
    try:
        handle = _file(directory, _OPEN)
    except StateDeniedError:
        return Opening(None)
    except SpoolError:
        if os.path.isdir(directory):
            raise
        return Opening(None)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise LockedError("the inventory is being rebuilt, or moved out of the way") from error
    return Opening(handle)


@contextmanager
def nobody_has_it_open(directory: str) -> Iterator[None]:
    """Keep everybody from opening the inventory. `LockedError`, naming processes, if somebody has it open."""
    handle = _file(directory, _OPEN)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError(f"the inventory is open in another process{_holders(handle)}") from error
        yield
    finally:
        os.close(handle)


def _file(directory: str, name: str) -> int:
    path = os.path.join(directory, f"{name}.lock")
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        kind = StateDeniedError if error.errno in _DENIED else SpoolError
        raise kind(f"the lock {path} cannot be made: {error.strerror}") from error


def _holders(handle: int) -> str:
    """The processes that hold a lock of this file, as far as the kernel tells, for a message."""
    mine = os.fstat(handle)
    file = f"{os.major(mine.st_dev):02x}:{os.minor(mine.st_dev):02x}:{mine.st_ino}"
    try:
        with open("/proc/locks", encoding="ascii") as locks:
            fields = [line.split() for line in locks]
    except OSError:
        return ""
    found = {one[4] for one in fields if len(one) > 5 and one[1] == "FLOCK" and one[5] == file}
    return f" ({', '.join(sorted(found))})" if found else ""
