"""Statuses of entries as columns of 64-bit numbers: thousands of files need no object each.

    columns = StatusColumns.of(names, statuses)
    columns.sizes, columns.names ...         # what most is done with: whole columns
    columns.status(7)

An entry that somebody asks for becomes an object.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from operator import attrgetter
from typing import Final, NamedTuple, Self

_FIRST: Final = ("st_mode", "st_ino", "st_dev", "st_nlink", "st_uid", "st_gid", "st_size")
_NAMED: Final = ("st_mtime_ns", "st_ctime_ns", "st_blocks", "st_rdev")
_NO_TIMES: Final = (0, 0, 0)  # in whole seconds: nobody asks for them
_UNSIGNED: Final = {"st_ino", "st_dev", "st_rdev"}
_TYPES: Final = tuple("Q" if name in _UNSIGNED else "q" for name in (*_FIRST, *_NAMED))
_values = attrgetter(*_FIRST, *_NAMED)
_named = attrgetter(*_NAMED)


class StatusColumns(NamedTuple):
    """Names, and of each status kind and mode, inode, device, links, owner, size, mtime and ctime in ns,
    blocks, and the device that it is.
    """

    names: list[bytes]
    modes: array[int]
    inodes: array[int]
    devices: array[int]
    links: array[int]
    users: array[int]
    groups: array[int]
    sizes: array[int]
    mtimes: array[int]
    ctimes: array[int]
    blocks: array[int]
    rdevs: array[int]

    @classmethod
    def new(cls) -> Self:
        """No entries yet."""
        return cls([], *map(array, _TYPES))

    @classmethod
    def of(cls, names: Iterable[bytes], statuses: Sequence[os.stat_result]) -> Self:
        """The columns of these entries.

        `OverflowError` where a number does not fit 64 bits, such as a time in hundreds of years.
        """
        if not statuses:
            return cls.new()
        first = islice(zip(*statuses, strict=True), len(_FIRST))  # in a status's own order
        return cls(list(names), *map(array, _TYPES, chain(first, zip(*map(_named, statuses), strict=True))))

    @classmethod
    def from_bytes(cls, names: list[bytes], numbers: bytes) -> Self:
        """The inverse of `numbers`: columns for these names.

        `ValueError` if the bytes are too few or too many for them.
        """
        size = 8 * len(names)
        if len(numbers) != size * len(_TYPES):
            raise ValueError("it told of other statuses than names")
        found = cls(names, *map(array, _TYPES))
        for at, column in enumerate(found[1:]):
            column.frombytes(numbers[at * size : (at + 1) * size])
        return found

    def numbers(self) -> bytes:
        """All columns but the names, one after the other, 8 bytes a number."""
        return b"".join(self[1:])

    def add(self, name: bytes, found: os.stat_result) -> None:
        """Add an entry."""
        self.names.append(name)
        for column, value in zip(self[1:], _values(found), strict=True):
            column.append(value)

    def add_some(self, other: StatusColumns, start: int, stop: int) -> None:
        """Add some of other entries."""
        self.names.extend(other.names[start:stop])
        for column, more in zip(self[1:], other[1:], strict=True):
            column.extend(more[start:stop])

    def status(self, index: int) -> os.stat_result:
        """The status of one entry."""
        values = iter([column[index] for column in self[1:]])
        first = (*islice(values, len(_FIRST)), *_NO_TIMES)
        return os.stat_result(first, dict(zip(_NAMED, values, strict=True)))
