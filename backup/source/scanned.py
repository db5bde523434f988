"""A directory as a scan yields it, whole or in pieces: its entries, and the columns that are compared first.

A worker sends entries as columns of 64-bit numbers (`StatusColumns`, `ColumnEntries`), so that thousands of
files need no object each: unchanged entries are compared as columns, and an entry becomes an object only when
it is needed.
"""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from operator import add, attrgetter, itemgetter
from typing import Any, Final, NamedTuple, Self, overload

from msgspec import Struct

Look = tuple[Any, ...]
"""A file with one name: that, mode, size, mtime and ctime in ns, inode; of anything else the name alone."""

_look = attrgetter("st_mode", "st_size", "st_mtime_ns", "st_ctime_ns", "st_ino")
_links, _mode, _size = attrgetter("st_nlink"), attrgetter("st_mode"), attrgetter("st_size")
_name, _stat = itemgetter(0), itemgetter(1)  # of an entry
_KIND: Final = 0o170000
LARGEST_FILE: Final = 2**60
"""Bytes of a file with its holes; a sparse one may claim more than any number here is made for."""
TOO_LARGE: Final = "it is larger than 1 EiB, with its holes: no file of that size can be saved"
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
        """Columns without entries."""
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
            raise ValueError("the columns do not fit the number of names")
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
        """Add some entries of other columns."""
        self.names.extend(other.names[start:stop])
        for column, more in zip(self[1:], other[1:], strict=True):
            column.extend(more[start:stop])

    def status(self, index: int) -> os.stat_result:
        """The status of one entry."""
        values = iter([column[index] for column in self[1:]])
        first = (*islice(values, len(_FIRST)), *_NO_TIMES)
        return os.stat_result(first, dict(zip(_NAMED, values, strict=True)))


class ScannedEntry(NamedTuple):
    """An entry with its status, not followed if it is a symlink.

    `leads_on`: a directory on the way to a source, itself in none: its content and times are not the job's.
    """

    name: bytes
    stat: os.stat_result
    leads_on: bool = False


class ColumnEntries(Sequence[ScannedEntry]):
    """Entries as columns; `leading` are the indexes of those that only lead on."""

    def __init__(self, columns: StatusColumns, leading: frozenset[int] = frozenset()) -> None:
        self.columns = columns
        self._leading = leading

    def __len__(self) -> int:
        return len(self.columns.names)

    @overload
    def __getitem__(self, index: int) -> ScannedEntry: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[ScannedEntry]: ...

    def __getitem__(self, index: int | slice) -> ScannedEntry | Sequence[ScannedEntry]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        return ScannedEntry(self.columns.names[index], self.columns.status(index), index in self._leading)

    def __iter__(self) -> Iterator[ScannedEntry]:
        return map(self.__getitem__, range(len(self)))


class ScannedDirectory(Struct, frozen=True):
    """A directory that was listed, or a piece of it; `handle` is open until the next one is requested.

    It covers all names after `after` up to `until` (None: from the first, to the last). `places`: the
    directories that are read under some of its names.
    """

    path: bytes
    handle: int
    device: int
    entries: Sequence[ScannedEntry]
    unread: frozenset[bytes]
    after: bytes | None = None
    until: bytes | None = None
    places: Mapping[bytes, bytes] = {}

    @property
    def prefix(self) -> bytes:
        """The path prefix of its entries."""
        return self.path.rstrip(b"/") + b"/"

    def looks(self) -> Sequence[Look]:
        """The columns of each entry that are compared first, in the order of names."""
        entries = self.entries
        return _looks_of(entries.columns) if isinstance(entries, ColumnEntries) else _looks(entries)

    def columns(self) -> StatusColumns | None:
        """The entries as columns; None where a number does not fit 64 bits."""
        if isinstance(self.entries, ColumnEntries):
            return self.entries.columns
        try:
            return StatusColumns.of(map(_name, self.entries), list(map(_stat, self.entries)))
        except OverflowError:
            return None


def statuses_of(names: Sequence[bytes], handle: int) -> list[os.stat_result] | None:
    """The statuses of names in a directory; None if not all can be had."""
    look = os.stat
    try:
        return [look(name, dir_fd=handle, follow_symlinks=False) for name in names]
    except OSError:
        return None


def are_plain(found: Sequence[os.stat_result]) -> bool:
    """Whether all are regular files of a size that can be saved."""
    return all(map(stat.S_ISREG, map(_mode, found))) and max(map(_size, found), default=0) <= LARGEST_FILE


def _looks_of(columns: StatusColumns) -> list[Look]:
    found = (columns.modes, columns.sizes, columns.mtimes, columns.ctimes, columns.inodes)
    return _of_plain(list(zip(columns.names, *found, strict=True)), columns.modes, columns.links)


def _looks(entries: Sequence[ScannedEntry]) -> list[Look]:
    stats = list(map(_stat, entries))
    looks = list(map(add, zip(map(_name, entries)), map(_look, stats)))
    return _of_plain(looks, list(map(_mode, stats)), list(map(_links, stats)))


def _of_plain(looks: list[Look], modes: Sequence[int], links: Sequence[int]) -> list[Look]:
    """The columns as `looks`, but only the name for entries that are not plain files with one name."""
    plain = {mode for mode in set(modes) if mode & _KIND == stat.S_IFREG}
    if set(links) <= {1} and len(plain) == len(set(modes)):
        return looks
    return [
        look if of == 1 and mode in plain else look[:1]
        for look, mode, of in zip(looks, modes, links, strict=True)
    ]
