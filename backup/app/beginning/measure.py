"""Finds the folders of this machine that usually need a backup, and measures their size roughly.

A thread counts, and the result so far is taken after a limited time, so that a huge disk keeps nobody
waiting. A mount that does not answer is left out, as access to it would hang.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Final

from msgspec import Struct

from backup.app.base.silent_mounts import Places
from backup.errors import UsageError

SECONDS: Final = 2.0
"""Seconds that sizes are counted at most, all folders together."""

USUAL: Final = ("/etc", "/home", "/root", "/srv", "/var/www", "/opt", "/usr/local", "/var/mail")
"""Folders that are proposed where they hold anything."""

DATABASES: Final = {
    "/var/lib/postgresql": ("PostgreSQL", "pg_dumpall"),
    "/var/lib/pgsql": ("PostgreSQL", "pg_dumpall"),
    "/var/lib/mysql": ("MySQL or MariaDB", "mysqldump"),
    "/var/lib/mongodb": ("MongoDB", "mongodump"),
}
"""Folders of databases, whose files change while they are read: a command's dump is what can be restored."""

_NO_DISKS: Final = ("/proc", "/sys", "/dev")
_OURS: Final = frozenset({"nightvault"})


class Measured(Struct, frozen=True):
    """The approximate size of a folder; unless `is_whole`, only part of it was counted."""

    path: str
    bytes: int
    files: int
    is_whole: bool


class _Count:
    """The count of one folder so far."""

    def __init__(self, path: str) -> None:
        self.path, self.bytes, self.files, self.is_whole = path, 0, 0, False

    def taken(self) -> Measured:
        """Return the count so far."""
        return Measured(self.path, self.bytes, self.files, self.is_whole)


def measure(paths: Sequence[str], seconds: float = SECONDS, places: Places | None = None) -> list[Measured]:
    """Measure the approximate size of each path, for so many seconds at most. Symlinks are not followed.

    Mounts below them that do not answer are not counted, as access to them would hang.
    """
    counts, places = [_Count(path) for path in paths], places or Places()
    silent = {mount for path in paths for mount in places.silent_below(path)}
    ends = time.monotonic() + seconds
    thread = threading.Thread(target=_count_all, args=(counts, ends, silent), daemon=True)
    thread.start()
    thread.join(seconds + 0.1)
    return [count.taken() for count in counts]


def usual_folders(home: str, places: Places, *, is_root: bool) -> list[str]:
    """Return the proposed folders: those with content besides this program; for an ordinary user the home."""
    if not is_root:
        return [] if places.at(home).is_silent else [home]
    places.ask(USUAL)
    return [path for path in USUAL if places.at(path).names - _OURS]


def is_missing(path: str) -> bool:
    """Whether a path names no existing file; keys in a token or TPM are not checked."""
    return os.path.isabs(path) and not os.path.lexists(path)


def can_be_made(path: str) -> None:
    """`UsageError` unless the path exists and is writable, or can be created."""
    above = path
    while not _is_there(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        raise UsageError(f"{above} is there, and is no directory")
    if any(is_below(above, mount) for mount in _NO_DISKS):
        raise UsageError(f"{above} keeps no files: name a place on a disk")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UsageError(f"you may not write into {above}")


def is_below(path: str, folder: str) -> bool:
    """Whether a path is this folder or lies in it, compared as written."""
    return os.path.commonpath([path, folder]) == folder


def _is_there(path: str) -> bool:
    """Whether there is such a path. `UsageError` for one that never can be."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        if os.path.islink(path):
            raise UsageError(f"{path} is a symlink to what is not there") from error
        return False
    except OSError as error:
        raise UsageError(f"there can be no such path: {error.strerror}") from error
    return True


def databases_here(places: Places) -> list[str]:
    """Return the database folders that this machine has."""
    return [path for path in DATABASES if places.at(path).names]


def unanswered(home: str, places: Places, *, is_root: bool) -> list[str]:
    """Return the usual folders that are left out because a mount there does not answer."""
    return [path for path in ((*USUAL, *DATABASES) if is_root else (home,)) if places.at(path).is_silent]


def _count_all(counts: Sequence[_Count], ends: float, silent: Collection[str]) -> None:
    """Count one folder after the other; each may take its share of the time that is left."""
    for place, count in enumerate(counts):
        left = ends - time.monotonic()
        with suppress(OSError):
            count.is_whole = _count(count, time.monotonic() + left / (len(counts) - place), silent)


def _count(into: _Count, ends: float, silent: Collection[str]) -> bool:
    """Whether everything below the path was counted in time; what cannot be listed is passed over."""
    is_whole = True
    top = os.lstat(into.path)
    if not os.path.isdir(into.path):
        into.bytes, into.files = top.st_size, 1
        return True
    folders = [into.path]
    while folders:
        if time.monotonic() > ends:
            return False
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if time.monotonic() > ends:
                    return False
                if entry.path in silent:
                    is_whole = False
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    into.files += 1
                    into.bytes += entry.stat(follow_symlinks=False).st_size
    return is_whole
