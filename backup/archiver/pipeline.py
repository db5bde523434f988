"""Chunks named, and those that no vault has yet gathered into frames for the sealing line.

    with Pipeline(...) as pipeline:
        numbers = pipeline.put([(chunk id, bytes), ...])   # again and again
        pipeline.finish()                                  # the last pack is closed and handed on

Known chunks are dropped; a whole batch is asked for at once. Packs are handed on in the caller's thread.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from itertools import accumulate
from types import TracebackType
from typing import NamedTuple, Self

from backup.archiver.packing import OpenPack
from backup.archiver.sealing import MOST_CHUNKS, Buffer, Frame, SealingLine
from backup.format.frame import FRAME_SIZE
from backup.inventory.numbers import NumberSupply
from backup.inventory.packed import KnownChunk
from backup.model import MIB, ChunkId, Pack


class ChunkRun(NamedTuple):
    """Chunks whose bytes lie one after the other in `data`, which the pipeline copies.

    `is_dense`: they hardly compress, and go into frames of their own.
    """

    ids: Sequence[ChunkId]
    lengths: Sequence[int]
    data: memoryview
    is_dense: bool


class Pipeline:
    """Seals what is new. Use it from one thread; it owns its workers and ends them."""

    def __init__(
        self,
        *,
        open_pack: Callable[[], OpenPack],
        hand_on: Callable[[Pack, str, Sequence[int]], None],
        known: Callable[[Iterable[ChunkId]], Mapping[bytes, KnownChunk]],
        supply: NumberSupply,
        level: int | None,
        pack_size: int,
        workers: int = 2,
        in_flight: int = 24 * MIB,
        most_chunks: int = MOST_CHUNKS,
    ) -> None:
        self._line = SealingLine(
            open_pack,
            level=level,
            pack_size=pack_size,
            workers=workers,
            in_flight=in_flight,
            most_chunks=most_chunks,
        )
        self._hand_on = hand_on
        self._known = known
        self._supply = supply
        self._frames = [Frame(), Frame()]  # of what may compress, and of what is dense
        self._fresh: dict[ChunkId, int] = {}  # chunks that the inventory does not know yet
        self._handed_on: list[Pack] = []  # since the last batch: the inventory knows their chunks
        self.used_archives: set[int] = set()
        self.new_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.__exit__(kind, error, trace)

    def put(self, batch: Sequence[tuple[ChunkId, Buffer]]) -> list[int]:
        """The number of each chunk, in order; the bytes of new ones are sealed, and held until then."""
        found = self._look_up({chunk for chunk, _ in batch})
        own = _is_mostly_known(batch, self._fresh, found)
        numbers: list[int] = []
        for chunk, data in batch:
            number = self._number(chunk, found)
            numbers.append(self._add(chunk, bytes(data) if own else data) if number is None else number)
        return numbers

    def put_run(self, run: ChunkRun) -> Sequence[int]:
        """The same of small chunks by the hundred, without an object for each as long as all are new."""
        ids = set(run.ids)
        found = self._look_up(ids)
        if not found and len(ids) == len(run.ids) and self._fresh.keys().isdisjoint(ids):
            return self._add_run(run)
        numbers: list[int] = []
        start = 0
        for chunk, length in zip(run.ids, run.lengths, strict=True):
            number = self._number(chunk, found)
            if number is None:
                number = self._add(chunk, bytes(run.data[start : start + length]), is_dense=run.is_dense)
            numbers.append(number)
            start += length
        return numbers

    def finish(self) -> None:
        """Seal what is left and hand the last pack on; no pack is made for nothing."""
        for kind in range(len(self._frames)):
            self._close_frame(kind)
        self._line.close_pack()
        self._collect(wait=True)

    def _look_up(self, ids: set[ChunkId]) -> Mapping[bytes, KnownChunk]:
        """Those of the chunks that the inventory knows, and that no frame took since it does."""
        self._collect(wait=False)
        self._forget_handed_on()
        unknown = ids.difference(self._fresh)
        found = self._known(unknown) if unknown else {}
        self.used_archives.update(known.archive for known in found.values())
        return found

    def _number(self, chunk: ChunkId, found: Mapping[bytes, KnownChunk]) -> int | None:
        number = self._fresh.get(chunk)
        if number is None:
            known = found.get(chunk)
            return None if known is None else known.number
        return number

    def _add(self, chunk: ChunkId, data: Buffer, *, is_dense: bool = False) -> int:
        frame = self._frame_for(len(data), is_dense)
        number = self._supply.take()
        frame.ids.append(chunk)
        frame.lengths.append(len(data))
        frame.numbers.append(number)
        frame.parts.append(data)
        frame.size += len(data)
        self._fresh[chunk] = number
        self.new_bytes += len(data)
        return number

    def _add_run(self, run: ChunkRun) -> Sequence[int]:
        """New chunks, as many at once as the frame has room for."""
        numbers = self._supply.take_many(len(run.ids))
        ends = list(accumulate(run.lengths))
        first = start = 0
        while first < len(ends):
            frame = self._frame_for(run.lengths[first], run.is_dense)
            last = bisect_right(ends, start + FRAME_SIZE - frame.size)
            end = ends[last - 1]
            frame.ids += run.ids[first:last]
            frame.lengths += run.lengths[first:last]
            frame.numbers += numbers[first:last]
            frame.parts.append(bytes(run.data[start:end]))
            frame.size += end - start
            first, start = last, end
        self._fresh.update(zip(run.ids, numbers, strict=True))
        self.new_bytes += start
        return numbers

    def _frame_for(self, size: int, is_dense: bool) -> Frame:
        """The frame that takes the next chunk, of `size` bytes."""
        if self._frames[is_dense].size + size > FRAME_SIZE:
            self._close_frame(is_dense)
        return self._frames[is_dense]

    def _close_frame(self, kind: int) -> None:
        """Give the gathered chunks to the line, in the pack that has room for them."""
        frame, self._frames[kind] = self._frames[kind], Frame()
        if not frame.parts:
            return
        if not self._line.has_room(frame):
            self._collect(wait=True)  # one pack is finished while the next one fills, and no more
            self._line.close_pack()
        self._line.send(frame)

    def _collect(self, *, wait: bool) -> None:
        for sealed in self._line.finished(wait=wait):
            self._hand_on(sealed.pack, sealed.file_name, sealed.numbers)
            self._handed_on.append(sealed.pack)

    def _forget_handed_on(self) -> None:
        """Between batches: within one, what it asked the inventory for must stay answered."""
        for pack in self._handed_on:
            for row in pack.chunks:
                del self._fresh[ChunkId(row.id)]
        self._handed_on.clear()


def _is_mostly_known(
    batch: Sequence[tuple[ChunkId, Buffer]], fresh: Container[ChunkId], found: Container[bytes]
) -> bool:
    """Whether less than three quarters are new: as views they would hold buffers of many times their size."""
    new = sum(len(data) for chunk, data in batch if chunk not in fresh and chunk not in found)
    return 4 * new < 3 * sum(len(data) for _, data in batch)
