"""Very many files that a restore wants, with their chunks, in little memory."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

from backup.format.catalog import decode_extra
from backup.format.holes import Layout
from backup.format.rows import unpack_u32
from backup.inventory.entries import EntryRow
from backup.model import ContentId, Owner
from backup.restorer.selection.columns import Entries
from backup.restorer.selection.entry import RestoreEntry

_CONTENT_ID_SIZE = 16


@dataclass(frozen=True, slots=True)
class RestoreFile:
    """A file, its chunks' numbers in order, and where their bytes belong."""

    entry: RestoreEntry
    chunks: array[int]
    layout: Layout | None  # None: no holes

    @property
    def data_size(self) -> int:
        """Bytes of its chunks."""
        return self.entry.size if self.layout is None else self.layout.data_size


class Files(Sequence[RestoreFile]):
    """Files by key, in the order in which they were stored; a `RestoreFile` is made when asked for.

    `chunks` are the numbers of all their chunks, file after file; those of the file `key` are
    `starts[key]` to `starts[key + 1]` of them.
    """

    def __init__(self, owners: Mapping[int, Owner]) -> None:
        self.entries = Entries(owners)
        self.chunks = array("I")
        self.starts = array("I", [0])
        self._content_ids = bytearray()

    def add(self, directory: bytes, row: EntryRow) -> None:
        """One more; FormatError, LookupError, TypeError or ValueError, and none, if its row is damaged."""
        numbers = unpack_u32(row.chunks or b"")
        extra = decode_extra(row.extra)
        if extra is not None and extra.holes:
            Layout(extra.holes, row.size)
        self.entries.add(directory, row)  # the last that may fail: all columns grow, or none
        self._content_ids += _named(row.content_id)
        self.chunks.extend(numbers)
        self.starts.append(len(self.chunks))

    def only(self, keys: Sequence[int], changed: Mapping[int, RestoreEntry] | None = None) -> Files:
        """Those of `keys`, in order; with the values of `changed` in the place of those keys."""
        some = Files({})
        some.entries = self.entries.only(keys, changed)
        for key in keys:
            some.chunks.extend(self.chunks_of(key))
            some.starts.append(len(some.chunks))
            some._content_ids += self._content_ids[16 * key : 16 * key + 16]
        return some

    def chunks_of(self, key: int) -> array[int]:
        """The numbers of a file's chunks."""
        return self.chunks[self.starts[key] : self.starts[key + 1]]

    def content_id(self, key: int) -> ContentId:
        """The name of a file's content."""
        return ContentId(bytes(self._content_ids[16 * key : 16 * key + 16]))

    def forget_content_ids(self) -> None:
        """They were compared, and nobody asks for them any more."""
        self._content_ids.clear()

    def of(self, user: int) -> int:
        """The key of the file that the `use`-th of all chunks is in."""
        return bisect_right(self.starts, user) - 1

    def layout(self, key: int) -> Layout | None:
        """Where a file's data lies; None if it has no holes."""
        extra = self.entries.extra_of(key)
        return Layout(extra.holes, self.entries.size(key)) if extra is not None and extra.holes else None

    def data_size(self, key: int) -> int:
        """Bytes of a file's chunks."""
        layout = self.layout(key)
        return self.entries.size(key) if layout is None else layout.data_size

    @property
    def data_sizes(self) -> Iterator[int]:
        """Of each file the bytes of its chunks."""
        return map(self.data_size, range(len(self)))

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, key: int) -> RestoreFile: ...
    @overload
    def __getitem__(self, key: slice) -> list[RestoreFile]: ...
    def __getitem__(self, key: int | slice) -> RestoreFile | list[RestoreFile]:
        if isinstance(key, slice):
            return [self[one] for one in range(*key.indices(len(self)))]
        return RestoreFile(self.entries[key], self.chunks_of(key), self.layout(key))


def _named(content_id: object) -> bytes:
    """A content id from a database, which may hold anything; one that no content has for what is none."""
    if isinstance(content_id, bytes) and len(content_id) == _CONTENT_ID_SIZE:
        return content_id
    return bytes(_CONTENT_ID_SIZE)
