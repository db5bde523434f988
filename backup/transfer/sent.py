"""Parts of spool files as uploads read them, mapped or hashed again; and the count of bytes that went up."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Final, Protocol

from msgspec import Struct

from backup.files import spool_errors
from backup.format.treehash import combine, leaf_hashes
from backup.inventory.content import archives
from backup.inventory.content.archives import Archive
from backup.inventory.store.database import Inventory
from backup.model import MIB, ArchiveId, ByteRange, UploadId
from backup.protocols import Progress
from backup.safe_paths import held_folder, open_held, size_held

_WINDOW = 32 * MIB  # what is mapped at once of a file that is hashed again
_LOOK: Final = 0.5  # seconds between two words about a wait


def extents(size: int, part_size: int) -> list[ByteRange]:
    """The parts of `size` bytes."""
    return [ByteRange(start, min(start + part_size, size)) for start in range(0, size, part_size)]


@contextmanager
def mapped(path: str, extent: ByteRange) -> Iterator[memoryview]:
    """A part of a spool file, mapped while it is used: what is not mapped takes no memory."""
    with spool_errors(path, "read"), open(path, "rb", opener=open_held) as file:
        memory = mmap.mmap(file.fileno(), extent.length, access=mmap.ACCESS_READ, offset=extent.start)
    view = memoryview(memory)
    try:
        yield view
    finally:
        with suppress(BufferError):  # the traceback of an error may hold pieces of it: then it goes with them
            view.release()
            memory.close()


def leaves_of(path: str, archive: Archive) -> list[bytes] | None:
    """The leaves of a spool file, or None if it is not there or not what was recorded."""
    with spool_errors(path, "read"):
        if size_held(path) != archive.size:
            return None
    leaves: list[bytes] = []
    for extent in extents(archive.size, _WINDOW):
        with mapped(path, extent) as view:
            leaves.extend(leaf_hashes(view))
    return leaves if combine(leaves) == archive.tree_hash else None


def remove(path: str) -> None:
    """Delete a spool file, if it is there."""
    with spool_errors(path, "removed"), suppress(FileNotFoundError), held_folder(path) as (folder, name):
        os.unlink(name, dir_fd=folder)


class Sent:
    """Bytes of parts that the vault has taken; one that is sent anew counts once."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._parts: dict[tuple[int, int], int] = {}  # by archive and offset, until that is stored
        self._new = 0

    def part(self, archive: int, offset: int, size: int) -> None:
        """Count a part that was sent; from any thread."""
        with self._lock:
            if (archive, offset) not in self._parts:
                self._parts[archive, offset] = size
                self._new += size

    def whole(self, archive: int, size: int) -> None:
        """Count an archive that is complete: also the parts that were in the vault before."""
        with self._lock:
            mine = [key for key in self._parts if key[0] == archive]
            self._new += size - sum(self._parts.pop(key) for key in mine)

    def take(self) -> int:
        """The bytes counted since the last call."""
        with self._lock:
            new, self._new = self._new, 0
        return new

    def tell(self) -> None:
        """Report the new bytes as progress; from the thread that keeps the records."""
        self._progress.advance(uploaded=self.take())

    def wait_for(self, done: Future[Any]) -> None:
        """Wait for an upload, and report its progress meanwhile."""
        while not done.done():
            wait([done], timeout=_LOOK)
            self.tell()


class UploadRecords(Protocol):
    """The records of uploads; archives are named by their numbers."""

    def begun(self, archive: int, upload_id: UploadId) -> None:
        """Record the vault's id of the upload."""
        ...

    def stored(self, archive: int, archive_id: ArchiveId, now: datetime, version: str) -> None:
        """Record that the vault has all of it."""
        ...

    def lost(self, archive: int, now: datetime) -> None:
        """Record that it never arrived and never will."""
        ...


class ArchiveRecords(Struct, frozen=True):
    """Uploads of new archives."""

    inventory: Inventory

    def begun(self, archive: int, upload_id: UploadId) -> None:
        """Record the vault's id of the upload."""
        with self.inventory.writing() as tx:
            archives.upload_begun(tx, archive, upload_id)

    def stored(self, archive: int, archive_id: ArchiveId, now: datetime, version: str) -> None:
        """Record the archive as stored."""
        with self.inventory.writing() as tx:
            archives.mark_stored(tx, archive, archive_id, now, version)

    def lost(self, archive: int, now: datetime) -> None:  # noqa: ARG002
        """Record the archive as lost: nothing is built upon it."""
        with self.inventory.writing() as tx:
            archives.mark_lost(tx, archive)
