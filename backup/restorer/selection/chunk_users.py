"""Chunk users: the files that need each chunk, and the offset in each at which it is written."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

from backup.restorer.selection.chunk_locations import ChunkLocations
from backup.restorer.selection.column import Column, Scratch, Values
from backup.restorer.selection.files import Files

_BLOCK = 10_000


class ChunkUsers:
    """The (file, chunk) pairs of a selection, numbered file after file; each is handed out at most once.

    A byte for each in memory, and about 16 in `scratch`.
    """

    def __init__(self, files: Files, locations: ChunkLocations, scratch: Scratch | None = None) -> None:
        scratch = scratch or Scratch()
        self._files = files
        positions = locations.positions(files.chunks)
        self._offsets = _offsets(files, positions, locations, scratch)
        self._ordered = _ordered(positions, len(locations), scratch)
        self._done = bytearray(len(positions))

    @property
    def offsets(self) -> Values:
        """The offset of each user's chunk in its file's data."""
        return self._offsets.values

    def take(self, position: int) -> Iterator[tuple[int, int]]:
        """Yield file and offset of each pending user of a chunk, given its position in the locations."""
        for user in self._of(position):
            if not self._done[user]:
                self._done[user] = 1
                yield self._files.of(user), self.offsets[user]

    def alone(self, run: range) -> Sequence[int]:
        """Return the only user of each chunk at consecutive positions; -1 if it has several or is done."""
        users: Sequence[int] = run
        if self._ordered is not None:
            first, order = (column.values for column in self._ordered)
            ends = first[run.start : run.stop + 1]
            if [*ends] == [*range(ends[0], ends[0] + len(run) + 1)]:  # one for each, as most have
                users = order[ends[0] : ends[-1]]
            else:
                users = [order[start] if end - start == 1 else -1 for start, end in pairwise(ends)]
        done = self._done
        return [-1 if user < 0 or done[user] else user for user in users]

    def settle(self, users: Sequence[int]) -> None:
        """Mark users as done."""
        if users and [*users] == [*range(users[0], users[0] + len(users))]:
            self._done[users[0] : users[-1] + 1] = b"\1" * len(users)
            return
        for user in users:
            self._done[user] = 1

    def pending(self, since: int = 0, until: int | None = None) -> int | None:
        """Return the first user from `since` on, and before `until`, that is not done; None if all are."""
        found = self._done.find(0, since, until)
        return None if found < 0 else found

    def _of(self, position: int) -> Sequence[int]:
        if self._ordered is None:
            return (position,)
        first, order = (column.values for column in self._ordered)
        return order[first[position] : first[position + 1]]


def _offsets(files: Files, positions: array[int], locations: ChunkLocations, scratch: Scratch) -> Column:
    offsets = Column(scratch, "Q")
    if max(files.counts, default=0) <= 1:
        for start in range(0, len(positions), _BLOCK):
            offsets.add(bytes(8 * min(_BLOCK, len(positions) - start)))
        return offsets
    lengths, starts = array("I", locations.lengths), files.starts
    for key, count in enumerate(files.counts):
        offset, start = 0, starts[key]
        for position in positions[start : start + count]:
            offsets.append(offset)
            offset += lengths[position]
    return offsets


def _ordered(positions: array[int], count: int, scratch: Scratch) -> tuple[Column, Column] | None:
    """The index of each position's first user among the users sorted by position, and these.

    None where each position has one user, in the same order, as after a first backup without duplicates.
    """
    if len(positions) == count and all(map(int.__eq__, positions, range(count))):
        return None
    counts = array("I", bytes(4 * (count + 1)))
    for position in positions:
        counts[position] += 1
    first, order = array("I", accumulate(counts)), array("I", bytes(4 * len(positions)))
    for user in reversed(range(len(positions))):  # `first` holds ends before this loop, starts after it
        position = positions[user]
        first[position] -= 1
        order[first[position]] = user
    kept = Column(scratch, "I"), Column(scratch, "I")
    for column, numbers in zip(kept, (first, order), strict=True):
        column.add(memoryview(numbers).cast("B"))
    return kept
