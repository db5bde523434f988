"""Reads small files whole, a batch at a time: the short way for most files of most trees.

A file that is not exactly what the scan saw (changed, sparse, unreadable, grown) is skipped: the caller
reads it by the long way, which handles each such case.
"""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, groupby
from operator import attrgetter, le
from typing import Final, NamedTuple

from backup.errors import SourceError
from backup.format.chunker import MINIMUM
from backup.format.naming import chunk_id, content_id_of_chunk
from backup.memory import BATCHES_AHEAD
from backup.source.attributes import NONE, Attributes, read_attributes
from backup.source.columns import StatusColumns
from backup.source.opened_ahead import OpenedAhead

LARGEST: Final = MINIMUM - 1  # one chunk holds it, so it is not cut
_BLOCK: Final = 512
_KIND: Final = 0o170000
_SAMPLE: Final = 64
_DISTINCT: Final = 46  # of 64 random bytes 57 differ, seldom fewer than 50; of text some 30 do


Seen = tuple[int, int, int, int]
"""Inode, size, mtime and ctime (ns) from the scan: if one of them differs, it is another file."""

seen: Final[Callable[[os.stat_result], Seen]] = attrgetter("st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")


MOST_FILES: Final = 512  # in a batch
MOST_NAMES: Final = 16 * 1024  # bytes of names: two requests fit a socket's buffer, so sending seldom waits
MOST_DIRECTORIES: Final = 64
MOST_REQUESTS: Final = BATCHES_AHEAD  # unanswered requests to a process that reads


class ReaderGoneError(SourceError):
    """The second process that reads batches is gone."""


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
    fit = [min(some) >= 0 and max(some) < 2**63 for some in times]
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


def read_small(
    directories: Sequence[int],
    files: Iterable[tuple[int, bytes, Seen]],
    buffer: memoryview,
    *,
    chunk_key: bytes,
    content_key: bytes,
) -> SmallRead:
    """Read each file that can be read here; `files` begin with an index in `directories`, of open handles."""
    empty, loose, dense = array("H"), array("H"), array("H")
    chunks: tuple[list[bytes], list[bytes]] = [], []  # of loose files, and of dense ones
    contents: tuple[list[bytes], list[bytes]] = [], []
    found: dict[int, Attributes] = {}
    middle = len(buffer) // 2
    start, dense_start = 0, middle
    wanted = list(files)
    opened = OpenedAhead(directories, wanted)
    for index, ((_, _, expected), handle) in enumerate(zip(wanted, opened, strict=True)):
        if handle is None:
            continue
        size = expected[1]
        end = start + size
        if end >= middle or dense_start + size > len(buffer):
            os.close(handle)
            continue
        attributes = _read(opened, handle, expected, buffer[start : end + 1])
        if attributes is None:
            continue
        if attributes is not NONE:
            found[index] = attributes
        if not size:
            empty.append(index)
            continue
        data = buffer[start:end]
        chunk = chunk_id(chunk_key, data)
        is_dense = _is_dense(data)
        chunks[is_dense].append(chunk)
        contents[is_dense].append(content_id_of_chunk(content_key, chunk, size))
        if is_dense:
            buffer[dense_start : dense_start + size] = data
            dense_start += size
            dense.append(index)
        else:
            start = end
            loose.append(index)
    ids, content_ids = (b"".join(chain.from_iterable(of)) for of in (chunks, contents))
    return SmallRead(empty, loose, dense, ids, content_ids, found)


def _is_dense(data: memoryview) -> bool:
    """Whether 64 bytes from the middle look incompressible: nearly all of them differ."""
    middle = len(data) // 2
    return len(set(data[middle : middle + _SAMPLE])) >= _DISTINCT


def _read(opened: OpenedAhead, handle: int, expected: Seen, buffer: memoryview) -> Attributes | None:
    """Read a file into `buffer`, which has one byte more, and close it; None if it is not as expected.

    One look at its status after reading it is enough: what is then as the scan saw it was so all the time,
    since every write gives it another ctime.
    """
    try:
        length = opened.read(handle, buffer, expected[1])
        attributes = read_attributes(handle)
        if length != expected[1] or attributes.trouble or seen(os.fstat(handle)) != expected:
            return None  # it changed since the scan, or it is another file: that one has another ctime
        return attributes
    except OSError:
        return None
    finally:
        os.close(handle)
