"""Read a file that may change under us, cut as it is read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from backup.format.chunker import MINIMUM, Chunker
from backup.model import MIB

WINDOW = 8 * MIB
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class NotAFileError(OSError):
    """Something else took the file's place between looking and opening."""


def open_file(handle: int, name: bytes) -> int:
    """Open a regular file in the directory `handle`, without touching its access time where we may.

    OSError as the system gives it; `NotAFileError` if it is no regular file (any more).
    """
    try:
        opened = os.open(name, _FLAGS | os.O_NOATIME, dir_fd=handle)
    except PermissionError:
        opened = os.open(name, _FLAGS, dir_fd=handle)  # O_NOATIME is for the owner and root
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise NotAFileError(0, "it is not a regular file any more")
    return opened


def same_version(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether nothing that we can see was written between two looks at an open file."""
    return (one.st_size, one.st_mtime_ns, one.st_ctime_ns) == (
        other.st_size,
        other.st_mtime_ns,
        other.st_ctime_ns,
    )


def read_chunks(opened: int, size: int, chunker: Chunker) -> Iterator[memoryview]:
    """The file's chunks in order, as views that stay valid as long as they are held.

    `size` is what the file is thought to have: a hint for buffers, not a limit.
    """
    head = b""
    if size < MINIMUM:
        head = os.read(opened, size + 1)
        if len(head) <= size:  # the end was reached: one chunk, or none
            if head:
                yield memoryview(head)
            return
    yield from _cut(opened, head, chunker)


def _cut(opened: int, head: bytes | memoryview, chunker: Chunker) -> Iterator[memoryview]:
    ended = False
    while not ended:
        buffer = bytearray(max(WINDOW, len(head) + WINDOW // 2))
        buffer[: len(head)] = head
        filled = len(head)
        view = memoryview(buffer)
        while filled < len(buffer):
            got = os.readv(opened, [view[filled:]])
            if got == 0:
                ended = True
                break
            filled += got
        window = view[:filled]
        start = 0
        for length in chunker.cuts(window, final=ended):
            yield window[start : start + length]
            start += length
        head = window[start:]
