"""Where the chunks of a restore belong: of each chunk the files that use it, and at which of their bytes."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import accumulate

from backup.restorer.selection.chunk_locations import ChunkLocations
from backup.restorer.selection.files import Files


class ChunkUsers:
    """ChunkUsers are numbered as chunks lie in `files`, file after file; each is dealt with once.

    About 20 bytes for each. `offsets` say at which byte of its file's data a use begins.
    """

    def __init__(self, files: Files, locations: ChunkLocations) -> None:
        self._files = files
        positions = array("I", map(locations.position, files.chunks))
        self.offsets = _offsets(files, positions, array("I", locations.lengths))
        self._first, self._order = _ordered(positions, len(locations))
        self._done = bytearray(len(positions))

    def take(self, position: int) -> Iterator[tuple[int, int]]:
        """File and offset of each use of a chunk, by its position among the places, that is left to do."""
        for user in self._order[self._first[position] : self._first[position + 1]]:
            if not self._done[user]:
                self._done[user] = 1
                yield self._files.of(user), self.offsets[user]

    def settle(self, user: int) -> None:
        """There is nothing left to do for a use."""
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
    """The uses by position, and where those of each position begin among them."""
    counts = array("I", bytes(4 * (count + 1)))
    for position in positions:
        counts[position] += 1
    first, order = array("I", accumulate(counts)), array("I", bytes(4 * len(positions)))
    for user in reversed(range(len(positions))):  # `first` begins as where each position's uses end
        position = positions[user]
        first[position] -= 1
        order[first[position]] = user
    return first, order
