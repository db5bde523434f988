"""Names that a file system without case distinction treats as the same, as FAT, NTFS and network shares do.

Two such names in one directory become one file there, and the later replaces the earlier. A selection notes
the directories that may hold such names, at a fraction of a microsecond for each. The target is tested later,
and only then are the names compared one by one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from backup.restorer.selection.entry import RestoreEntry

MOST_COMPARED = 10_000
"""A directory of more entries than these is not compared, and taken for one that may hold such names."""


class AlikeNames:
    """Directories of a selection with possibly colliding names, and the paths in them that stay."""

    def __init__(self) -> None:
        self.directories: set[bytes] = set()
        self.stays: list[bytes] = []
        self._directory: bytes | None = None
        self._seen: set[bytes] = set()

    def note(self, directory: bytes, names: Sequence[bytes]) -> None:
        """Add a directory if any of these names may collide with each other or with earlier ones in it."""
        if directory != self._directory:
            self._directory, self._seen = directory, set()
        if directory in self.directories:
            return
        count = len(self._seen) + len(names)
        try:
            self._seen.update(folded(b"/".join(names)).split(b"/"))
        except TypeError:  # a damaged row, which is reported elsewhere
            return
        if len(self._seen) < count or count > MOST_COMPARED:
            self.directories.add(directory)
            self._seen = set()

    def keep(self, entries: Iterable[RestoreEntry]) -> None:
        """Add the paths of entries that stay at the target, if they may collide with others."""
        self.stays += (entry.path for entry in entries if self.may_meet(entry.directory))

    def may_meet(self, directory: bytes) -> bool:
        """Whether entries of a directory may collide: it, or one above it, holds such names."""
        if not self.directories:
            return False
        while directory:
            if directory in self.directories:
                return True
            directory = directory.rpartition(b"/")[0]
        return b"" in self.directories


def folded(path: bytes) -> bytes:
    """Return a path as a file system may see it that ignores case, or the encoding of accents."""
    if path.isascii():
        return path.lower()
    text = path.decode("utf-8", "surrogateescape")
    return unicodedata.normalize("NFD", text.casefold()).encode("utf-8", "surrogateescape")
