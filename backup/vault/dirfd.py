"""File operations relative to the descriptor of a directory (openat): never through a symlink, never outside
it.

Every function takes the descriptor of a directory and a plain name in it. Names are made by this program or
were matched against a pattern before; `O_NOFOLLOW` refuses a symlink in their place.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from backup.errors import ArchiveUnreadableError, UnreachableError, VaultError
from backup.files import sync_directory, write_durably

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LARGEST_SMALL = 2**20
_AWAY = {errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ETIMEDOUT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def failing_as_vault(doing: str, path: str) -> Iterator[None]:
    """Turn an `OSError` within into a `VaultError` that says what failed, below which path, and what to
    do."""
    try:
        yield
    except OSError as error:
        message = f"cannot {doing} in {path}: {error.strerror or error}"
        if error.errno in _AWAY:
            raise UnreachableError(message, advice=f"check the network mount at {path}") from error
        raise VaultError(message, advice=_advice(error, path)) from error


@contextmanager
def failing_as_archive(name: str, path: str) -> Iterator[None]:
    """Turn an `OSError` within into an error of this archive alone, unless it says that the whole disk is
    gone."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in _AWAY:
            raise
        message = f"archive {name} in {path} cannot be read: {error.strerror or error}"
        raise ArchiveUnreadableError(message, advice=_advice(error, path)) from error


def _advice(error: OSError, path: str) -> str:
    if error.errno in _FULL:
        return f"make room on the file system of {path}, then run this again: nothing is lost"
    if error.errno in _FORBIDDEN:
        return f"let this user read and write below {path}, and check that it is not mounted read-only"
    if error.errno == errno.ELOOP:
        return f"remove the symlink that somebody put below {path}"
    return f"check the disk that {path} lies on"


@contextmanager
def open_directory(name: str, *below: str, dir_fd: int) -> Iterator[int]:
    """The descriptor of a directory one or more levels below `dir_fd`; closed afterwards."""
    with ExitStack() as stack:
        fd = dir_fd
        for step in (name, *below):
            fd = os.open(step, _DIRECTORY, dir_fd=fd)
            stack.callback(os.close, fd)
        yield fd


@contextmanager
def open_file(name: str, flags: int, *, dir_fd: int) -> Iterator[int]:
    """The descriptor of a file in `dir_fd`, created with mode 0600 if `flags` say so; closed afterwards.

    A pipe in its place does not block.
    """
    fd = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def make_directory(name: str, *, dir_fd: int) -> None:
    """Make a directory (0700) durably; no effect if it exists."""
    try:
        os.mkdir(name, 0o700, dir_fd=dir_fd)
    except FileExistsError:
        return
    sync_directory(dir_fd)


def write_file(name: str, data: bytes, *, dir_fd: int) -> None:
    """Write a small file atomically and durably, by a temporary name and a rename."""
    write_durably(name, data, dir_fd=dir_fd, beside=f"{name}.new")


def read_file(name: str, *, dir_fd: int) -> bytes:
    """The whole content of a small file; of a file too large to be ours only its beginning.

    A pipe or a huge file that somebody else put in its place does not block the reader.
    """
    with open_file(name, os.O_RDONLY, dir_fd=dir_fd) as fd:
        return read_at(fd, min(os.fstat(fd).st_size, _LARGEST_SMALL), 0)


def write_at(fd: int, data: memoryview, offset: int) -> None:
    """Write all of `data` at `offset`, repeating short writes until it is done."""
    data = data.cast("B")
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written


def read_at(fd: int, length: int, offset: int) -> bytes:
    """Read `length` bytes at `offset`, fewer only where the file ends."""
    data = os.pread(fd, length, offset)
    if len(data) == length or not data:
        return data
    pieces = [data]  # Linux reads at most 2 GiB at once
    while data := os.pread(fd, length - sum(map(len, pieces)), offset + sum(map(len, pieces))):
        pieces.append(data)
    return b"".join(pieces)


def file_size(name: str, *, dir_fd: int) -> int | None:
    """The size of a regular file; None when there is none of that name."""
    try:
        found = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def remove(name: str, *, dir_fd: int) -> None:
    """Remove a file; no error when it does not exist."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=dir_fd)


def names_in(dir_fd: int) -> list[str]:
    """The names in a directory, sorted."""
    return sorted(os.listdir(dir_fd))
