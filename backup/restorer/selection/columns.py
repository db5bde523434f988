"""A sequence of very many entries to restore, stored as columns of packed numbers."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, repeat
from operator import and_
from typing import Any, Final, overload

from backup.errors import FormatError
from backup.format.catalog import decode_extra
from backup.inventory.content.entries import EntryRow
from backup.model import EntryKind, Extra, Owner
from backup.restorer.selection.column import Column, Scratch
from backup.restorer.selection.entry import NewFiles, RestoreEntry

# Indexes of directory, owner and attributes in their tables; kind, on the way, mode, mtime, size, number; the
# end of the name in the joined names. Every integer that a database can hold fits: damage is found elsewhere.
_ROW: Final = struct.Struct("<IIIBBqqqqQ")
_END: Final = struct.Struct("<Q")  # the last column
_NEW_FILE: Final = struct.Struct("<II6xqq16xQ")  # what a new file has of its row
_EXTRA, _SIZE = 2, 7  # positions in a row
_EXTRAS, _SIZES = struct.Struct("<8xI42x"), struct.Struct("<30xq16x")  # of a row that field alone
_KIND_AT: Final = 12  # bytes from the beginning of a row
_ARE_FILES: Final = bytes(kind == EntryKind.FILE for kind in range(256))
_MODE_AT: Final = 15  # of the byte with setuid and setgid
_LEND_NO_RIGHTS: Final = bytes(not bits & 0o6000 >> 8 for bits in range(256))
_KINDS: Final = {int(kind): kind for kind in EntryKind}


class Entries(Sequence[RestoreEntry]):
    """A sequence of `RestoreEntry`, made on demand: about 60 bytes and the name for each, in `scratch`."""

    def __init__(self, owners: Mapping[int, Owner], scratch: Scratch | None = None) -> None:
        self._owners = owners
        self._scratch = scratch or Scratch()
        self._rows = Column(self._scratch)
        self._names = Column(self._scratch)
        self._directories: list[bytes] = []
        self._extras: list[Extra | None] = [None]
        self._extra_indexes: dict[bytes | None, int] = {None: 0}
        self._changed: dict[int, RestoreEntry] = {}

    def add(self, directory: bytes, row: EntryRow, *, on_the_way: bool = False) -> None:
        """Append an entry.

        FormatError, LookupError, TypeError or ValueError if its row is damaged; then nothing is appended.
        """
        if row.owner not in self._owners:
            raise LookupError("its owner is not there")
        kind, extra, ends = _KINDS[row.kind], self._extra_index(row.extra), len(self._names) + len(row.name)
        index = self._directory_index(directory)
        numbers = (row.mode, row.mtime_ns, row.size, row.number, ends)
        try:
            packed = _ROW.pack(index, row.owner, extra, kind, on_the_way, *numbers)
        except struct.error as error:
            raise FormatError("a column holds no number") from error
        self._names.add(row.name)  # a str (damage) raises TypeError here, before the row is added
        self._rows.add(packed)

    def add_plain_files(self, directory: bytes, rows: Sequence[Sequence[Any]]) -> None:
        """Append files without rare attributes of one directory; `rows` are the columns of their `EntryRow`s.

        The same errors as of `add`; then nothing is appended.
        """
        numbers, _, names, _, modes, owners, mtimes, sizes = rows[:8]
        if not self._owners.keys() >= set(owners):
            raise LookupError("an owner is not there")
        joined, ends = b"".join(names), accumulate(map(len, names), initial=len(self._names))
        next(ends)
        of_all = map(repeat, (self._directory_index(directory), EntryKind.FILE, False, 0))
        index, kind, on_the_way, extra = of_all
        columns = (index, owners, extra, kind, on_the_way, modes, mtimes, sizes, numbers, ends)
        try:
            packed = b"".join(map(_ROW.pack, *columns))
        except struct.error as error:
            raise FormatError("a column holds no number") from error
        self._names.add(joined)
        self._rows.add(packed)

    def only(self, keys: Iterable[int], changed: Mapping[int, RestoreEntry] | None = None) -> Entries:
        """Return a copy with the entries of `keys`, in that order; `changed` has replacements by key."""
        some = Entries(self._owners, self._scratch)
        some._directories, some._extras = self._directories, self._extras
        some._extra_indexes = self._extra_indexes
        known = {**self._changed, **(changed or {})}
        for index, key in enumerate(keys):
            some._names.add(self._name(key))
            some._rows.add(_ROW.pack(*self._row(key)[:-1], len(some._names)))
            if key in known:
                some._changed[index] = known[key]
        return some

    def change(self, key: int, entry: RestoreEntry) -> None:
        """Replace an entry, for instance if some of its hard links are left out."""
        self._changed[key] = entry

    def extra_of(self, key: int) -> Extra | None:
        """Return the rare attributes of an entry; reads no row if no entry has any."""
        return self._extras[self._row(key)[_EXTRA]] if self.has_extras else None

    @property
    def are_plain(self) -> bytearray:
        """Return for each entry, in order: 1 for a file of one name with only owner, mode and times, else 0.

        A file with setuid or setgid is not plain: it depends on its owner's name, which `NewFiles` do not
        have.
        """
        marks = bytearray()
        for piece in self._rows.pieces(_ROW.size):
            are_files = bytes(piece[_KIND_AT :: _ROW.size]).translate(_ARE_FILES)
            lend_none = bytes(piece[_MODE_AT :: _ROW.size]).translate(_LEND_NO_RIGHTS)
            marks += bytes(map(and_, are_files, lend_none)) if 0 in lend_none else are_files
        if self.has_extras:
            for key, extra in enumerate(self.extras):
                if extra:
                    marks[key] = 0
        for key in self._changed:
            marks[key] = 0
        return marks

    def size(self, key: int) -> int:
        """Size of an entry in bytes."""
        size: int = self._row(key)[_SIZE]
        return size

    @property
    def has_extras(self) -> bool:
        """Whether any entry may have rare attributes."""
        return len(self._extras) > 1

    @property
    def sizes(self) -> Iterator[int]:
        """The size of each entry, in order."""
        return self._rows.each(_SIZES)

    @property
    def extras(self) -> Iterator[int]:
        """Of each entry, in order: 0 if it has no rare attributes."""
        if not self.has_extras:
            return repeat(0, len(self))
        return self._rows.each(_EXTRAS)

    def linked(self) -> Iterator[int]:
        """Return the keys of entries recorded as one of several hard links."""
        marked = {index for index, extra in enumerate(self._extras) if extra is not None and extra.link}
        if marked:
            yield from (key for key, extra in enumerate(self.extras) if extra in marked)

    @property
    def total(self) -> int:
        """Size of all entries in bytes."""
        return sum(self.sizes)

    @property
    def names(self) -> int:
        """Number of names: each further hard link counts as one more."""
        return len(self) + sum(len(entry.links) for entry in self._changed.values())

    def __len__(self) -> int:
        return len(self._rows) // _ROW.size

    @overload
    def __getitem__(self, key: int) -> RestoreEntry: ...
    @overload
    def __getitem__(self, key: slice) -> list[RestoreEntry]: ...
    def __getitem__(self, key: int | slice) -> RestoreEntry | list[RestoreEntry]:
        if isinstance(key, slice):
            return [self[position] for position in range(*key.indices(len(self)))]
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

    def new_files(
        self,
        keys: Sequence[int],
        starts: Sequence[int],
        ends: Sequence[int],
        chunks: Sequence[bytes],
        ids: Callable[[Owner], tuple[int, int]],
    ) -> NewFiles:
        """Return the files of these keys, each of which has a single name and only owner, mode and times.

        The other columns are those of `NewFiles`; `ids` gives user and group id.
        """
        rows, names = memoryview(self._rows.values), self._names.values
        if [*keys] == [*range(keys[0], keys[0] + len(keys))]:  # as most do
            found = [*_NEW_FILE.iter_unpack(rows[keys[0] * _ROW.size : (keys[-1] + 1) * _ROW.size])]
            directories, owners, modes, mtimes, name_ends = zip(*found, strict=True)
            begins = (self._begin_of_name(keys[0]), *name_ends[:-1])
        else:
            found = [_NEW_FILE.unpack_from(rows, key * _ROW.size) for key in keys]
            directories, owners, modes, mtimes, name_ends = zip(*found, strict=True)
            before = (key * _ROW.size - _END.size for key in keys)
            begins = tuple(_END.unpack_from(rows, at)[0] if at >= 0 else 0 for at in before)
        indexes: dict[int, int] = {}
        places = [indexes.setdefault(directory, len(indexes)) for directory in directories]
        known = {number: ids(self._owners[number]) for number in set(owners)}
        return NewFiles(
            [self._directories[index] for index in indexes],
            places,
            [bytes(names[begin:end]) for begin, end in zip(begins, name_ends, strict=True)],
            modes,
            [known[number] for number in owners],
            mtimes,
            starts,
            ends,
            chunks,
        )

    def _row(self, key: int) -> tuple[int, ...]:
        return _ROW.unpack_from(self._rows.values, key * _ROW.size)

    def _name(self, key: int) -> bytes:
        return bytes(self._names.values[self._begin_of_name(key) : self._begin_of_name(key + 1)])

    def _begin_of_name(self, key: int) -> int:
        """Index in the joined names at which an entry's name begins: the end of the name before it."""
        begin: int = _END.unpack_from(self._rows.values, key * _ROW.size - _END.size)[0] if key else 0
        return begin

    def _directory_index(self, directory: bytes) -> int:
        """Index of a directory's path in the table; those of one directory come one after the other."""
        if not self._directories or self._directories[-1] != directory:
            self._directories.append(directory)
        return len(self._directories) - 1

    def _extra_index(self, packed: bytes | None) -> int:
        """Index of these attributes in the table; equal ones share an index."""
        index = self._extra_indexes.get(packed)
        if index is None:
            self._extras.append(decode_extra(packed))
            index = self._extra_indexes[packed] = len(self._extras) - 1
        return index
