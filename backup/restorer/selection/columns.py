"""Very many entries to restore, in columns of packed numbers."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, overload

from backup.errors import FormatError
from backup.format.catalog import decode_extra
from backup.inventory.entries import EntryRow
from backup.model import EntryKind, Extra, Owner
from backup.restorer.selection.entry import RestoreEntry

# Of directory, owner and attributes the place in a table; kind, on the way, mode, mtime, size, number; where
# the name ends among the names. Whatever integer a database can hold fits, so that no damage is met here.
_ROW: Final = struct.Struct("<IIIBBqqqqQ")
_END: Final = struct.Struct("<Q")  # the last column
_KINDS: Final = {int(kind): kind for kind in EntryKind}


class Entries(Sequence[RestoreEntry]):
    """Very many entries in little memory: about 60 bytes and its name for each. `RestoreEntry` on demand."""

    def __init__(self, owners: Mapping[int, Owner]) -> None:
        self._owners = owners
        self._rows = bytearray()
        self._names = bytearray()
        self._directories: list[bytes] = []
        self._extras: list[Extra | None] = [None]
        self._extra_indexes: dict[bytes | None, int] = {None: 0}
        self._changed: dict[int, RestoreEntry] = {}

    def add(self, directory: bytes, row: EntryRow, *, on_the_way: bool = False) -> None:
        """One more; FormatError, LookupError, TypeError or ValueError, and none, if its row is damaged."""
        if row.owner not in self._owners:
            raise LookupError("its owner is not there")
        kind, extra, ends = _KINDS[row.kind], self._extra_index(row.extra), len(self._names) + len(row.name)
        if not self._directories or self._directories[-1] != directory:
            self._directories.append(directory)
        index = len(self._directories) - 1
        numbers = (row.mode, row.mtime_ns, row.size, row.number, ends)
        try:
            packed = _ROW.pack(index, row.owner, extra, kind, on_the_way, *numbers)
        except struct.error as error:
            raise FormatError("a column holds no number") from error
        self._names += row.name  # which refuses a text, before there is a row for it
        self._rows += packed

    def only(self, keys: Iterable[int], changed: Mapping[int, RestoreEntry] | None = None) -> Entries:
        """Those of `keys`, in order; with the values of `changed` in the place of those keys."""
        some = Entries(self._owners)
        some._directories, some._extras = self._directories, self._extras
        some._extra_indexes = self._extra_indexes
        known = {**self._changed, **(changed or {})}
        for index, key in enumerate(keys):
            some._names += self._name(key)
            some._rows += _ROW.pack(*self._row(key)[:-1], len(some._names))
            if key in known:
                some._changed[index] = known[key]
        return some

    def extra_of(self, key: int) -> Extra | None:
        """What few entries have; where none has any, no row is looked at."""
        return self._extras[self._row(key)[2]] if len(self._extras) > 1 else None

    def is_plain(self, key: int) -> bool:
        """Whether it is a file with one name, and nothing but owner, mode and times."""
        row = self._row(key)
        return row[3] == EntryKind.FILE and not row[2] and key not in self._changed

    def size(self, key: int) -> int:
        """Bytes of a file."""
        size: int = self._row(key)[7]
        return size

    def linked(self) -> Iterator[int]:
        """Keys of those that say to be one of several names."""
        marked = {index for index, extra in enumerate(self._extras) if extra is not None and extra.link}
        if marked:
            yield from (key for key, row in enumerate(_ROW.iter_unpack(self._rows)) if row[2] in marked)

    @property
    def total(self) -> int:
        """Bytes of all of them."""
        return sum(row[7] for row in _ROW.iter_unpack(self._rows))

    @property
    def names(self) -> int:
        """How many names they have: a hard link is one more."""
        return len(self) + sum(len(one.links) for one in self._changed.values())

    def __len__(self) -> int:
        return len(self._rows) // _ROW.size

    @overload
    def __getitem__(self, key: int) -> RestoreEntry: ...
    @overload
    def __getitem__(self, key: slice) -> list[RestoreEntry]: ...
    def __getitem__(self, key: int | slice) -> RestoreEntry | list[RestoreEntry]:
        if isinstance(key, slice):
            return [self[one] for one in range(*key.indices(len(self)))]
        if not 0 <= key < len(self):
            raise IndexError(key)
        if key in self._changed:
            return self._changed[key]
        directory, owner, extra, kind, on_the_way, mode, mtime_ns, size, number, _ = self._row(key)
        return RestoreEntry(
            self._directories[directory],
            self._name(key),
            _KINDS[kind],
            mode,
            self._owners[owner],
            mtime_ns,
            size,
            self._extras[extra],
            (),
            number,
            bool(on_the_way),
        )

    def _row(self, key: int) -> tuple[int, ...]:
        return _ROW.unpack_from(self._rows, key * _ROW.size)

    def _name(self, key: int) -> bytes:
        start = _END.unpack_from(self._rows, key * _ROW.size - _END.size)[0] if key else 0
        (end,) = _END.unpack_from(self._rows, (key + 1) * _ROW.size - _END.size)
        return bytes(self._names[start:end])

    def _extra_index(self, packed: bytes | None) -> int:
        """Where in the table attributes are: many entries have the same."""
        index = self._extra_indexes.get(packed)
        if index is None:
            self._extras.append(decode_extra(packed))
            index = self._extra_indexes[packed] = len(self._extras) - 1
        return index
