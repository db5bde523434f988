"""Chunk locations of a restore, packed into about 60 bytes each."""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Container, Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Final

from backup.inventory import packed
from backup.inventory.database import Transaction
from backup.inventory.packed import ChunkLocation

_ROW: Final = struct.Struct("<IIII32s")  # archive, frame, offset, length, id
_archive_and_frame, _length = itemgetter(0, 1), itemgetter(3)
_ID_SIZE: Final = 32
_BATCH: Final = 5_000


class ChunkLocations(Mapping[int, ChunkLocation]):
    """A mapping of chunk number to location, in the order of numbers; impossible locations are left out."""

    def __init__(self, locations: Iterable[ChunkLocation] = ()) -> None:
        """Pack `locations`, which must come by rising numbers."""
        self.numbers = array("I")
        self._rows = bytearray()
        for location in locations:
            row = _packed(location)
            if row is not None:
                self._rows += row
                self.numbers.append(location.number)

    def position(self, number: int) -> int:
        """Index of a chunk's location in the order of numbers. KeyError if it has none."""
        numbers = self.numbers
        if not numbers:
            raise KeyError(number)
        at = number - numbers[0]  # as where no number is left out, as after a first backup
        if not (0 <= at < len(numbers) and numbers[at] == number):
            at = bisect_left(numbers, number)
            if at == len(numbers) or numbers[at] != number:
                raise KeyError(number)
        return at

    def name_and_length(self, number: int) -> tuple[bytes, int]:
        """Id and length of a chunk. KeyError if it has no location."""
        _, _, _, length, name = _ROW.unpack_from(self._rows, self.position(number) * _ROW.size)
        return name, length

    def at(self, position: int) -> ChunkLocation:
        """The location at a position."""
        archive, frame, offset, length, name = _ROW.unpack_from(self._rows, position * _ROW.size)
        return ChunkLocation(self.numbers[position], name, archive, frame, offset, length)

    def only(self, numbers: Container[int]) -> ChunkLocations:
        """The locations of `numbers` alone."""
        return ChunkLocations(
            self.at(position) for position, number in enumerate(self.numbers) if number in numbers
        )

    def move(self, locations: Iterable[ChunkLocation]) -> None:
        """Replace the locations of these chunks."""
        for location in locations:
            row = _packed(location)
            if row is not None:
                start = self.position(location.number) * _ROW.size
                self._rows[start : start + _ROW.size] = row

    def frames(self) -> Iterator[tuple[int, int]]:
        """Archive and frame of each location, in order."""
        return map(_archive_and_frame, _ROW.iter_unpack(self._rows))

    @property
    def lengths(self) -> Iterator[int]:
        """The length of each chunk, in order."""
        return map(_length, _ROW.iter_unpack(self._rows))

    def __getitem__(self, number: int) -> ChunkLocation:
        return self.at(self.position(number))

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


def _packed(location: ChunkLocation) -> bytes | None:
    try:
        row = _ROW.pack(location.archive, location.frame, location.offset, location.length, location.id)
    except (struct.error, TypeError):
        return None
    return row if len(location.id) == _ID_SIZE else None


def read_chunk_locations(tx: Transaction, numbers: array[int]) -> ChunkLocations:
    """Read the locations of chunks; numbers may come in any order and repeatedly."""
    largest = packed.largest_chunk(tx)
    return ChunkLocations(_locations(tx, array("I", (number for number in numbers if number <= largest))))


def _locations(tx: Transaction, numbers: array[int]) -> Iterator[ChunkLocation]:
    for some in _rising(numbers):
        yield from sorted(packed.chunk_locations(tx, some))


def _rising(numbers: array[int], most: int = _BATCH) -> Iterator[list[int]]:
    """The distinct numbers in rising order, in batches; a byte marks each from the least to the largest.

    Numbers are given out one after the other, so those of a snapshot lie close together; a set of them would
    take a hundred times as much memory.
    """
    least = min(numbers, default=0)
    marks = bytearray(max(numbers, default=-1) + 1 - least)
    for number in numbers:
        marks[number - least] = 1
    some: list[int] = []
    at = marks.find(1)
    while at >= 0:
        some.append(least + at)
        if len(some) == most:
            yield some
            some = []
        at = marks.find(1, at + 1)
    if some:
        yield some
