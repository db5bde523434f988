"""A batch of small files, requested together from a reader process, in columns."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from itertools import accumulate, repeat
from typing import Final

from msgspec import Struct, field

from backup.inventory.content.entries import LiveEntry
from backup.source.scanned import ScannedEntry, StatusColumns
from backup.source.small import MOST_DIRECTORIES, MOST_NAMES

_LONGEST: Final = 255  # of names


class Handle(Struct):
    """An open directory handle of our own, kept while files in it wait."""

    number: int
    path: bytes
    users: int = 0


class Batch(Struct):
    """At most so many small files requested together; `looked_at` is a moment before any of them was opened.

    `at` holds each file's index in `handles`, `lives` its entry in the newest snapshot.
    """

    looked_at: int
    most_bytes: int
    most_files: int
    handles: list[Handle] = field(default_factory=list)
    at: array[int] = field(default_factory=lambda: array("H"))
    found: StatusColumns = field(default_factory=StatusColumns.new)
    lives: list[LiveEntry | None] = field(default_factory=list)
    bytes: int = 0
    names: int = 0
    is_asked: bool = False

    def add(self, handle: Handle, scanned: ScannedEntry, live: LiveEntry | None) -> None:
        """Add a file; call `is_full` before."""
        self._use(handle)
        self.at.append(len(self.handles) - 1)
        self.found.add(scanned.name, scanned.stat)
        self.lives.append(live)
        self.bytes += scanned.stat.st_size
        self.names += len(scanned.name)

    def add_new(self, handle: Handle, columns: StatusColumns, files: range) -> int:
        """Add new files, from the first on, as many as fit into one request; call `is_full` before."""
        some = slice(files.start, min(files.stop, files.start + self.most_files - len(self.at)))
        sizes, names = columns.sizes[some], list(map(len, columns.names[some]))
        most, size, length = len(names), sum(sizes), sum(names)
        if self.bytes + size >= self.most_bytes or self.names + length >= MOST_NAMES - _LONGEST:
            most = 1 + min(
                bisect_left(list(accumulate(sizes)), self.most_bytes - self.bytes),
                bisect_left(list(accumulate(names)), MOST_NAMES - _LONGEST - self.names),
                most - 1,
            )
            size, length = sum(sizes[:most]), sum(names[:most])
        self._use(handle)
        self.at.extend(repeat(len(self.handles) - 1, most))
        self.found.add_some(columns, files.start, files.start + most)
        self.lives += repeat(None, most)
        self.bytes += size
        self.names += length
        return most

    def _use(self, handle: Handle) -> None:
        if not self.handles or self.handles[-1] is not handle:
            self.handles.append(handle)
            handle.users += 1

    @property
    def is_full(self) -> bool:
        """Whether the next file may not fit into the request."""
        return (
            self.bytes >= self.most_bytes
            or len(self.at) >= self.most_files
            or len(self.handles) >= MOST_DIRECTORIES
            or self.names >= MOST_NAMES - _LONGEST
        )
