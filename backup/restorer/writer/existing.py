"""The existing entries at a restore's target: read by handles, without following symlinks or writing."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from backup.format.naming import chunk_id
from backup.format.rows import unpack_u64
from backup.inventory.content.packed import ChunkLocation
from backup.model import MIB, EntryKind, Extra, Problem, ProblemKind
from backup.page_cache import forget
from backup.restorer.context import RestoreContext
from backup.restorer.selection.choice import Choice, Overwrite
from backup.restorer.selection.entry import RestoreEntry
from backup.restorer.selection.files import RestoreFile
from backup.restorer.selection.select import Selection
from backup.restorer.writer.metadata import Report
from backup.restorer.writer.special import KINDS

_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Existing:
    """Read-only access to what exists below an open directory; a missing or symlinked component is absent.

    The handle is copied.
    """

    def __init__(self, top: int) -> None:
        self._top = os.dup(top)
        self._known: tuple[bytes, int | None] = (b"", self._top)

    def directory(self, path: bytes) -> int | None:
        """Return a handle of the directory `path` (relative), valid until the next call; None if missing."""
        known, handle = self._known
        if known == path:
            return handle
        self._forget()
        at: int | None = self._top
        for name in path.split(b"/") if path else ():
            above = at
            try:
                at = os.open(name, _STEP, dir_fd=above)
            except OSError:
                at = None
            if above not in {self._top, None}:
                os.close(above)
            if at is None:
                break
        self._known = (path, at)
        return at

    def stat(self, directory: bytes, name: bytes) -> os.stat_result | None:
        """Return the status of the entry itself (not of a symlink's target); None if there is none."""
        handle = self.directory(directory)
        try:
            return None if handle is None else os.stat(name, dir_fd=handle, follow_symlinks=False)
        except OSError:
            return None

    def open(self, entry: RestoreEntry) -> int | None:
        """Return a readable handle of a regular file, which the caller closes; None if it cannot be read."""
        handle = self.directory(entry.directory)
        try:
            file = None if handle is None else os.open(entry.name, _LOOK, dir_fd=handle)
        except OSError:
            return None
        if file is not None and not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            return None
        return file

    def link(self, entry: RestoreEntry) -> bytes | None:
        """Return the target of a symlink; None if there is none."""
        handle = self.directory(entry.directory)
        try:
            return None if handle is None else os.readlink(entry.name, dir_fd=handle)
        except OSError:
            return None

    def close(self) -> None:
        """Close every handle."""
        self._forget()
        os.close(self._top)

    def _forget(self) -> None:
        handle = self._known[1]
        if handle is not None and handle != self._top:
            os.close(handle)
        self._known = (b"", self._top)


class Compared(NamedTuple):
    """Numbers of the entries that stay, how many others are replaced, and sentences on what else stays."""

    kept: set[int]
    replaced: int
    left_alone: list[str]  # in sentences


def compare(existing: Existing, selection: Selection, choice: Choice, chunk_key: bytes) -> Compared:
    """Decide by a choice which existing entries stay and which are replaced.

    A file in the place of a directory counts as replaced, too.
    """
    kept: set[int] = set()
    replaced = apart = 0
    if choice.overwrite is not Overwrite.NEVER:
        replaced = sum(_is_in_the_way(existing, entry) for entry in selection.directories)
    groups = ((file.entry, file) for file in selection.files)
    for first, file in chain(groups, ((special, None) for special in selection.specials)):
        found = [(entry, existing.stat(entry.directory, entry.name)) for entry in first.names]
        there = [entry for entry, status in found if status is not None]
        if choice.overwrite is Overwrite.NEVER:
            stay = there
        elif choice.overwrite is Overwrite.IF_CHANGED and len(there) == len(found):
            same = all(_is_same(existing, entry, file, selection, choice, chunk_key) for entry in first.names)
            stay = there if same else []
            inodes = {(status.st_dev, status.st_ino) for _, status in found if status is not None}
            apart += len(found) if same and len(inodes) > 1 else 0
        else:
            stay = []
        kept.update(entry.number for entry in stay)
        replaced += len(there) - len(stay)
    told = f"{apart:,} names are hard links in the snapshot, and files of their own at the target"
    return Compared(kept, replaced, [f"{told}: they stay so, as their content is the same"] if apart else [])


def _is_in_the_way(existing: Existing, entry: RestoreEntry) -> bool:
    """Whether a file, or anything else that is no directory, would be removed for a chosen directory."""
    found = None if entry.on_the_way else existing.stat(entry.directory, entry.name)
    return found is not None and not stat.S_ISDIR(found.st_mode)


def _is_same(
    existing: Existing,
    entry: RestoreEntry,
    file: RestoreFile | None,
    selection: Selection,
    choice: Choice,
    chunk_key: bytes,
) -> bool:
    found = existing.stat(entry.directory, entry.name)
    if found is None or stat.S_IFMT(found.st_mode) != KINDS.get(entry.kind, stat.S_IFREG):
        return False
    extra = entry.extra or Extra()
    if entry.kind is EntryKind.SYMLINK:
        return existing.link(entry) == extra.target
    if file is None:
        return found.st_rdev == extra.device
    if found.st_size != entry.size or found.st_mtime_ns != entry.mtime_ns:
        return False
    return not choice.verify or holds(existing, entry, file, selection.locations, chunk_key)


def holds(
    existing: Existing,
    entry: RestoreEntry,
    file: RestoreFile,
    locations: Mapping[int, ChunkLocation],
    chunk_key: bytes,
    *,
    from_disk: bool = False,
) -> bool:
    """Whether a file has its entry's content, by its chunks' ids; `from_disk` bypasses the page cache."""
    handle = existing.open(entry)
    if handle is None:
        return False
    try:
        if from_disk:
            forget(handle)
        if os.fstat(handle).st_size != entry.size or not _holes_are_empty(handle, entry.holes):
            return False
        return all(
            chunk_id(chunk_key, data) == location.id for location, data in _chunks(handle, file, locations)
        )
    except OSError:
        return False
    finally:
        os.close(handle)


def read_back(
    target: int, selection: Selection, gone: Collection[bytes], context: RestoreContext, report: Report
) -> int:
    """Verify every file of a selection below an open target, except the paths in `gone`; returns how many
    are as they should be.
    """
    existing = Existing(target)
    good = 0
    try:
        for file in selection.files:
            for entry in file.entry.names:
                if entry.path in gone:
                    continue
                if holds(
                    existing, entry, file, selection.locations, context.secret.chunk_key, from_disk=True
                ):
                    good += 1
                    context.progress.advance(files=1, done=file.data_size)
                else:
                    detail = "read back, it is not what was written: changed meanwhile, or the disk fails"
                    report(Problem(entry.path, ProblemKind.DAMAGED, detail))
    finally:
        existing.close()
    return good


def _chunks(
    handle: int, file: RestoreFile, locations: Mapping[int, ChunkLocation]
) -> Iterator[tuple[ChunkLocation, bytes]]:
    offset = 0
    for number in file.chunks:
        location = locations[number]
        layout = file.layout
        pieces: Iterable[tuple[int, int, int]] = [(offset, 0, location.length)]
        if layout is not None:
            pieces = layout.pieces(offset, location.length)
        yield location, b"".join(os.pread(handle, end - first, start) for start, first, end in pieces)
        offset += location.length


def _holes_are_empty(handle: int, holes: bytes) -> bool:
    numbers = unpack_u64(holes)
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        at, end = start, start + length
        while at < end:
            try:
                at = os.lseek(handle, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                break
            block = os.pread(handle, min(MIB, max(end - at, 0)), at)
            if block.strip(b"\0"):
                return False
            at += max(len(block), 1)
    return True
