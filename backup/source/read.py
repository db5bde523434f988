"""Reads a file that may change meanwhile, cut into chunks as it is read."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, Protocol

from backup.buffers import Buffers
from backup.errors import SourceError
from backup.format.chunker import MAXIMUM, MINIMUM

LARGEST_WINDOW = 2 * MAXIMUM
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_UNNOTICED = _FLAGS | os.O_NOATIME  # for the owner and root only
Fill = Callable[[memoryview], int]
Take = Callable[[int], memoryview]
_NOT_THE_FILE = {errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.ENODEV}  # gone, or now a symlink or socket


class FileUnreadableError(SourceError):
    """A file cannot be read: the message says why; `has_vanished` if it is no longer a file."""

    def __init__(self, reason: str, *, has_vanished: bool = False) -> None:
        super().__init__(reason)
        self.has_vanished = has_vanished


def open_file(handle: int, name: bytes) -> int:
    """Open a regular file in the directory `handle`, without changing its atime where permitted.

    `FileUnreadableError` if it may not be read, or is no regular file (any more).
    """
    opened = open_name(handle, name)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise FileUnreadableError("it is not a regular file any more", has_vanished=True)
    return opened


def opener(handle: int) -> Callable[[bytes], int]:
    """Opens an entry of the directory without changing its atime. `OSError` where it is not permitted to."""
    return partial(os.open, flags=_UNNOTICED, dir_fd=handle)


def open_name(handle: int, name: bytes) -> int:
    """Same as `open_file` for any kind of entry: the caller checks it."""
    try:
        try:
            return os.open(name, _UNNOTICED, dir_fd=handle)
        except PermissionError:
            return os.open(name, _FLAGS, dir_fd=handle)
    except OSError as error:
        raise unreadable(error) from error


def same_version(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether the status of an open file shows no write between two calls of `fstat`."""
    return (one.st_size, one.st_mtime_ns, one.st_ctime_ns) == (
        other.st_size,
        other.st_mtime_ns,
        other.st_ctime_ns,
    )


class Span(NamedTuple):
    """Bytes `start` to `end` of a window, which is not reused as long as there is a view of it."""

    window: memoryview
    start: int
    end: int

    @property
    def view(self) -> memoryview:
        """The bytes."""
        return self.window[self.start : self.end]


class Cutter(Protocol):
    """A `Chunker`, or anything that cuts windows like one; it is given at most `window` bytes at once."""

    window: int

    def cuts(self, window: memoryview, *, final: bool) -> Iterator[int]:
        """The lengths of the chunks at the window's start that are certain, each as it is found."""
        ...


def fresh(size: int) -> memoryview:
    """New memory of `size` bytes."""
    return memoryview(bytearray(size))


class Windows:
    """Memory for windows: small ones lie one after the other in a buffer, a large one has its own."""

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self._buffer = memoryview(b"")
        self._used = 0

    def take(self, size: int) -> memoryview:
        """Room for `size` bytes, at most `LARGEST_WINDOW`."""
        if size > MAXIMUM:  # without neighbours, which might keep all of it from being free
            return self._buffers.take(LARGEST_WINDOW)[:size]
        if self._used + size > len(self._buffer):
            self.close()  # it is free again, unless chunks of it are still looked at
            self._buffer = self._buffers.take(MAXIMUM)
        start, self._used = self._used, self._used + size
        return self._buffer[start : self._used]

    def close(self) -> None:
        """Release the last buffer."""
        self._buffer = memoryview(b"")
        self._used = 0


def read_chunks(opened: int, size: int, chunker: Cutter, take: Take = fresh) -> Iterator[Span]:
    """The file's chunks in order, as parts of windows of `take`.

    `size` is the expected size: a hint for buffers, not a limit. A window has at most what the cutter wants,
    and no more than the file and one byte. `FileUnreadableError` when reading fails.
    """
    head: bytes | memoryview = b""
    if size < MINIMUM:
        head = _read(opened, size + 1)
        if len(head) == size:  # one byte more was asked for, so this is the end: one chunk, or none
            if head:
                yield Span(memoryview(head), 0, size)
            return
    yield from cut_chunks(partial(_fill, opened), size, chunker, head, take)


def cut_chunks(
    fill: Fill,
    size: int,
    chunker: Cutter,
    head: bytes | memoryview = b"",
    take: Take = fresh,
) -> Iterator[Span]:
    """Chunks as by `read_chunks`, of what `fill` writes into a view: a short fill is the last.

    `head` is what was read before.
    """
    left = size - len(head) + 1  # one more than is thought to be left shows the end at once
    ended = False
    while not ended:
        view = take(min(len(head) + (left if left > 0 else MAXIMUM), chunker.window))
        view[: len(head)] = head
        filled = len(head) + fill(view[len(head) :])
        left -= filled - len(head)
        ended = filled < len(view)
        window = view[:filled]
        start = 0
        for length in chunker.cuts(window, final=ended):
            yield Span(window, start, start + length)
            start += length
        head = window[start:]


def _read(opened: int, most: int) -> bytes:
    try:
        return os.read(opened, most)
    except OSError as error:
        raise unreadable(error) from error


def _fill(opened: int, view: memoryview) -> int:
    """Read until the view is full or the file ends; returns the number of bytes."""
    filled = 0
    try:
        while filled < len(view):
            got = os.readv(opened, [view[filled:]])
            if got == 0:
                break
            filled += got
    except OSError as error:
        raise unreadable(error) from error
    return filled


def unreadable(error: OSError) -> FileUnreadableError:
    """The system's error as a `FileUnreadableError`."""
    return FileUnreadableError(error.strerror or str(error), has_vanished=error.errno in _NOT_THE_FILE)
