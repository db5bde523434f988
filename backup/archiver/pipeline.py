"""Turns chunks with their ids into numbers, and gathers those that are new into frames for the sealing line.

    with Pipeline(sink, level=3, pack_size=..., memory=...) as pipeline:
        numbers = pipeline.put([ChunkRun(ids, lengths, data), ...])   # again and again
        pipeline.finish()                                             # the last pack is closed and handed on

Known chunks are dropped; one query looks up a whole batch. The caller may reuse its buffer after each call,
except where `may_be_kept`. A complete pack is recorded, possibly on another thread, and then sent.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from itertools import accumulate, chain
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from backup.archiver.sealing import Frame, SealedPack, SealingLine
from backup.buffers import Buffers
from backup.catalogs.packing import OpenPack
from backup.format.chunker import MINIMUM
from backup.format.frame import FRAME_SIZE, ROOM_BEHIND
from backup.format.rows import ChunkColumns
from backup.inventory.content.numbers import Numbers
from backup.inventory.content.packed import KnownChunk
from backup.memory import BackupMemory
from backup.model import Buffer, ChunkId, Pack

FRAMES_OF_A_PACK = 8  # at least, or what is left at its end is much of it


class ChunkRun(NamedTuple):
    """Consecutive chunks in `data`.

    `is_dense`: they hardly compress, and go into frames of their own. `may_be_kept`: `data` does not change
    as long as there is a view of it, so a large run is sealed without a copy; all others are copied.
    """

    ids: Sequence[ChunkId]
    lengths: Sequence[int]
    data: memoryview
    is_dense: bool = False
    may_be_kept: bool = False


class PackSink(Protocol):
    """The receiver of complete packs, which knows the chunks of those before."""

    @property
    def numbers(self) -> Numbers:
        """The numbers of new chunks."""

    def open_pack(self) -> OpenPack:
        """Make a new, empty pack."""

    def known(self, ids: Iterable[ChunkId]) -> Mapping[bytes, KnownChunk]:
        """Return those of the chunks that stored packs have, and packs that were sent."""

    def record(self, sealed: SealedPack) -> Future[Any]:
        """Record a complete pack, perhaps on another thread; the result is for `send`."""

    def send(self, recorded: Any) -> None:
        """Send a recorded pack: from now on its chunks are `known`."""


class Pipeline:
    """Seals new chunks. Use it from one thread; it owns its workers and ends them."""

    def __init__(self, sink: PackSink, *, level: int | None, pack_size: int, memory: BackupMemory) -> None:
        self.buffers = Buffers(usual=memory.frame + ROOM_BEHIND)
        self._line = SealingLine(
            sink.open_pack,
            self.buffers,
            level=level,
            pack_size=pack_size,
            workers=memory.workers,
            in_flight=memory.in_flight,
            largest=memory.frame,
            most_chunks=memory.chunks,
        )
        self._sink = sink
        self._supply = sink.numbers
        self._frames: list[Frame | None] = [None, None]  # compressible, dense
        most = min(memory.frame, pack_size // FRAMES_OF_A_PACK)
        self._most_of_small = min(memory.small, max(FRAME_SIZE, most))
        self._fresh: dict[ChunkId, int] = {}  # chunks that the inventory does not know yet
        self._being_recorded: deque[tuple[Pack, Future[Any]]] = deque()
        self._recorded: list[Pack] = []  # since the last batch: the inventory knows their chunks
        self.used_archives: set[int] = set()
        self.new_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.__exit__(kind, error, trace)

    def put(self, runs: Sequence[ChunkRun]) -> list[int]:
        """Return the number of each chunk, in order; new chunks are sealed."""
        found = self._look_up(set().union(*(run.ids for run in runs)))
        return list(chain.from_iterable(self._put(run, found) for run in runs))

    def _put(self, run: ChunkRun, found: Mapping[bytes, KnownChunk]) -> Sequence[int]:
        """A run's numbers, without an object for each chunk if all are new."""
        ids = set(run.ids)  # keys go through the smaller side; `ids.isdisjoint` would go through all keys
        if len(ids) == len(run.ids) and found.keys().isdisjoint(ids) and self._fresh.keys().isdisjoint(ids):
            return self._add_run(run)
        starts = accumulate(run.lengths, initial=0)
        return [
            self._number(chunk, run.data[start : start + length], found, run)
            for chunk, start, length in zip(run.ids, starts, run.lengths, strict=False)
        ]

    def finish(self) -> None:
        """Seal the rest, record and send the last pack; an empty pack is never made."""
        for kind in range(len(self._frames)):
            self._close_frame(kind)
        self._line.close_pack()
        self._collect(wait=True)

    def _look_up(self, ids: set[ChunkId]) -> Mapping[bytes, KnownChunk]:
        """The chunks that the inventory knows, and that are in no frame of this run."""
        self._collect(wait=False)
        self._forget_recorded()
        unknown = ids.difference(self._fresh)
        found = self._sink.known(unknown) if unknown else {}
        self.used_archives.update(known.archive for known in found.values())
        return found

    def _number(self, chunk: ChunkId, data: Buffer, found: Mapping[bytes, KnownChunk], run: ChunkRun) -> int:
        """The number of a chunk of a run, a new one if it has none."""
        number = self._fresh.get(chunk)
        if number is not None:
            return number
        known = found.get(chunk)
        if known is not None:
            return known.number
        number = self._fresh[chunk] = self._supply.take()
        self._frame_for(len(data), run.is_dense, self._most(run)).add([chunk], [len(data)], [number], data)
        self.new_bytes += len(data)
        return number

    def _add_run(self, run: ChunkRun) -> Sequence[int]:
        """Add new chunks, as many at once as a frame has room for."""
        numbers = self._supply.take_many(len(run.ids))
        ends = list(accumulate(run.lengths))
        first = start = 0
        while first < len(ends):
            last = max(first + 1, bisect_right(ends, start + FRAME_SIZE))
            size = ends[last - 1] - start
            if run.may_be_kept and self._makes_a_frame(size, run.lengths[first], run.is_dense):
                self._close_frame(run.is_dense)
                frame = None
            else:
                most = self._most(run)
                frame = self._frame_for(run.lengths[first], run.is_dense, most)
                last = max(first + 1, bisect_right(ends, start + most - frame.size))
            some, data = slice(first, last), run.data[start : ends[last - 1]]
            columns = run.ids[some], run.lengths[some], numbers[some]
            if frame is None:
                self._send_frame(Frame.of(*columns, data))
            else:
                frame.add(*columns, data)
            first, start = last, ends[last - 1]
        self._fresh.update(zip(run.ids, numbers, strict=True))
        self.new_bytes += start
        return numbers

    def _makes_a_frame(self, size: int, first: int, kind: int) -> bool:
        """Whether `size` bytes are sealed where they lie, as a frame of their own.

        No frame becomes small by that, unless the `first` chunk would have ended it anyway.
        """
        before = self._frames[kind]
        is_over = before is None or before.size >= FRAME_SIZE // 2 or before.size + first > FRAME_SIZE
        return size >= FRAME_SIZE // 2 and is_over

    def _most(self, run: ChunkRun) -> int:
        """The most bytes of a frame that takes chunks of this run: small files may repeat each other."""
        frame = self._frames[run.is_dense]
        are_small = len(run.data) < len(run.ids) * MINIMUM
        holds_small = frame is None or frame.size < len(frame.ids) * MINIMUM
        return self._most_of_small if are_small and holds_small else FRAME_SIZE

    def _frame_for(self, size: int, kind: int, most: int) -> Frame:
        """The frame that takes the next chunk, of `size` bytes, and then has at most so many bytes."""
        frame = self._frames[kind]
        if frame is not None and frame.size + size > most:
            self._close_frame(kind)
            frame = None
        if frame is None:
            frame = self._frames[kind] = self._line.open_frame()
        return frame

    def _close_frame(self, kind: int) -> None:
        """Give the gathered chunks to the line."""
        frame, self._frames[kind] = self._frames[kind], None
        if frame is not None:
            self._send_frame(frame)

    def _send_frame(self, frame: Frame) -> None:
        """Give a frame to the line, in the pack that has room for it."""
        if not self._line.has_room(frame):
            self._collect(wait=True)  # one pack is finished and recorded while the next fills, and no more
            self._line.close_pack()
        self._line.send(frame)

    def _collect(self, *, wait: bool) -> None:
        """Have complete packs recorded, and send those that are."""
        for sealed in self._line.finished(wait=wait):
            self._being_recorded.append((sealed.pack, self._sink.record(sealed)))
        while self._being_recorded and (wait or self._being_recorded[0][1].done()):
            pack, recording = self._being_recorded.popleft()
            self._sink.send(recording.result())
            self._recorded.append(pack)

    def _forget_recorded(self) -> None:
        """Forget chunks that the inventory now knows; only between batches, so look-ups stay valid."""
        for pack in self._recorded:
            for chunk in ChunkColumns.of(pack.chunks).ids:
                del self._fresh[ChunkId(chunk)]
        self._recorded.clear()
