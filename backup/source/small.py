"""Read small files whole, a batch at a time: what most files of most trees need, and no more.

A file that is anything but what the scan saw (changed, sparse, unreadable, grown) is passed over: the caller
reads it by the long way, where each such case has its answer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from backup.errors import SourceError
from backup.format.chunker import MINIMUM
from backup.format.naming import chunk_id, content_id
from backup.source.attributes import Attributes, read_attributes
from backup.source.read import open_name

LARGEST: Final = MINIMUM - 1  # one chunk holds it, so nothing is to be cut
_BLOCK: Final = 512


class Seen(NamedTuple):
    """What the scan saw of a file that is to be read: if one of these differs, it is another file."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class Wanted(NamedTuple):
    """A file to read: `name` in the `directory`-th of the batch's directories."""

    directory: int
    name: bytes
    seen: Seen


class SmallFile(NamedTuple):
    """A file that was read whole; `id` names its only chunk (empty: it has none)."""

    id: bytes
    content_id: bytes
    data: bytes
    attributes: Attributes


def is_small(found: os.stat_result) -> bool:
    """Whether a file may be read here: of one chunk at most, without holes, with no other name."""
    size = found.st_size
    return size <= LARGEST and found.st_nlink == 1 and found.st_blocks * _BLOCK >= size


def seen(found: os.stat_result) -> Seen:
    """What to compare an open file with."""
    return Seen(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def read_small(
    directories: Sequence[int], wanted: Sequence[Wanted], *, chunk_key: bytes, content_key: bytes
) -> Iterator[SmallFile | None]:
    """Each file in order; None for one that is not to be read here. `directories` are open handles."""
    empty = content_id(content_key, [], [])
    for directory, name, expected in wanted:
        read = _read(directories[directory], name, expected)
        if read is None:
            yield None
            continue
        data, attributes = read
        if not data:
            yield SmallFile(b"", empty, data, attributes)
            continue
        named = chunk_id(chunk_key, data)
        yield SmallFile(named, content_id(content_key, [named], [len(data)]), data, attributes)


def _read(directory: int, name: bytes, expected: Seen) -> tuple[bytes, Attributes] | None:
    try:
        handle = open_name(directory, name)
    except SourceError:
        return None
    try:
        if seen(os.fstat(handle)) != expected:
            return None  # another file, or no file: what is made anew has another ctime
        data = os.read(handle, expected.size + 1)
        attributes = read_attributes(handle)
        if len(data) != expected.size or attributes.trouble or seen(os.fstat(handle)) != expected:
            return None
        return data, attributes
    except OSError:
        return None
    finally:
        os.close(handle)
