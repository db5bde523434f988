"""Reads small files whole, a batch at a time: the fast path for most files of most trees.

A file that is not exactly what the scan saw (changed, sparse, unreadable, grown) is skipped: the caller reads
it by the slow path (`read`), which handles each such case.

A file whose bytes the system holds in memory is read at once, and nothing more is asked. Many that it does
not hold show a disk: from there on files are opened some time before they are read (`OpenedAhead`), and the
system is told that they will be, so that the disk looks for many at once instead of one after the other.
"""

from __future__ import annotations

import errno
import os
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate, chain, compress, groupby, pairwise, repeat
from operator import itemgetter, not_
from typing import Any, Final

from backup.errors import SourceError
from backup.format.naming import chunk_id, chunk_ids, content_id_of_chunk, content_ids_of_chunks
from backup.model import MIB
from backup.source.attributes import NONE, Attributes, attributes_of, read_attributes
from backup.source.read import open_name, opener
from backup.source.small import Seen, SmallRead, seen

AT_ONCE: Final[int] = getattr(os, "RWF_NOWAIT", 0)
"""Read only what is in memory; 0 where the system cannot."""
IN_GROUPS: Final = bool(AT_ONCE)
"""Read files in groups first, as that costs hardly a step of the interpreter for each."""
TOGETHER: Final = 64
"""So many files are open at once."""
AHEAD: Final = 64
"""Files that the disk may look for at once: with 128 it is little faster, and each needs a handle."""
MOST_ATTRIBUTES: Final = 4 * MIB
"""After so many bytes of extended attributes the rest of a batch is left to the long way."""
_GROUPS_A_FAILURE: Final = 4  # of a batch; with more failures its other files are read one by one
_FILES_A_WAIT: Final = 32  # one of so many may have to be waited for
_SAMPLE: Final = 64
_DISTINCT: Final = 46  # of 64 random bytes 57 differ, seldom fewer than 50; of text some 30 do

_File = tuple[int, bytes, Seen]


def read_small(
    directories: Sequence[int],
    files: Iterable[_File],
    buffer: memoryview,
    *,
    chunk_key: bytes,
    content_key: bytes,
) -> SmallRead:
    """Read each file that can be read here; `files` begin with an index in `directories`, of open handles.

    Files are read in groups, with hardly a step of the interpreter for each. A group with a file that is not
    as expected is read one by one; so are all that are left once two groups, and a quarter of them all, had
    one, or many files are not in memory.
    """
    wanted = list(files)
    room = _Room(buffer, chunk_key, content_key)
    first = failures = 0
    most = max(2, len(wanted) // TOGETHER // _GROUPS_A_FAILURE)
    try:
        while IN_GROUPS and first < len(wanted) and failures < most:
            some = wanted[first : first + TOGETHER if first else 1]  # one shows whether this can work at all
            if not _read_together(directories, some, first, room):
                failures += 1
                _read_one_by_one(directories, some, first, room)
            first += len(some)
    except _NotInMemoryError:
        pass
    _read_one_by_one(directories, wanted[first:], first, room)
    return room.read()


class _NotInMemoryError(Exception):
    """More than a few files are not in the page cache, or the system cannot say."""


def _read_one_by_one(directories: Sequence[int], files: Sequence[_File], first: int, room: _Room) -> None:
    """Read those of the files that are as expected into the room."""
    opened = OpenedAhead(directories, files)
    for index, ((_, _, expected), handle) in enumerate(zip(files, opened, strict=True), first):
        if handle is None:
            continue
        view = room.view(expected[1])
        if view is None:
            os.close(handle)
            continue
        attributes = _read(opened, handle, expected, view)
        if attributes is not None:
            room.take_one(index, expected[1], attributes)


def _read_together(directories: Sequence[int], files: Sequence[_File], first: int, room: _Room) -> bool:
    """Read files into the room; False, and nothing is taken, if one is not as expected.

    One look at a status after reading is enough, as in `_read`. `_NotInMemoryError`.
    """
    sizes = [expected[1] for _, _, expected in files]
    view = room.view(sum(sizes))
    if view is None:
        return False
    views = [[view[start : end + 1]] for start, end in pairwise(accumulate(sizes, initial=0))]
    handles: list[int] = []
    try:
        for directory, of_directory in groupby(files, key=itemgetter(0)):
            handles.extend(map(opener(directories[directory]), map(itemgetter(1), of_directory)))
        if _lengths_at_once(handles, views) != sizes:
            return False
        found = attributes_of(handles)
        if any(attributes.trouble for attributes in found.values()):
            return False
        if list(map(seen, map(os.fstat, handles))) != [expected for _, _, expected in files]:
            return False
    except OSError:
        return False
    finally:
        _close_all(handles)
    room.take(first, sizes, found)
    return True


def _close_all(handles: Iterable[int]) -> None:
    """Close handles; one whose close fails is closed all the same."""
    left = iter(handles)
    closed = False
    while not closed:
        with suppress(OSError):
            deque(map(os.close, left), 0)
            closed = True


def _lengths_at_once(handles: Sequence[int], buffers: Sequence[Sequence[memoryview]]) -> list[int]:
    """Read each file from memory into a buffer; their lengths. `_NotInMemoryError` if many are not there.

    Few are waited for: the system also refuses one that is there if it would read ahead behind it.
    """
    lengths: list[int] = []
    waits = len(handles) // _FILES_A_WAIT
    while (done := len(lengths)) < len(handles):
        try:
            lengths.extend(map(os.preadv, handles[done:], buffers[done:], repeat(0), repeat(AT_ONCE)))
        except OSError as error:
            if not waits or error.errno != errno.EAGAIN:
                raise _NotInMemoryError from error
            waits -= 1
            refused = len(lengths)
            lengths.append(os.preadv(handles[refused], buffers[refused], 0))
    return lengths


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


class _Files:
    """Files that were read, of one kind: their indexes in the batch and their ids."""

    def __init__(self) -> None:
        self.indexes = array("H")
        self.ids: list[bytes] = []
        self.content_ids: list[bytes] = []

    def add(self, indexes: Iterable[int], ids: Iterable[bytes], content_ids: Iterable[bytes]) -> None:
        """Add files."""
        self.indexes.extend(indexes)
        self.ids.extend(ids)
        self.content_ids.extend(content_ids)


class _Room:
    """The buffer of a batch, and what was taken of it: loose files from its start, dense from its middle."""

    def __init__(self, buffer: memoryview, chunk_key: bytes, content_key: bytes) -> None:
        self._buffer = buffer
        self._chunk_key = chunk_key
        self._content_key = content_key
        self._middle = len(buffer) // 2
        self._ends = [0, self._middle]  # of loose and dense files so far
        self._empty = array("H")
        self._loose, self._dense = _Files(), _Files()
        self._attributes: dict[int, Attributes] = {}
        self._left = MOST_ATTRIBUTES

    def view(self, size: int) -> memoryview | None:
        """The buffer for the next files, of that size together, and one byte; None if there is no room."""
        end, dense_end = self._ends
        if end + size >= self._middle or dense_end + size > len(self._buffer) or self._left < 0:
            return None
        return self._buffer[end : end + size + 1]

    def take(self, first: int, sizes: Sequence[int], found: Mapping[int, Attributes]) -> None:
        """Take files of these sizes that were read into `view`, the first of that index in the batch.

        `found` are attributes by the index among these files.
        """
        for index, attributes in found.items():
            self._keep(first + index, attributes)
        indexes: Sequence[int] = range(first, first + len(sizes))
        if 0 in sizes:
            self._empty.extend(compress(indexes, map(not_, sizes)))
            indexes = list(compress(indexes, sizes))
            sizes = list(filter(None, sizes))
        data = self._buffer[self._ends[0] : self._ends[0] + sum(sizes)]
        ids = chunk_ids(self._chunk_key, data, sizes)
        content_ids = content_ids_of_chunks(self._content_key, ids, sizes)
        are_dense = [_is_dense(data[start:end]) for start, end in pairwise(accumulate(sizes, initial=0))]
        if any(are_dense):
            for kind, picked in ((self._dense, are_dense), (self._loose, list(map(not_, are_dense)))):
                kind.add(compress(indexes, picked), compress(ids, picked), compress(content_ids, picked))
            self._part(data, sizes, are_dense)
        else:
            self._loose.add(indexes, ids, content_ids)
            self._ends[0] += len(data)

    def take_one(self, index: int, size: int, attributes: Attributes) -> None:
        """Same as `take`, for one file."""
        if attributes is not NONE:
            self._keep(index, attributes)
        if not size:
            self._empty.append(index)
            return
        data = self._buffer[self._ends[0] : self._ends[0] + size]
        chunk = chunk_id(self._chunk_key, data)
        is_dense = _is_dense(data)
        files = self._dense if is_dense else self._loose
        files.indexes.append(index)
        files.ids.append(chunk)
        files.content_ids.append(content_id_of_chunk(self._content_key, chunk, size))
        end = self._ends[is_dense]
        if is_dense:
            self._buffer[end : end + size] = data
        self._ends[is_dense] = end + size

    def read(self) -> SmallRead:
        """All that was taken."""
        loose, dense = self._loose, self._dense
        ids = b"".join(chain(loose.ids, dense.ids))
        content_ids = b"".join(chain(loose.content_ids, dense.content_ids))
        return SmallRead(self._empty, loose.indexes, dense.indexes, ids, content_ids, self._attributes)

    def _keep(self, index: int, attributes: Attributes) -> None:
        self._attributes[index] = attributes
        self._left -= sum(len(value) for _, value in attributes.xattrs)

    def _part(self, data: memoryview, sizes: Sequence[int], are_dense: Sequence[bool]) -> None:
        """Move each run of dense files behind the dense ones, and of loose ones behind the loose ones."""
        start = 0
        for is_dense, run in groupby(zip(are_dense, sizes, strict=True), key=itemgetter(0)):
            size = sum(map(itemgetter(1), run))
            end = self._ends[is_dense]
            if is_dense or start:  # else it lies there already
                self._buffer[end : end + size] = data[start : start + size]
            self._ends[is_dense] = end + size
            start += size


def _is_dense(data: memoryview) -> bool:
    """Whether 64 bytes from the middle look incompressible: nearly all of them differ."""
    size = len(data)
    return size >= _DISTINCT and len(set(data[size // 2 : size // 2 + _SAMPLE])) >= _DISTINCT


class OpenedAhead:
    """The handles of a batch's files, opened ahead, in order; for one thread."""

    def __init__(self, directories: Sequence[int], files: Sequence[tuple[int, bytes, Any]]) -> None:
        """`files` begin with the number of their directory, and their name in it."""
        self._directories = directories
        self._files = files
        self._ahead = 0

    def __iter__(self) -> Iterator[int | None]:
        left = iter(self._files)
        for directory, name, _ in left:
            yield self._opened(directory, name)
            if self._ahead:
                break
        waiting: deque[int | None] = deque()
        try:
            for directory, name, _ in left:
                waiting.append(self._opened(directory, name))
                if len(waiting) > self._ahead:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            for handle in waiting:
                if handle is not None:
                    os.close(handle)

    def read(self, handle: int, buffer: memoryview, size: int) -> int:
        """Read a file of that size from its start; returns the bytes. `buffer` has room for one more."""
        if not self._ahead and AT_ONCE:
            try:
                length = os.preadv(handle, [buffer], 0, AT_ONCE)
            except OSError:  # not in memory, or a file system that cannot tell
                length = -1
            if length == size:
                return length
            self._ahead = AHEAD
        return os.preadv(handle, [buffer], 0)

    def _opened(self, directory: int, name: bytes) -> int | None:
        try:
            handle = open_name(self._directories[directory], name)
        except SourceError:
            return None
        if self._ahead:
            with suppress(OSError):
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_WILLNEED)
        return handle
