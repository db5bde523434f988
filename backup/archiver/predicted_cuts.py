"""Predicts the cuts of a changed file from its earlier chunks: unchanged parts are not cut again.

A cut depends on the bytes of its chunk and on the byte after them. So if bytes have the id of an earlier
chunk, and the next bytes the id of the chunk that followed it, the cut between them is unchanged. Ids are
needed anyway, and are computed on all cores.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from itertools import accumulate, islice, pairwise, takewhile
from typing import Final

from backup.format.chunker import Chunker
from backup.inventory.content import packed
from backup.inventory.store.connections import Transaction
from backup.model import ChunkId
from backup.source.read import LARGEST_WINDOW

LEAST_CHUNKS: Final = 4  # in an earlier version that is worth a look
MOST_CHUNKS: Final = 2**16  # of a version, 90 bytes each in memory; what lies behind is just cut
_AT_ONCE: Final = 512  # chunks looked up together
_IN_SIGHT: Final = 64  # chunks looked for in one window; more than there are in a window of usual chunks
_NEAR: Final = 2**12  # chunks before and after, among which one of the same length is looked for


class EarlierChunks:
    """The chunks of a file's earlier version in order, except the last, which the file's end cut."""

    def __init__(self, ids: Sequence[bytes], lengths: Sequence[int]) -> None:
        self.ids = ids
        self.lengths = array("I", lengths[:-1])
        self.starts = array("Q", accumulate(self.lengths, initial=0))

    def __len__(self) -> int:
        return len(self.lengths)


def earlier_chunks(tx: Transaction, numbers: Sequence[int]) -> EarlierChunks | None:
    """Return the chunks of these numbers; None if one is not known any more."""
    ids: list[bytes] = []
    lengths = array("I")
    for start in range(0, len(numbers), _AT_ONCE):
        some = numbers[start : start + _AT_ONCE]
        found = {location.number: location for location in packed.chunk_locations(tx, some)}
        if not found.keys() >= set(some):
            return None
        ids.extend(found[number].id for number in some)
        lengths.extend(found[number].length for number in some)
    return EarlierChunks(ids, lengths)


class PredictedCuts:
    """Cuts one file with the chunker's own result; `names` are the chunks' ids, None if not computed."""

    def __init__(
        self,
        chunker: Chunker,
        earlier: EarlierChunks,
        name: Callable[[memoryview], Future[ChunkId]],
        ahead: int = 3,
    ) -> None:
        """`name` begins to compute an id; so many are begun `ahead`, as the next chunk may differ."""
        self.names: deque[ChunkId | None] = deque()
        self.window = LARGEST_WINDOW
        self._chunker = chunker
        self._earlier = earlier
        self._name = name
        self._ahead = ahead
        self._place = 0  # in the file
        self._next = 0  # the earlier chunk that is expected there
        self._named: ChunkId | None = None  # the id of as many bytes there as that chunk had
        self._shift = 0  # how far the last one that was found has moved

    def cuts(self, window: memoryview, *, final: bool) -> Iterator[int]:
        """Same as `Chunker.cuts`; the id of each chunk is added to `names` before its length is yielded."""
        start = 0
        last = len(window) - 1 if final else len(window) - self._chunker.maximum
        while True:
            for name, length in self._unchanged(window[start:]):
                self.names.append(name)
                start += length
                yield length
            if start > last:
                return
            length = next(self._chunker.cuts(window[start:], final=final))
            self.names.append(self._cut_anew(length))
            start += length
            yield length

    def _unchanged(self, window: memoryview) -> Iterator[tuple[ChunkId, int]]:
        """The chunks at the window's start that are as before, but for the last: its cut is not certain."""
        earlier = self._earlier
        if self._named != earlier.ids[self._next]:
            self._named = None
        starts = earlier.starts[self._next : self._next + _IN_SIGHT]
        ends = takewhile(lambda end: end <= len(window), (start - starts[0] for start in starts))
        pieces = iter([window[start:end] for start, end in pairwise(ends)][self._named is not None :])
        names = deque(map(self._name, islice(pieces, self._ahead)))
        try:
            while names:
                found = names.popleft().result()
                at = self._next + (self._named is not None)
                if found != earlier.ids[at]:
                    self._named = self._named or found
                    return
                names.extend(map(self._name, islice(pieces, 1)))
                if self._named is not None:
                    length = earlier.lengths[self._next]
                    self._place += length
                    yield self._named, length
                self._next, self._named = at, found
                self._shift = self._place - earlier.starts[at]
        finally:
            for name in names:
                name.cancel()

    def _cut_anew(self, length: int) -> ChunkId | None:
        """Move past a chunk of that length, and guess the next; returns the chunk's id, if it is known."""
        earlier = self._earlier
        is_as_long = self._next < len(earlier) and length == earlier.lengths[self._next]
        name, self._named = self._named if is_as_long else None, None
        self._place += length
        self._next = self._after(length)
        return name

    def _after(self, length: int) -> int:
        """The earlier chunk that begins here if nothing more has moved, else one behind that length."""
        earlier = self._earlier
        at = bisect_left(earlier.starts, self._place - self._shift)
        if at < len(earlier) and earlier.starts[at] == self._place - self._shift:
            return at
        if length == self._chunker.maximum:  # as long as many others
            return len(earlier)
        try:
            return earlier.lengths.index(length, max(0, at - _NEAR), at + _NEAR) + 1
        except ValueError:
            return len(earlier)
