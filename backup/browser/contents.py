"""The contents of files as streams with a position: verified, read ahead, and never thawed."""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Final

from backup.browser.frames import Frames
from backup.browser.node import read_extra
from backup.browser.packs import ColdContentError, Packs
from backup.errors import IntegrityError
from backup.format.holes import Layout
from backup.format.keys import ChunkSecret
from backup.format.naming import content_id
from backup.format.rows import unpack_u32
from backup.inventory.content import packed
from backup.inventory.content.lost import sound_locations, twins
from backup.inventory.content.packed import ChunkLocation
from backup.inventory.questions import browsing
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.model import FrameRow

_WINDOW: Final = 128  # chunks whose places are known at a time
_AHEAD: Final = 2  # frames
_DAMAGED: Final = "the inventory's list of its chunks is damaged"


class OpenFile:
    """A file that is open; reads from any thread, one after the other."""

    def __init__(
        self,
        inventory: Inventory,
        packs: Packs,
        frames: Frames,
        numbers: Sequence[int],
        starts: Sequence[int],
        holes: Layout,
    ) -> None:
        self._inventory = inventory
        self._packs = packs
        self._frames = frames
        self._numbers = numbers
        self._starts = starts  # of each chunk in the file's data, and their end
        self._layout = holes
        self._lock = threading.Lock()
        self._first = -1
        self._window: list[tuple[ChunkLocation, FrameRow]] = []
        self._last = -1
        self.size = holes.size

    def read(self, offset: int, length: int) -> bytes:
        """Bytes from a position; fewer at the end. `ColdContentError`, `IntegrityError`, a vault's error."""
        with self._lock:
            parts = [
                b"".join(self._data(at, count)) if at is not None else bytes(count)
                for at, count in self._layout.stretches(offset, length)
            ]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _data(self, at: int, length: int) -> Iterator[memoryview]:
        end, index = at + length, bisect_right(self._starts, at) - 1
        while at < end:
            location, row = self._placed(index)
            start = self._starts[index]
            upto = min(end, self._starts[index + 1])
            chunk = self._frames.chunk(location, row)
            self._read_ahead(index)
            yield chunk[at - start : upto - start]
            at, index = upto, index + 1

    def _read_ahead(self, index: int) -> None:
        """Begin with what comes next where the chunk follows the one that was read before."""
        if index == self._last + 1 or index == 0:
            here = self._window[index - self._first][1]
            after = self._window[index - self._first + 1 : index - self._first + 64]
            coming = {
                (location.archive, row.number): row for location, row in after if row.offset != here.offset
            }
            self._frames.ahead([(archive, row) for (archive, _), row in [*coming.items()][:_AHEAD]])
        self._last = index

    def _placed(self, index: int) -> tuple[ChunkLocation, FrameRow]:
        if self._first < 0 or not self._first <= index < self._first + len(self._window):
            self._first = index
            with self._inventory.reading() as tx:
                self._window = list(places(tx, self._packs, self._numbers[index : index + _WINDOW]))
        return self._window[index - self._first]


def places(tx: Transaction, packs: Packs, numbers: Sequence[int]) -> Iterator[tuple[ChunkLocation, FrameRow]]:
    """The chunk and frame of each number, from another archive where its own is gone. `IntegrityError`."""
    found = {location.number: location for location in packed.chunk_locations(tx, list({*numbers}))}
    bad = {location.archive for location in found.values() if not packs.is_sound(location.archive)}
    moved = _elsewhere(tx, packs, found, bad) if bad else {}
    found |= moved
    rows = {
        (row.archive, row.frame.number): row.frame
        for row in browsing.wanted_frames(tx, [location.number for location in found.values()])
    }
    for archive in {other.archive for other in moved.values()}:
        rows |= {(archive, row.number): row for row in packed.frame_rows(tx, archive)}
    for number in numbers:
        location = found.get(number)
        row = None if location is None else rows.get((location.archive, location.frame))
        if location is None or row is None:
            raise IntegrityError(_DAMAGED)
        yield location, row


def _elsewhere(
    tx: Transaction, packs: Packs, found: Mapping[int, ChunkLocation], bad: Collection[int]
) -> dict[int, ChunkLocation]:
    """Chunks in `bad` archives as others have them: the job's own vault, else whichever has a copy.

    A damaged archive may have them intact: it is left only for one that can be read now.
    """
    moved = {other.number: other for other in sound_locations(tx, bad, found)}
    left = [place for place in found.values() if place.archive in bad and place.number not in moved]
    others = twins(tx, left, lambda numbers: {number for number in numbers if packs.is_sound(number)})
    moved |= {other.number: other for other in others}
    return {
        number: other
        for number, other in moved.items()
        if packs.archive(found[number].archive) is None or packs.ranges(other.archive)
    }


class FileContents:
    """Opens files of an inventory. For any thread."""

    def __init__(self, inventory: Inventory, packs: Packs, frames: Frames, secret: ChunkSecret) -> None:
        self._inventory = inventory
        self._packs = packs
        self._frames = frames
        self._key = secret.content_key

    def open(self, entry: int) -> OpenFile:
        """A file, by the number of its version. `ColdContentError` unless all of it can be read now."""
        with self._inventory.reading() as tx:
            saved = browsing.content_of(tx, entry)
            if saved is None:
                raise IntegrityError("it is not in the inventory any more")
            numbers = unpack_u32(saved.chunks or b"")
            parts = browsing.parts_of(tx, numbers)
            holes = read_extra(saved.extra).holes
            if any(number not in parts for number in numbers):
                raise IntegrityError(_DAMAGED)
            ids = [parts[number][0] for number in numbers]
            lengths = [parts[number][1] for number in numbers]
            layout = Layout(holes, saved.size)
            is_right = content_id(self._key, ids, lengths, holes) == saved.content_id
            if not is_right or layout.data_size != sum(lengths):
                raise IntegrityError(_DAMAGED)
            self._require_hot(tx, numbers, {parts[number][2] for number in numbers})
        starts = array("Q", accumulate(lengths, initial=0))
        return OpenFile(self._inventory, self._packs, self._frames, array("I", numbers), starts, layout)

    def _require_hot(self, tx: Transaction, numbers: Sequence[int], archives: set[int]) -> None:
        """`ColdContentError` unless every frame that the file needs is readable."""
        if all(self._is_whole(archive) for archive in archives):
            return
        seen = set[tuple[int, int]]()
        for first, after in pairwise([*range(0, len(numbers), _WINDOW), len(numbers)]):
            for location, row in places(tx, self._packs, numbers[first:after]):
                key = (location.archive, row.number)
                if key in seen:
                    continue
                seen.add(key)
                if not any(place.holds(row) for place in self._packs.ranges(location.archive)):
                    raise ColdContentError

    def _is_whole(self, number: int) -> bool:
        archive = self._packs.archive(number) if self._packs.is_sound(number) else None
        return archive is not None and any(
            place.extent.length >= archive.size for place in self._packs.ranges(number)
        )
