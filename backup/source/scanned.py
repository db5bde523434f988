"""A directory as a scan yields it, whole or in pieces: its entries, and the columns that are compared first.

A second process sends entries packed, as columns (`packed`, `PackedEntries`): what is unchanged is compared
as it came, and only an entry that somebody asks for becomes an object.
"""

from __future__ import annotations

import os
import pickle
import stat
from array import array
from collections.abc import Iterator, Sequence
from operator import add, attrgetter, itemgetter
from typing import Any, Final, NamedTuple, overload

from msgspec import Struct

Look = tuple[Any, ...]
"""A file with one name: that, mode, size, mtime and ctime in ns, inode; of anything else the name alone."""

_look = attrgetter("st_mode", "st_size", "st_mtime_ns", "st_ctime_ns", "st_ino")
_links, _mode = attrgetter("st_nlink"), attrgetter("st_mode")
_name, _stat = itemgetter(0), itemgetter(1)  # of an entry
_KIND: Final = 0o170000
_FIRST: Final = ("st_mode", "st_ino", "st_dev", "st_nlink", "st_uid", "st_gid", "st_size")
_NAMED: Final = ("st_mtime_ns", "st_ctime_ns", "st_blocks", "st_rdev")
_whole = attrgetter(*_FIRST, *_NAMED)
_BESIDE: Final = tuple(map(attrgetter, ("st_dev", "st_uid", "st_gid", "st_blocks")))  # beside a file's look
_NO_TIMES: Final = (0, 0, 0)  # in whole seconds: nobody asks for them


class ScannedEntry(NamedTuple):
    """An entry with its status, not followed if it is a symlink.

    `leads_on`: a directory on the way to a source, itself in none: its content and times are not the job's.
    """

    name: bytes
    stat: os.stat_result
    leads_on: bool = False


class PackedEntries(Sequence[ScannedEntry]):
    """Entries as another process packed them.

    Of each entry's status there are kind and mode, inode, device, links, owner, size, mtime and ctime in ns,
    blocks, and the device that it is.
    """

    def __init__(self, looks: Sequence[Look], rest: bytes, *, are_plain: bool) -> None:
        """As `packed` returned them."""
        self.looks = looks
        self._rest = rest
        self._columns = array("Q", rest) if are_plain else None
        self._stats: Sequence[tuple[int, ...]] | None = None
        self._leading: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.looks)

    @overload
    def __getitem__(self, index: int) -> ScannedEntry: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[ScannedEntry]: ...

    def __getitem__(self, index: int | slice) -> ScannedEntry | Sequence[ScannedEntry]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        if self._columns is not None:
            return _plain(self.looks[index], self._columns[index % len(self) :: len(self)])
        if self._stats is None:
            self._stats, self._leading = pickle.loads(self._rest)  # noqa: S301  by a process of ours
        values = self._stats[index]
        first, named = values[: len(_FIRST)], values[len(_FIRST) :]
        found = os.stat_result((*first, *_NO_TIMES), dict(zip(_NAMED, named, strict=True)))
        return ScannedEntry(self.looks[index][0], found, index in self._leading)

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
        return entries.looks if isinstance(entries, PackedEntries) else _looks(entries)


def packed(entries: Sequence[ScannedEntry]) -> tuple[Sequence[Look], bytes, bool]:
    """Entries for another process: the arguments of `PackedEntries`.

    Of files with one name, as most are, the rest is four columns of 64-bit numbers.
    """
    stats = list(map(_stat, entries))
    if _are_plain(stats):
        columns = [array("Q", map(number, stats)).tobytes() for number in _BESIDE]
        return _looks_of_plain(entries, stats), b"".join(columns), True
    return _looks_of_any(entries, stats), _pickled(entries), False


def _pickled(entries: Sequence[ScannedEntry]) -> bytes:
    stats = list(map(_whole, map(_stat, entries)))
    leading = frozenset(index for index, one in enumerate(entries) if one.leads_on)
    return pickle.dumps((stats, leading), pickle.HIGHEST_PROTOCOL)


def _plain(look: Look, beside: Sequence[int]) -> ScannedEntry:
    """The entry of a file with one name."""
    name, mode, size, mtime, ctime, inode = look
    device, user, group, blocks = beside
    first = (mode, inode, device, 1, user, group, size, *_NO_TIMES)
    named = {"st_mtime_ns": mtime, "st_ctime_ns": ctime, "st_blocks": blocks, "st_rdev": 0}
    return ScannedEntry(name, os.stat_result(first, named))


def _are_plain(stats: Sequence[os.stat_result]) -> bool:
    """Whether all are files with one name."""
    return all(map(stat.S_ISREG, map(_mode, stats))) and set(map(_links, stats)) <= {1}


def _looks_of_plain(entries: Sequence[ScannedEntry], stats: Sequence[os.stat_result]) -> list[Look]:
    return list(map(add, zip(map(_name, entries)), map(_look, stats)))


def _looks(entries: Sequence[ScannedEntry]) -> list[Look]:
    stats = list(map(_stat, entries))
    return _looks_of_plain(entries, stats) if _are_plain(stats) else _looks_of_any(entries, stats)


def _looks_of_any(entries: Sequence[ScannedEntry], stats: Sequence[os.stat_result]) -> list[Look]:
    looks = map(_look, stats)
    kind, regular = _KIND, stat.S_IFREG
    return [
        (one[0], *look) if links == 1 and look[0] & kind == regular else (one[0],)
        for one, look, links in zip(entries, looks, map(_links, stats), strict=True)
    ]
