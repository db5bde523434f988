"""The directory into which drills restore: a folder for each run, which is removed at its end.

    <state>/drills/        0700
        RUN/0, RUN/1 …     what the restores of a drill bring

It is made and removed through descriptors, never through a symlink. Leftovers of a dead process are removed
when the next drill begins: all folders but those of drills that wait for their vault.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from backup.errors import SpoolError
from backup.safe_paths import Way
from backup.source.flags import LOCKS, read_flags, write_flags

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
DEEPEST = 200
"""How many directories deep a file may lie that a drill restores: removing is recursive."""


def make(path: str, run: int) -> str:
    """Return the path of a run's folder, created if missing. `SpoolError` if others can change it."""
    try:
        with _opened(os.path.dirname(path)) as state:
            _make(os.path.basename(path), state, path)
            with _entered(os.path.basename(path), state) as drills:
                _make(str(run), drills, f"{path}/{run}")
    except OSError as error:
        raise SpoolError(f"{path} cannot be used for a drill: {error.strerror or error}") from error
    return f"{path}/{run}"


@contextmanager
def entered(path: str, run: int, name: str) -> Iterator[tuple[int, str]]:
    """Open a folder for one restore of a run, created if missing; returns its handle and real path."""
    try:
        with Way(os.path.dirname(path), judges=False) as state:
            drills = os.path.basename(path)
            with _entered(drills, state.handle) as above, _entered(str(run), above) as folder:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=folder)
                handle = os.open(name, _DIRECTORY, dir_fd=folder)
            real = os.path.join(state.path, drills, str(run), name)
    except OSError as error:
        raise SpoolError(f"{path}/{run}/{name} cannot be used: {error.strerror or error}") from error
    try:
        yield handle, real
    finally:
        os.close(handle)


def clear(path: str, run: int, name: str) -> None:
    """Remove the files of one restore of a run, to begin it again."""
    try:
        with (
            _opened(os.path.dirname(path)) as state,
            _entered(os.path.basename(path), state) as drills,
            _entered(str(run), drills) as folder,
        ):
            _remove(name, folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise SpoolError(f"{path}/{run}/{name} cannot be removed: {error.strerror or error}") from error


def sweep(path: str, keep: Collection[int]) -> None:
    """Remove the folders of all runs except those in `keep`, and the directory itself once it is empty."""
    try:
        with _opened(os.path.dirname(path)) as state:
            name = os.path.basename(path)
            with _entered(name, state) as drills:
                kept = {str(run) for run in keep}
                for folder in os.listdir(drills):
                    if folder not in kept:
                        _remove(folder, drills)
            with suppress(OSError):  # not empty
                os.rmdir(name, dir_fd=state)
    except FileNotFoundError:
        return
    except OSError as error:
        raise SpoolError(
            f"what a drill restored below {path} cannot be removed: {error.strerror or error}",
            advice="remove it by hand: it is not encrypted",
        ) from error


@contextmanager
def _opened(path: str) -> Iterator[int]:
    with Way(path, judges=False) as way:
        yield way.handle


@contextmanager
def _entered(name: str, parent: int) -> Iterator[int]:
    handle = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        yield handle
    finally:
        os.close(handle)


def _make(name: str, parent: int, path: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    with _entered(name, parent) as handle:
        if os.fstat(handle).st_uid != os.geteuid():
            raise SpoolError(f"{path} belongs to another user", advice="remove it, then run this again")
        os.fchmod(handle, 0o700)


def _remove(name: str | bytes, parent: int) -> None:
    """Remove whatever has that name, also what its restored mode or flags protect."""
    found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if not stat.S_ISDIR(found.st_mode):
        try:
            os.unlink(name, dir_fd=parent)
        except PermissionError:
            _unlock(name, parent)
            os.unlink(name, dir_fd=parent)
        return
    if os.geteuid() and found.st_mode & 0o700 != 0o700:  # ours, in a directory that nobody else may enter
        os.chmod(name, 0o700, dir_fd=parent)
    with _entered(os.fsdecode(name), parent) as handle:
        _clear(handle)
        for entry in os.listdir(handle):
            _remove(entry, handle)
    os.rmdir(name, dir_fd=parent)


def _unlock(name: str | bytes, parent: int) -> None:
    handle = os.open(name, _LOOK, dir_fd=parent)
    try:
        _clear(handle)
    finally:
        os.close(handle)


def _clear(handle: int) -> None:
    """Take the flags away that keep an inode from being changed."""
    flags = read_flags(handle) or 0
    if flags & LOCKS:
        write_flags(handle, flags & ~LOCKS)
