"""The files of a selection with their chunk numbers, in packed columns."""

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
_CHUNK_SIZE = 4  # of a packed chunk number


@dataclass(frozen=True, slots=True)
class RestoreFile:
    """A file, the numbers of its chunks in order, and the layout of its data."""

    entry: RestoreEntry
    chunks: array[int]
    layout: Layout | None  # None: no holes

    @property
    def data_size(self) -> int:
        """Total size of its chunks in bytes."""
        return self.entry.size if self.layout is None else self.layout.data_size


class Files(Sequence[RestoreFile]):
    """A sequence of files, in the order in which they were stored; a `RestoreFile` is made on demand.

    `chunks` are the chunk numbers of all files, file after file; those of the file `key` are at
    `starts[key]` to `starts[key + 1]`.
    """

    def __init__(self, owners: Mapping[int, Owner]) -> None:
        self.entries = Entries(owners)
        self.chunks = array("I")
        self.starts = array("I", [0])
        self._content_ids = bytearray()

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
        self._content_ids += _named(row.content_id)
        self.chunks.extend(numbers)
        self.starts.append(len(self.chunks))

    def only(self, keys: Sequence[int], changed: Mapping[int, RestoreEntry] | None = None) -> Files:
        """A copy with the files of `keys`, in that order; `changed` gives replacements for some entries."""
        some = Files({})
        some.entries = self.entries.only(keys, changed)
        for key in keys:
            some.chunks.extend(self.chunks_of(key))
            some.starts.append(len(some.chunks))
            some._content_ids += self._content_ids[16 * key : 16 * key + 16]
        return some

    def chunks_of(self, key: int) -> array[int]:
        """The chunk numbers of a file."""
        return self.chunks[self.starts[key] : self.starts[key + 1]]

    def content_id(self, key: int) -> ContentId:
        """The content id of a file."""
        return ContentId(bytes(self._content_ids[16 * key : 16 * key + 16]))

    def forget_content_ids(self) -> None:
        """Free the content ids once they were compared: nothing reads them later."""
        self._content_ids.clear()

    def of(self, user: int) -> int:
        """Key of the file that contains the chunk at index `user` of `chunks`."""
        return bisect_right(self.starts, user) - 1

    def layout(self, key: int) -> Layout | None:
        """The layout of a sparse file's data; None if it has no holes."""
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
            return [self[one] for one in range(*key.indices(len(self)))]
        return RestoreFile(self.entries[key], self.chunks_of(key), self.layout(key))


def _named(content_id: object) -> bytes:
    """A valid content id from the database's value; zeros, which match no content, for anything else."""
    if isinstance(content_id, bytes) and len(content_id) == _CONTENT_ID_SIZE:
        return content_id
    return bytes(_CONTENT_ID_SIZE)
