"""The files of a selection with their chunk numbers, in packed columns."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, islice
from operator import sub
from typing import Any, overload

from msgspec import Struct

from backup.errors import FormatError
from backup.format.catalog import decode_extra
from backup.format.holes import Layout
from backup.format.rows import unpack_u32
from backup.inventory.content.entries import EntryRow
from backup.model import ContentId, Owner
from backup.restorer.selection.column import Column, Scratch, Values
from backup.restorer.selection.columns import Entries
from backup.restorer.selection.entry import RestoreEntry

_CONTENT_ID = struct.Struct("16s")
_CHUNK_SIZE = 4  # of a packed chunk number
_NEAR = 64  # files


class RestoreFile(Struct, frozen=True):
    """A file, the numbers of its chunks in order, and the layout of its data."""

    entry: RestoreEntry
    chunks: Values
    layout: Layout | None  # None: no holes

    @property
    def data_size(self) -> int:
        """Total size of its chunks in bytes."""
        return self.entry.size if self.layout is None else self.layout.data_size


class Files(Sequence[RestoreFile]):
    """A sequence of files, in the order in which they were stored; a `RestoreFile` is made on demand.

    `chunks` are the chunk numbers of all files, file after file; those of the file `key` are at
    `starts[key]` to `starts[key + 1]`. Large columns are kept in `scratch`.
    """

    def __init__(self, owners: Mapping[int, Owner], scratch: Scratch | None = None) -> None:
        self._scratch = scratch or Scratch()
        self.entries = Entries(owners, self._scratch)
        self._chunks = Column(self._scratch, "I")
        self._starts = Column(self._scratch, "Q")
        self._starts.append(0)
        self._content_ids = Column(self._scratch)

    @property
    def chunks(self) -> Values:
        """The chunk numbers of all files."""
        return self._chunks.values

    @property
    def starts(self) -> Values:
        """The index of each file's first chunk number, and of where the next file's would be."""
        return self._starts.values

    def add(self, directory: bytes, row: EntryRow) -> None:
        """Append a file.

        FormatError, LookupError, TypeError or ValueError if its row is damaged; then nothing is appended.
        """
        chunks = row.chunks or b""
        is_one = len(chunks) == _CHUNK_SIZE  # as most files have
        numbers = (int.from_bytes(chunks, "little"),) if is_one else unpack_u32(chunks)
        if row.extra is not None:
            extra = decode_extra(row.extra)
            if extra is not None and extra.holes:
                Layout(extra.holes, row.size)
        self.entries.add(directory, row)  # the last call that may fail: all columns grow, or none
        self._content_ids.add(_named(row.content_id))
        self._chunks.extend(numbers)
        self._starts.append(len(self._chunks))

    def add_plain(self, directory: bytes, rows: Sequence[Sequence[Any]]) -> None:
        """Append files without rare attributes of one directory; `rows` are the columns of their `EntryRow`s.

        The same errors as of `add`, or FormatError as well if a content id is unusual; then nothing is
        appended.
        """
        content_ids, lists = rows[9], [chunk_list or b"" for chunk_list in rows[10]]
        named = b"".join(content_ids)
        if set(map(len, content_ids)) != {_CONTENT_ID.size}:
            raise FormatError("a content id is missing")
        numbers, sizes = unpack_u32(b"".join(lists)), [*map(len, lists)]
        if any(size % _CHUNK_SIZE for size in sizes):
            raise FormatError("a list of chunks is cut short")
        ends = accumulate(sizes, initial=len(self._chunks) * _CHUNK_SIZE)
        next(ends)
        self.entries.add_plain_files(directory, rows)  # the last call that may fail
        self._content_ids.add(named)
        self._chunks.extend(numbers)
        self._starts.extend([end // _CHUNK_SIZE for end in ends])

    def only(self, keys: Sequence[int], changed: Mapping[int, RestoreEntry] | None = None) -> Files:
        """Return a copy with the files of `keys`, in that order; `changed` has replacements by key."""
        some = Files({}, self._scratch)
        some.entries = self.entries.only(keys, changed)
        content_ids = self._content_ids.values
        for key in keys:
            some._chunks.extend(self.chunks_of(key))
            some._starts.append(len(some._chunks))
            some._content_ids.add(bytes(content_ids[16 * key : 16 * key + 16]))
        return some

    def chunks_of(self, key: int) -> Values:
        """Return the chunk numbers of a file."""
        starts = self.starts
        return self.chunks[starts[key] : starts[key + 1]]

    def content_id(self, key: int) -> ContentId:
        """Return the content id of a file."""
        return ContentId(bytes(self._content_ids.values[16 * key : 16 * key + 16]))

    @property
    def content_ids(self) -> Iterator[bytes]:
        """The content id of each file, in order."""
        return self._content_ids.each(_CONTENT_ID)

    @property
    def counts(self) -> Iterator[int]:
        """The number of chunks of each file, in order."""
        return map(sub, islice(self.starts, 1, None), self.starts)

    def forget_content_ids(self) -> None:
        """Free the content ids once they are compared, as they are not needed later."""
        self._content_ids = Column(self._scratch)

    def of(self, user: int) -> int:
        """Return the key of the file that contains the chunk at index `user` of `chunks`."""
        return bisect_right(self.starts, user) - 1

    def of_many(self, users: Sequence[int]) -> Sequence[int]:
        """Same as `of` for many users, and -1 for -1; faster if each is near the one before.

        Returns a range if they are the first chunks of consecutive files.
        """
        starts, found, key = self.starts, [], 0
        first = self.of(users[0]) if users and users[0] >= 0 else len(starts)
        end = first + len(users)
        if end < len(starts) and starts[end] > users[-1] and [*starts[first:end]] == [*users]:
            return range(first, end)
        for user in users:
            low = key if starts[key] <= user else 0
            high = low + _NEAR
            if high >= len(starts) or starts[high] <= user:
                high = len(starts)
            key = bisect_right(starts, user, low, high) - 1
            found.append(key)
        return found

    def layout(self, key: int) -> Layout | None:
        """Return the layout of a sparse file's data; None if it has no holes."""
        extra = self.entries.extra_of(key)
        return Layout(extra.holes, self.entries.size(key)) if extra is not None and extra.holes else None

    def data_size(self, key: int) -> int:
        """Total size of a file's chunks in bytes."""
        layout = self.layout(key)
        return self.entries.size(key) if layout is None else layout.data_size

    @property
    def data_sizes(self) -> Iterator[int]:
        """The data size of each file."""
        if not self.entries.has_extras:
            return self.entries.sizes
        return map(self.data_size, range(len(self)))

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, key: int) -> RestoreFile: ...
    @overload
    def __getitem__(self, key: slice) -> list[RestoreFile]: ...
    def __getitem__(self, key: int | slice) -> RestoreFile | list[RestoreFile]:
        if isinstance(key, slice):
            return [self[position] for position in range(*key.indices(len(self)))]
        return RestoreFile(self.entries[key], self.chunks_of(key), self.layout(key))


def _named(content_id: object) -> bytes:
    """A valid content id from the database's value; zeros, which match no content, for anything else."""
    if isinstance(content_id, bytes) and len(content_id) == _CONTENT_ID.size:
        return content_id
    return bytes(_CONTENT_ID.size)
