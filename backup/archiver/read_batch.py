"""Small files that are requested together from the process that reads ahead, in columns."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, repeat
from typing import Final

from msgspec import Struct, field

from backup.inventory.entries import LiveEntry
from backup.source.scanned import ScannedEntry
from backup.source.small import MOST_DIRECTORIES, MOST_FILES, MOST_NAMES, FileToRead, seen

_LONGEST: Final = 255  # of names


class Handle(Struct):
    """Our own handle of a directory, kept while files in it wait."""

    number: int
    path: bytes
    users: int = 0


class Batch(Struct):
    """Small files requested together; `looked_at` is a moment before any of them was opened."""

    looked_at: int
    most_bytes: int
    handles: list[Handle] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    scanned: list[ScannedEntry] = field(default_factory=list)
    lives: list[LiveEntry | None] = field(default_factory=list)
    bytes: int = 0
    names: int = 0
    is_asked: bool = False

    def add(self, handle: Handle, scanned: ScannedEntry, live: LiveEntry | None) -> None:
        """Add a file; call `is_full` before."""
        if not self.handles or self.handles[-1] is not handle:
            self.handles.append(handle)
            handle.users += 1
        self.at.append(len(self.handles) - 1)
        self.scanned.append(scanned)
        self.lives.append(live)
        self.bytes += scanned.stat.st_size
        self.names += len(scanned.name)

    def add_new(self, handle: Handle, scanned: Sequence[ScannedEntry]) -> int:
        """Add as many new files, from the first on, as one request takes; call `is_full` before."""
        some = scanned[: MOST_FILES - len(self.scanned)]
        sizes = list(accumulate((one.stat.st_size for one in some), initial=self.bytes))
        names = list(accumulate((len(one.name) for one in some), initial=self.names))
        most = min(bisect_left(sizes, self.most_bytes), bisect_left(names, MOST_NAMES - _LONGEST), len(some))
        if not self.handles or self.handles[-1] is not handle:
            self.handles.append(handle)
            handle.users += 1
        self.at += repeat(len(self.handles) - 1, most)
        self.scanned += some[:most]
        self.lives += repeat(None, most)
        self.bytes, self.names = sizes[most], names[most]
        return most

    @property
    def is_full(self) -> bool:
        """Whether the next file may be too much for one request."""
        return (
            self.bytes >= self.most_bytes
            or len(self.scanned) >= MOST_FILES
            or len(self.handles) >= MOST_DIRECTORIES
            or self.names >= MOST_NAMES - _LONGEST
        )

    def request(self) -> list[FileToRead]:
        """The request."""
        names, stats, _ = zip(*self.scanned, strict=True)
        return list(map(FileToRead, self.at, names, map(seen, stats)))
