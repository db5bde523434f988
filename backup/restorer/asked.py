"""The frames in the outputs that an open restore has, or waits for."""

from __future__ import annotations

from collections.abc import Sequence

from backup.inventory.content import packed
from backup.inventory.content.packed import ChunkLocation
from backup.inventory.records.retrievals import Retrieval
from backup.inventory.store.connections import Transaction
from backup.inventory.store.stages import RetrievalStage
from backup.model import ByteRange


class AskedFrames:
    """The frames within a restore's retrievals, but for those that failed."""

    def __init__(self, tx: Transaction, known: Sequence[Retrieval]) -> None:
        self._tx = tx
        self._extents: dict[int, list[ByteRange]] = {}
        for one in known:
            if one.state is not RetrievalStage.FAILED:
                self._extents.setdefault(one.archive, []).append(one.extent)
        self.failed = {
            one.archive for one in known if one.state is RetrievalStage.FAILED
        } - self._extents.keys()
        self._held: dict[int, set[int]] = {}

    @property
    def archives(self) -> frozenset[int]:
        """The archives of which something was asked for, whatever became of them since."""
        return frozenset(self._extents) | self.failed

    def hold(self, place: ChunkLocation) -> bool:
        """Whether the frame of a chunk is among them."""
        if place.archive not in self._held:
            extents = self._extents.get(place.archive, ())
            rows = packed.frame_rows(self._tx, place.archive) if extents else ()
            self._held[place.archive] = {
                row.number
                for row in rows
                for one in extents
                if one.start <= row.offset and row.offset + row.sealed_length <= one.end
            }
        return place.frame in self._held[place.archive]
