"""Small files opened one after the other, and some ahead of that where the disk must be waited for.

    opened = OpenedAhead(directories, files)
    for handle in opened:                         # None for what cannot be opened; close each
        length = opened.read(handle, buffer, size)

A file whose bytes the system holds in memory is read at once, and nothing more is asked. The first that it
does not hold shows a disk: from there on files are opened some time before they are read, and the system is
told that they will be, so that the disk looks for many at once instead of one after the other.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from backup.errors import SourceError
from backup.source.read import open_name

AHEAD: Final = 64
"""Files that the disk may look for at once: with 128 it is little faster, and each needs a handle."""
AT_ONCE: Final[int] = getattr(os, "RWF_NOWAIT", 0)
"""Read only what is in memory; 0 where the system cannot."""


class OpenedAhead:
    """The handles of a batch, in order; for one thread."""

    def __init__(self, directories: Sequence[int], files: Sequence[tuple[int, bytes, Any]]) -> None:
        """`files` begin with the number of their directory, and their name in it."""
        self._directories = directories
        self._files = files
        self._ahead = 0

    def __iter__(self) -> Iterator[int | None]:
        left = iter(self._files)
        for directory, name, _ in left:
            yield self._opened(directory, name)
            if self._ahead:
                break
        waiting: deque[int | None] = deque()
        try:
            for directory, name, _ in left:
                waiting.append(self._opened(directory, name))
                if len(waiting) > self._ahead:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            for handle in waiting:
                if handle is not None:
                    os.close(handle)

    def read(self, handle: int, buffer: memoryview, size: int) -> int:
        """Read a file of that size from its start; returns the bytes. `buffer` has room for one more."""
        if not self._ahead and AT_ONCE:
            try:
                length = os.preadv(handle, [buffer], 0, AT_ONCE)
            except OSError:  # not in memory, or a file system that cannot tell
                length = -1
            if length == size:
                return length
            self._ahead = AHEAD
        return os.preadv(handle, [buffer], 0)

    def _opened(self, directory: int, name: bytes) -> int | None:
        try:
            handle = open_name(self._directories[directory], name)
        except SourceError:
            return None
        if self._ahead:
            with suppress(OSError):
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_WILLNEED)
        return handle
