"""Columns of packed numbers that may exceed memory: large ones are in a file without a name.

Such a file is mapped for reading, and the system frees its pages whenever memory is short. It has no name, so
it is gone with the process, whatever ends it.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Any, BinaryIO, Final, TypeAlias
from weakref import WeakSet

from backup.model import MIB

MOST_IN_MEMORY: Final = 4 * MIB
"""Bytes of a column from which it goes to a file: 70,000 files at about 60 bytes each."""

LEAST_FREE: Final = 256 * MIB
_PIECE: Final = MIB  # bytes that are written to the file at a time

Values: TypeAlias = "array[int] | memoryview"


class Scratch:
    """The place for the large columns of one plan: a directory, or None for memory only.

    A directory in which no file can be made is treated as None, as a plan needs no right to write. Columns of
    more than `most` bytes go there, as long as `least_free` bytes stay free: the inventory may lie beside
    them.
    """

    def __init__(
        self, directory: str | None = None, most: int = MOST_IN_MEMORY, least_free: int = LEAST_FREE
    ) -> None:
        self.directory = directory
        self.most = most
        self.least_free = least_free
        self._maps: WeakSet[mmap.mmap] = WeakSet()

    def file(self) -> BinaryIO | None:
        """Return a new file without a name; None if that is not possible."""
        if self.directory is not None:
            with suppress(OSError):
                return tempfile.TemporaryFile(buffering=0, dir=self.directory)
        self.directory = None
        return None

    def map(self, file: BinaryIO, size: int) -> memoryview:
        """Map the first `size` bytes of a file."""
        mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        self._maps.add(mapped)
        return memoryview(mapped)

    def rest(self) -> None:
        """Release the memory of data in files until it is read again."""
        for mapped in self._maps:
            mapped.madvise(mmap.MADV_DONTNEED)


class Column:
    """Packed numbers of one array type (`code`), in the order in which they were added.

    `values` are all of them, for reading by index and slice; what is added later is in the `values` of then.
    If the disk is full all stays in memory: the restore may be needed to repair that machine.
    """

    def __init__(self, scratch: Scratch, code: str = "B") -> None:
        self._scratch = scratch
        self._code = code
        self._tail = array(code)  # what is not in the file
        self._file: BinaryIO | None = None
        self._in_file = 0  # bytes
        self._view: memoryview | None = None

    def add(self, packed: bytes | bytearray | memoryview) -> None:
        """Add numbers that are packed already."""
        self._tail.frombytes(packed)
        self._grown()

    def extend(self, numbers: Iterable[int]) -> None:
        """Add numbers, each of which fits the type."""
        self._tail.extend(numbers)
        self._grown()

    def append(self, number: int) -> None:
        """Add one number."""
        self._tail.append(number)
        self._grown()

    def change(self, start: int, packed: bytes) -> None:
        """Replace numbers from the byte `start` on."""
        in_file = packed[: max(0, self._in_file - start)]
        if self._file is not None and in_file:
            try:
                _write(self._file, start, memoryview(in_file))
            except OSError:
                self._come_back(self._file)
                in_file = b""
        at = start + len(in_file) - self._in_file
        memoryview(self._tail).cast("B")[at : at + len(packed) - len(in_file)] = packed[len(in_file) :]

    @property
    def values(self) -> Values:
        """All numbers added so far."""
        if self._view is None and self._file is not None:
            self._move(self._file)
        if self._file is None:
            return self._tail
        if self._view is None:
            self._view = self._scratch.map(self._file, self._in_file).cast(self._code)  # type: ignore[call-overload]
        return self._view

    def each(self, row: struct.Struct) -> Iterator[Any]:
        """One field of each row of a column of bytes, in order, which `row` unpacks alone.

        Memory of what was read from a file is released again and again.
        """
        return chain.from_iterable(chain.from_iterable(map(row.iter_unpack, self.pieces(row.size))))

    def pieces(self, size: int) -> Iterator[memoryview]:
        """The bytes in order, in pieces of many rows of `size` bytes; memory is released as in `each`."""
        whole = memoryview(self.values).cast("B")
        step = max(1, _PIECE // size) * size
        for start in range(0, len(whole), step):
            yield whole[start : start + step]
            if self._file is not None:
                self._scratch.rest()

    def __len__(self) -> int:
        return self._in_file // self._tail.itemsize + len(self._tail)

    def _grown(self) -> None:
        self._view = None
        size = len(self._tail) * self._tail.itemsize
        if size < (self._scratch.most if self._file is None else min(self._scratch.most, _PIECE)):
            return
        if self._file is None:
            self._file = self._scratch.file()
        if self._file is not None:
            self._move(self._file)

    def _move(self, file: BinaryIO) -> None:
        """Move what is in memory to the end of the file, or the other way where there is no room."""
        packed = memoryview(self._tail).cast("B")
        try:
            _require_room(file, len(packed) + self._scratch.least_free)
            _write(file, self._in_file, packed)
        except OSError:
            self._come_back(file)
            return
        self._in_file += len(packed)
        self._tail = array(self._code)

    def _come_back(self, file: BinaryIO) -> None:
        """Read all into memory, for good, and let no other column go to a file."""
        whole = array(self._code)
        for start in range(0, self._in_file, _PIECE):
            whole.frombytes(os.pread(file.fileno(), min(_PIECE, self._in_file - start), start))
        whole.extend(self._tail)
        self._tail, self._file, self._view, self._in_file = whole, None, None, 0
        self._scratch.directory = None


def _require_room(file: BinaryIO, size: int) -> None:
    found = os.fstatvfs(file.fileno())
    if found.f_bavail * found.f_frsize < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _write(file: BinaryIO, offset: int, packed: memoryview) -> None:
    while packed:
        written = os.pwrite(file.fileno(), packed, offset)
        packed, offset = packed[written:], offset + written
