"""Finds a sparse file's holes by asking the system, and reads the data between them.

A file system without holes reports none. A reported hole reads as zeros at that moment; if it is written to
meanwhile, the file's times show it, as with any other change.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from typing import Final

from backup.format.holes import MOST_HOLES, pack_holes
from backup.source.read import Cutter, Span, Take, cut_chunks, fresh, unreadable

_BLOCK: Final = 512  # the unit of st_blocks, whatever the file system's is
_LEAST: Final = 4096
_NO_SUCH_QUESTION = {errno.EINVAL, errno.ENOTSUP}
Extent = tuple[int, int]  # first byte of data, first byte after it


class SparseFile:
    """An open file with holes. `size` and `holes` are final only after the last chunk was read."""

    def __init__(self, opened: int, extents: list[Extent], size: int) -> None:
        self._opened = opened
        self._extents = extents
        self._index = 0
        self._offset = extents[0][0] if extents else 0
        self.size = size

    def chunks(self, chunker: Cutter, take: Take = fresh) -> Iterator[Span]:
        """Chunks of the data without its holes, as `read_chunks`. `FileUnreadableError` when that fails."""
        return cut_chunks(self._fill, sum(end - start for start, end in self._extents), chunker, take=take)

    @property
    def holes(self) -> bytes:
        """The holes, packed."""
        return pack_holes(_between(self._extents, self.size))

    def _fill(self, view: memoryview) -> int:
        filled = 0
        while filled < len(view) and self._index < len(self._extents):
            end = self._extents[self._index][1]
            wanted = view[filled : filled + end - self._offset]
            try:
                got = os.preadv(self._opened, [wanted], self._offset)
            except OSError as error:
                raise unreadable(error) from error
            if not got:
                self._end_here()
                break
            filled += got
            self._offset += got
            if self._offset == end:
                self._index += 1
                if self._index < len(self._extents):
                    self._offset = self._extents[self._index][0]
        return filled

    def _end_here(self) -> None:
        """Note that the file was truncated while it was read: it ends here."""
        start = self._extents[self._index][0]
        del self._extents[self._index :]
        if self._offset > start:
            self._extents.append((start, self._offset))
        self.size = self._offset
        self._index = len(self._extents)


def find_holes(opened: int, found: os.stat_result) -> SparseFile | None:
    """The open file as a sparse one; None if it has no holes, or the system cannot tell.

    A file with all its blocks costs no system call. `FileUnreadableError` if the system fails.
    """
    if found.st_blocks * _BLOCK >= found.st_size:
        return None
    try:
        extents = _extents(opened, found.st_size)
        if extents == [(0, found.st_size)]:
            os.lseek(opened, 0, os.SEEK_SET)
            return None
    except OSError as error:
        if error.errno in _NO_SUCH_QUESTION:
            return None
        raise unreadable(error) from error
    return SparseFile(opened, extents, found.st_size)


def _extents(opened: int, size: int) -> list[Extent]:
    """The extents of data. If there are too many holes, short ones are read as zeros instead."""
    extents: list[Extent] = []
    least = 1
    for extent in _ask(opened, size):
        _append(extents, extent, least)
        while len(extents) >= MOST_HOLES:
            least = max(_LEAST, 2 * least)
            finer, extents = extents, []
            for piece in finer:
                _append(extents, piece, least)
    if extents and size - extents[-1][1] < least:
        extents[-1] = (extents[-1][0], size)
    return extents


def _append(extents: list[Extent], extent: Extent, least: int) -> None:
    """Add the next extent, joined with the one before if the hole between them is shorter than `least`."""
    start, end = extent
    if extents and start - extents[-1][1] < least:
        extents[-1] = (extents[-1][0], end)
    else:
        extents.append((start if extents or start >= least else 0, end))


def _ask(opened: int, size: int) -> Iterator[Extent]:
    offset = 0
    while offset < size:
        try:
            start = os.lseek(opened, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole from here on
                return
            raise
        if start >= size:
            return
        offset = min(os.lseek(opened, start, os.SEEK_HOLE), size)
        yield start, offset


def _between(extents: Iterable[Extent], size: int) -> Iterator[tuple[int, int]]:
    """Offset and length of the stretches between the extents."""
    offset = 0
    for start, end in extents:
        if start > offset:
            yield offset, start - offset
        offset = end
    if size > offset:
        yield offset, size - offset
