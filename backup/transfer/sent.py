"""Packs on their way as uploads read them, part by part; their records; how many bytes went up."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import repeat
from typing import Any, ClassVar, Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from backup.errors import PackUnreadableError
from backup.files import spool_errors
from backup.format.treehash import combine, leaf_hashes
from backup.inventory.content import archives
from backup.inventory.content.archives import Archive, PendingUpload
from backup.inventory.store.database import Inventory
from backup.model import MIB, ArchiveId, ByteRange, FileStamp, Part, TreeHash, UploadId
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


class Outgoing(Struct, frozen=True):
    """A pack to send: its archive, its file in the spool, and the parts that it is cut into.

    Without a file it is read where it lies, and its parts have no tree hash before they were read. `stamp` is
    that of the file when it was proven; None for one that a dead process left.
    """

    archive: Archive
    part_size: int
    spool_file: str
    parts: Sequence[Part]
    stamp: FileStamp | None = None

    def require_whole(self, parts: Sequence[Part]) -> None:
        """Raise `PackUnreadableError` if the parts that were sent are together not what was recorded."""
        if not self.spool_file and combine([part.tree_hash for part in parts]) != self.archive.tree_hash:
            raise unlike(self.archive)


class PackSource(Protocol):
    """The vault that packs without a file in the spool lie in."""

    def read(self, archive: Archive, extent: ByteRange) -> bytes | memoryview:
        """Exactly these bytes of a pack. `PackUnreadableError` if that pack alone cannot give them."""
        ...

    def leaves(self, archive: Archive) -> list[bytes] | None:
        """The leaves of its tree hash; None if it is not what was recorded. `PackUnreadableError`."""
        ...


def unlike(archive: Archive) -> PackUnreadableError:
    """The error for a pack with other bytes than those that were recorded."""
    return PackUnreadableError(
        f"{named(archive)} is not what was stored there, and is not copied: run a check of that vault"
    )


def named(archive: Archive) -> str:
    """A pack in words."""
    return f"pack {archive.label.pack_id.hex()} in vault {archive.vault}"


def outgoing_of(upload: PendingUpload, leaves: Sequence[bytes] | None) -> Outgoing:
    """A pack that was hashed before, for `Uploader.send`; without leaves one that is read as it goes."""
    parts = parts_of(upload.archive.size, upload.part_size, leaves)
    return Outgoing(upload.archive, upload.part_size, upload.spool_file, parts)


def parts_of(
    size: int, part_size: int, leaves: Sequence[bytes] | None, hashes: Sequence[bytes] = ()
) -> list[Part]:
    """The parts of an archive by its leaves, with their SHA-256 if those are known."""
    each = zip(extents(size, part_size), hashes or repeat(b""), strict=bool(hashes))
    return [
        Part(extent.start, extent.length, _tree_of(extent, leaves), sha256, number)
        for number, (extent, sha256) in enumerate(each, 1)
    ]


def tree_of_part(archive: Archive, part: Part, body: memoryview) -> Part:
    """A part of a pack that is read as it goes, with its tree hash. `PackUnreadableError` if it changed."""
    found = combine(leaf_hashes(body))
    if part.tree_hash and found != part.tree_hash:
        raise unlike(archive)
    return replace(part, tree_hash=found)


def _tree_of(extent: ByteRange, leaves: Sequence[bytes] | None) -> TreeHash:
    """The tree hash of a part, from the leaves of the whole; empty if they are not known yet."""
    if leaves is None:
        return TreeHash(b"")
    return combine(leaves[extent.start // MIB : -(-extent.end // MIB)])


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
    """The records of uploads; archives are named by their numbers.

    `MADE_AGAIN` tells what becomes of what a lost one was to hold.
    """

    MADE_AGAIN: ClassVar[str]

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

    MADE_AGAIN: ClassVar[str] = "its files are read again"

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
