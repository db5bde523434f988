"""Small files: which are small, and the batches in which they are requested and read (`read_small`)."""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Callable, Iterator
from itertools import groupby
from operator import attrgetter, le
from typing import Final, NamedTuple

from backup.format.chunker import MINIMUM
from backup.memory import BATCHES_AHEAD
from backup.source.attributes import Attributes
from backup.source.scanned import StatusColumns

LARGEST: Final = MINIMUM - 1  # one chunk holds it, so it is not cut
_BLOCK: Final = 512
_KIND: Final = 0o170000


Seen = tuple[int, int, int, int]
"""Inode, size, mtime and ctime (ns) from the scan: if one of them differs, it is another file."""

seen: Final[Callable[[os.stat_result], Seen]] = attrgetter("st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")


MOST_FILES: Final = 2048  # in a batch; with 512, processes that were done waited for the first one's turn
FEW_FILES: Final = 512  # in the first ones, so that a process soon has something to do
MOST_NAMES: Final = 64 * 1024  # bytes of names: a request fits a socket's buffer, so sending seldom waits
MOST_DIRECTORIES: Final = 64
MOST_REQUESTS: Final = BATCHES_AHEAD  # unanswered requests to a process that reads


class SmallRead(NamedTuple):
    """Files of a batch that were read whole, in columns: their indexes in the batch, and their ids.

    Data lies in the given buffer: files of `loose` from its start, of `dense` (incompressible) from its
    middle, one after the other; those of `empty` have none. `ids` hold 32 bytes for each loose file, then for
    each dense one, `content_ids` 16 for each in the same order. `attributes`, by index, has the few files
    with any.
    """

    empty: array[int]
    loose: array[int]
    dense: array[int]
    ids: bytes
    content_ids: bytes
    attributes: dict[int, Attributes]


class ReadBatch(NamedTuple):
    """A batch that a second process read, and the data of its compressible and its dense files.

    The data is valid until the next request.
    """

    read: SmallRead
    loose: memoryview
    dense: memoryview


def is_plain(found: os.stat_result) -> bool:
    """Whether it is a file that has no other name."""
    return found.st_nlink == 1 and found.st_mode & _KIND == stat.S_IFREG


def is_small(found: os.stat_result) -> bool:
    """Whether a file may be read here: at most one chunk, without holes or other names.

    Its numbers and times must also fit 63 bits, as nearly all do.
    """
    size: int = found.st_size
    if size > LARGEST or found.st_nlink != 1 or found.st_blocks * _BLOCK < size:
        return False
    return not (found.st_ino | found.st_mtime_ns | found.st_ctime_ns) >> 63


def small_runs(columns: StatusColumns) -> Iterator[tuple[bool, range]]:
    """The entries in runs of small files (`is_small`) and of others, as indexes, in order."""
    found = range(len(columns.names))
    if _all_are_small(columns):
        yield from [(True, found)] if found else []
        return
    kinds = zip(columns.modes, columns.links, columns.sizes, columns.blocks, strict=True)
    times = zip(columns.inodes, columns.mtimes, columns.ctimes, strict=True)
    small = [
        mode & _KIND == stat.S_IFREG and links == 1 and size <= LARGEST and size <= blocks * _BLOCK
        for mode, links, size, blocks in kinds
    ]
    fit = [min(stamps) >= 0 and max(stamps) < 2**63 for stamps in times]
    for are_small, run in groupby(found, lambda at: small[at] and fit[at]):
        some = list(run)
        yield are_small, range(some[0], some[-1] + 1)


def _all_are_small(columns: StatusColumns) -> bool:
    """Whether all of them are small files, as mostly where there are very many."""
    if not columns.names:
        return True
    largest = max(columns.sizes)
    return (
        all(mode & _KIND == stat.S_IFREG for mode in set(columns.modes))
        and set(columns.links) == {1}
        and largest <= LARGEST
        and (
            largest <= _BLOCK * min(columns.blocks)
            or all(map(le, columns.sizes, map(_BLOCK.__mul__, columns.blocks)))
        )
        and min(columns.mtimes) >= 0
        and min(columns.ctimes) >= 0
        and max(columns.inodes) < 2**63
    )


def buffer_size(batch: int) -> int:
    """Size of the buffer for files of fewer than `batch` bytes together and one more."""
    return 2 * (batch + LARGEST + 1)
