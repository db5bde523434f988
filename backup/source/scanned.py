"""A directory as a scan yields it, whole or in pieces: its entries, and the columns that are compared first.

A second process sends entries as columns (`ColumnEntries`): what is unchanged is compared as it came, and
only an entry that somebody asks for becomes an object.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from operator import add, attrgetter, itemgetter
from typing import Any, Final, NamedTuple, overload

from msgspec import Struct

from backup.source.columns import StatusColumns

Look = tuple[Any, ...]
"""A file with one name: that, mode, size, mtime and ctime in ns, inode; of anything else the name alone."""

_look = attrgetter("st_mode", "st_size", "st_mtime_ns", "st_ctime_ns", "st_ino")
_links, _mode = attrgetter("st_nlink"), attrgetter("st_mode")
_name, _stat = itemgetter(0), itemgetter(1)  # of an entry
_KIND: Final = 0o170000
LARGEST_FILE: Final = 2**60
"""Bytes of a file with its holes; a sparse one may claim more than any number here is made for."""
TOO_LARGE: Final = "it is larger than 1 EiB, with its holes: no file of that size can be saved"


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

    It covers all names after `after` up to `until` (None: from the first, to the last).
    """

    path: bytes
    handle: int
    device: int
    entries: Sequence[ScannedEntry]
    unread: frozenset[bytes]
    after: bytes | None = None
    until: bytes | None = None

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


def _looks_of(columns: StatusColumns) -> list[Look]:
    found = (columns.modes, columns.sizes, columns.mtimes, columns.ctimes, columns.inodes)
    return _of_plain(list(zip(columns.names, *found, strict=True)), columns.modes, columns.links)


def _looks(entries: Sequence[ScannedEntry]) -> list[Look]:
    stats = list(map(_stat, entries))
    looks = list(map(add, zip(map(_name, entries)), map(_look, stats)))
    return _of_plain(looks, list(map(_mode, stats)), list(map(_links, stats)))


def _of_plain(looks: list[Look], modes: Sequence[int], links: Sequence[int]) -> list[Look]:
    """The looks, but the names alone of all that are no files with one name."""
    plain = {mode for mode in set(modes) if mode & _KIND == stat.S_IFREG}
    if set(links) <= {1} and len(plain) == len(set(modes)):
        return looks
    return [
        look if of == 1 and mode in plain else look[:1]
        for look, mode, of in zip(looks, modes, links, strict=True)
    ]
