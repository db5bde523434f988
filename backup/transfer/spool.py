"""Files of the spool as uploads read them: their parts, mapped or hashed again."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from backup.files import spool_errors
from backup.format.treehash import combine, leaf_hashes
from backup.inventory.archives import Archive
from backup.model import MIB, ByteRange
from backup.safe_paths import held_folder, open_held, size_held

_WINDOW = 32 * MIB  # what is mapped at once of a file that is hashed again


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
