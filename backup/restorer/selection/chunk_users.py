"""Chunk users: the files that need each chunk, and the offset in each at which it is written."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import accumulate

from backup.restorer.selection.chunk_locations import ChunkLocations
from backup.restorer.selection.files import Files


class ChunkUsers:
    """The (file, chunk) pairs of a selection, numbered file after file; each is handed out at most once.

    About 20 bytes for each. `offsets[user]` is the offset of the chunk in its file's data.
    """

    def __init__(self, files: Files, locations: ChunkLocations) -> None:
        self._files = files
        positions = array("I", map(locations.position, files.chunks))
        self.offsets = _offsets(files, positions, array("I", locations.lengths))
        self._first, self._order = _ordered(positions, len(locations))
        self._done = bytearray(len(positions))

    def take(self, position: int) -> Iterator[tuple[int, int]]:
        """File and offset of each pending user of a chunk, given the chunk's position in the locations."""
        for user in self._order[self._first[position] : self._first[position + 1]]:
            if not self._done[user]:
                self._done[user] = 1
                yield self._files.of(user), self.offsets[user]

    def settle(self, user: int) -> None:
        """Mark a user as done."""
        self._done[user] = 1


def _offsets(files: Files, positions: array[int], lengths: array[int]) -> array[int]:
    offsets = array("Q")
    for key in range(len(files)):
        offset = 0
        for position in positions[files.starts[key] : files.starts[key + 1]]:
            offsets.append(offset)
            offset += lengths[position]
    return offsets


def _ordered(positions: array[int], count: int) -> tuple[array[int], array[int]]:
    """The users sorted by position, and the index of each position's first user among them."""
    counts = array("I", bytes(4 * (count + 1)))
    for position in positions:
        counts[position] += 1
    first, order = array("I", accumulate(counts)), array("I", bytes(4 * len(positions)))
    for user in reversed(range(len(positions))):  # `first` holds ends before this loop, starts after it
        position = positions[user]
        first[position] -= 1
        order[first[position]] = user
    return first, order
