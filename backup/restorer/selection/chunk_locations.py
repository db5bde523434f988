"""Chunk locations of a restore, packed into about 50 bytes each."""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, groupby, islice
from operator import itemgetter, sub
from typing import Any, Final, NamedTuple

from backup.inventory.content import packed
from backup.inventory.content.packed import ChunkLocation
from backup.inventory.store.connections import Transaction
from backup.restorer.selection.column import Column, Scratch, Values

_ROW: Final = struct.Struct("<III32sI")  # archive, frame, offset, id, length
# Of a row: archive and frame as one number, the length, and what a content id is computed of.
_PLACE, _LENGTH, _NAMED = struct.Struct("<Q40x"), struct.Struct("<44xI"), struct.Struct("<12x36s")
_offset_length_id = itemgetter(2, 4, 3)
_ID_SIZE: Final = 32
_BATCH: Final = 5_000
_LEAST_OF_A_RUN: Final = 8  # numbers in a run on average, so that runs take less memory than numbers
_READ_ALONG: Final = 2  # as many rows are read for each that is wanted: to find one alone costs more
_LARGEST: Final = 2**32 - 1
_FRAMES: Final = 2**32  # more than an archive can have


class ChunkLocations(Mapping[int, ChunkLocation]):
    """A mapping of chunk number to location, sorted by number; impossible locations are left out.

    Large columns are kept in `scratch`.
    """

    def __init__(self, locations: Iterable[ChunkLocation] = (), scratch: Scratch | None = None) -> None:
        """Pack `locations`, which must come by rising numbers."""
        self._scratch = scratch or Scratch()
        self._numbers = Column(self._scratch, "I")
        self._rows = Column(self._scratch)
        for location in locations:
            self._add(location)

    def _add(self, location: ChunkLocation) -> None:
        row = _packed(location)
        if row is not None:
            self._rows.add(row)
            self._numbers.append(location.number)

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add many locations, with larger numbers than before; `rows` have the fields of `ChunkLocation`."""
        if not rows:
            return
        numbers, ids, archives, frames, offsets, lengths = zip(*rows, strict=True)
        try:
            are_whole = set(map(len, ids)) == {_ID_SIZE}
            packed = b"".join(map(_ROW.pack, archives, frames, offsets, ids, lengths)) if are_whole else None
        except (struct.error, TypeError):
            packed = None
        if packed is None:
            for row in rows:
                self._add(ChunkLocation._make(row))
            return
        self._rows.add(packed)
        self._numbers.extend(numbers)

    @property
    def numbers(self) -> Values:
        """The chunks' numbers, in order."""
        return self._numbers.values

    def positions(self, numbers: Values) -> array[int]:
        """Same as `position`, for many numbers."""
        found, places_of = array("I"), _places(self.numbers)
        for start in range(0, len(numbers), _BATCH):
            some = numbers[start : start + _BATCH]
            places = places_of(some)
            if min(places) < 0:
                raise KeyError(some[places.index(-1)])
            found.extend(places)
        return found

    def lookup(self) -> Callable[[Values], tuple[list[int], list[bytes]]]:
        """Return a function from chunk numbers to their lengths, and to ids joined with lengths (u32le).

        For a chunk that has no location it gives 0 and nothing.
        """
        rows, places_of, size = memoryview(self._rows.values), _places(self.numbers), _ROW.size

        def look(numbers: Values) -> tuple[list[int], list[bytes]]:
            places = places_of(numbers) if numbers else []
            first = places[0] if places else -1
            if first >= 0 and places == [*range(first, first + len(places))]:
                some = rows[first * size : (first + len(places)) * size]
                return [*_each(_LENGTH, some)], [*_each(_NAMED, some)]
            found = [rows[at * size + 12 : (at + 1) * size] if at >= 0 else b"" for at in places]
            return [int.from_bytes(row[_ID_SIZE:], "little") for row in found], [bytes(row) for row in found]

        return look

    def position(self, number: int) -> int:
        """Return the index of a chunk's location in the order of numbers. KeyError if it has none."""
        at = _place(self.numbers, number)
        if at < 0:
            raise KeyError(number)
        return at

    def at(self, position: int) -> ChunkLocation:
        """Return the location at a position."""
        archive, frame, offset, name, length = _ROW.unpack_from(self._rows.values, position * _ROW.size)
        return ChunkLocation(self.numbers[position], name, archive, frame, offset, length)

    def places(self, run: range) -> Iterator[tuple[int, int, bytes]]:
        """Return offset, length and id of the chunks at these consecutive positions."""
        rows = memoryview(self._rows.values)[run.start * _ROW.size : run.stop * _ROW.size]
        return map(_offset_length_id, _ROW.iter_unpack(rows))

    def only(self, numbers: Container[int]) -> ChunkLocations:
        """Return the locations of `numbers` alone."""
        chosen = (self.at(position) for position, number in enumerate(self.numbers) if number in numbers)
        return ChunkLocations(chosen, self._scratch)

    def move(self, locations: Iterable[ChunkLocation]) -> None:
        """Replace the locations of these chunks."""
        for location in locations:
            row = _packed(location)
            if row is not None:
                self._rows.change(self.position(location.number) * _ROW.size, row)

    def frames(self) -> Iterator[tuple[tuple[int, int], int]]:
        """Return archive and frame of each run of locations in one frame, and its length, in order."""
        for place, run in groupby(self._rows.each(_PLACE)):
            frame, archive = divmod(place, _FRAMES)
            yield (archive, frame), len([*run])

    @property
    def lengths(self) -> Iterator[int]:
        """The length of each chunk, in order."""
        return self._rows.each(_LENGTH)

    def __getitem__(self, number: int) -> ChunkLocation:
        return self.at(self.position(number))

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


class _Runs(NamedTuple):
    """Runs of numbers that rise by one: first and end of each, and its first less the position of that."""

    firsts: array[int]
    ends: array[int]
    shifts: array[int]


def _places(known: Values) -> Callable[[Values], list[int]]:
    """A function that gives the position of each number in rising ones, -1 where it is not; in any order."""
    begins = array("Q", range(min(1, len(known))))
    steps = map(sub, islice(known, 1, None), known)
    most = len(known) // _LEAST_OF_A_RUN
    begins.extend(islice((at for at, step in enumerate(steps, 1) if step != 1), most + 1))
    if len(begins) > most + 1:
        return partial(_by_bisection, known)
    firsts = array("Q", map(known.__getitem__, begins))
    ends = array("Q", (known[at - 1] + 1 for at in chain(begins[1:], [len(known)]))) if known else firsts
    return partial(_by_runs, _Runs(firsts, ends, array("Q", map(sub, firsts, begins))))


def _by_runs(runs: _Runs, numbers: Values) -> list[int]:
    """Positions by the runs; most numbers are in the run in which the one before was."""
    if len(runs.firsts) == 1:
        first, end = runs.firsts[0], runs.ends[0]
        if first <= min(numbers) and max(numbers) < end:
            return [number - first for number in numbers]
    found = []
    first = end = shift = 0
    for number in numbers:
        if not first <= number < end:
            run = bisect_right(runs.firsts, number) - 1
            if run < 0 or number >= runs.ends[run]:
                found.append(-1)
                continue
            first, end, shift = runs.firsts[run], runs.ends[run], runs.shifts[run]
        found.append(number - shift)
    return found


def _by_bisection(known: Values, numbers: Values) -> list[int]:
    """Positions where there are so many runs that they would take more memory than the numbers."""
    return [_place(known, number) for number in numbers]


def _place(known: Values, number: int) -> int:
    at = bisect_left(known, number)
    return at if at < len(known) and known[at] == number else -1


class FramePositions:
    """The positions of chunk locations by archive and frame: 24 bytes for each run of them in one frame."""

    def __init__(self, locations: ChunkLocations) -> None:
        keys, ends = array("Q"), array("Q")
        for frame, count in locations.frames():
            keys.append(_key(*frame))
            ends.append((ends[-1] if ends else 0) + count)
        order = array("I", sorted(range(len(keys)), key=keys.__getitem__))
        self._keys = array("Q", map(keys.__getitem__, order))
        self._ends = array("Q", map(ends.__getitem__, order))
        self._starts = array("Q", (ends[at - 1] if at else 0 for at in order))

    def of(self, archive: int, frame: int) -> Iterator[int]:
        """Return the positions of the chunks in a frame, in order."""
        return chain.from_iterable(self.runs(archive, frame))

    def runs(self, archive: int, frame: int) -> Iterator[range]:
        """Same as `of`, as runs of consecutive positions."""
        key = _key(archive, frame)
        for at in range(bisect_left(self._keys, key), bisect_right(self._keys, key)):
            yield range(self._starts[at], self._ends[at])

    def frames_of(self, archive: int) -> Iterator[int]:
        """Return the numbers of an archive's frames that hold any chunk, in order."""
        first, end = (bisect_left(self._keys, _key(number, 0)) for number in (archive, archive + 1))
        return (frame for frame, _ in groupby(self._keys[at] % _FRAMES for at in range(first, end)))


def _each(field: struct.Struct, rows: Values) -> Iterator[Any]:
    """One field of each row, which `field` unpacks alone."""
    return chain.from_iterable(field.iter_unpack(rows))


def _key(archive: int, frame: int) -> int:
    return archive * _FRAMES + frame


def _packed(location: ChunkLocation) -> bytes | None:
    try:
        row = _ROW.pack(location.archive, location.frame, location.offset, location.id, location.length)
    except (struct.error, TypeError):
        return None
    return row if len(location.id) == _ID_SIZE else None


def read_chunk_locations(tx: Transaction, numbers: Values, scratch: Scratch | None = None) -> ChunkLocations:
    """Read the locations of chunks; numbers may come in any order and repeatedly."""
    largest, found = packed.largest_chunk(tx), ChunkLocations(scratch=scratch)
    for batch in NumberSet(numbers, largest).rising():
        found.add(_located(tx, batch))
    return found


def _located(tx: Transaction, numbers: Sequence[int]) -> Sequence[tuple[Any, ...]]:
    """The locations of rising numbers; where few are left out between them, those are read along."""
    least, most = numbers[0], numbers[-1]
    if most - least >= _READ_ALONG * len(numbers):
        return sorted(packed.chunk_locations(tx, numbers))
    found = packed.chunk_locations_between(tx, least, most)
    if most - least + 1 == len(numbers):
        return found
    wanted = set(numbers)
    return [row for row in found if row[0] in wanted]


class NumberSet(Container[int]):
    """A set of numbers that lie close together, in a byte for each from the least to the largest.

    Chunk numbers are given out one after the other, so those of a snapshot do lie close together; a set of
    them would take a hundred times as much memory. Numbers beyond `most` are left out.
    """

    def __init__(self, numbers: Values, most: int = _LARGEST) -> None:
        self._least = min(numbers, default=0)
        largest = max(numbers, default=-1)
        self._marks = bytearray(max(0, min(largest, most) + 1 - self._least))
        least, marks = self._least, self._marks
        for number in numbers if largest <= most else (number for number in numbers if number <= most):
            marks[number - least] = 1

    def __contains__(self, number: object) -> bool:
        at = number - self._least if isinstance(number, int) else -1
        return 0 <= at < len(self._marks) and self._marks[at] == 1

    def rising(self, most: int = _BATCH) -> Iterator[list[int]]:
        """Yield the numbers in rising order, in batches of limited size."""
        least, marks = self._least, self._marks
        some: list[int] = []
        at = marks.find(1)
        while at >= 0:
            end = marks.find(0, at)
            stop = min(len(marks) if end < 0 else end, at + most - len(some))
            some.extend(range(least + at, least + stop))
            if len(some) == most:
                yield some
                some = []
            at = marks.find(1, stop)
        if some:
            yield some
