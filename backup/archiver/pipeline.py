"""Chunks named, and those that no vault has yet gathered into frames for the sealing line.

    with Pipeline(...) as pipeline:
        numbers = pipeline.put([(chunk id, bytes), ...])   # again and again
        pipeline.finish()                                  # the last pack is closed and handed on

Known chunks are dropped; a whole batch is asked for at once. Packs are handed on in the caller's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from backup.archiver.packing import OpenPack
from backup.archiver.sealing import MOST_CHUNKS, Buffer, Frame, SealingLine
from backup.format.frame import FRAME_SIZE
from backup.inventory.packed import KnownChunk
from backup.model import MIB, ChunkId, Pack


class Pipeline:
    """Seals what is new. Use it from one thread; it owns its workers and ends them."""

    def __init__(
        self,
        *,
        open_pack: Callable[[], OpenPack],
        hand_on: Callable[[Pack, str, Sequence[int]], None],
        known: Callable[[Iterable[ChunkId]], Mapping[bytes, KnownChunk]],
        take_number: Callable[[], int],
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
        self._take_number = take_number
        self._frame = Frame()
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
        self._collect(wait=False)
        self._forget_handed_on()
        fresh = self._fresh
        unknown = {chunk for chunk, _ in batch if chunk not in fresh}
        found = self._known(unknown) if unknown else {}
        self.used_archives.update(known.archive for known in found.values())
        own = _is_mostly_known(batch, fresh, found)
        numbers: list[int] = []
        for chunk, data in batch:
            number = fresh.get(chunk)
            if number is None:
                known = found.get(chunk)
                number = self._add(chunk, bytes(data) if own else data) if known is None else known.number
            numbers.append(number)
        return numbers

    def finish(self) -> None:
        """Seal what is left and hand the last pack on; no pack is made for nothing."""
        self._close_frame()
        self._line.close_pack()
        self._collect(wait=True)

    def _add(self, chunk: ChunkId, data: Buffer) -> int:
        size = len(data)
        frame = self._frame
        if frame.size + size > FRAME_SIZE:
            self._close_frame()
            frame = self._frame
        number = self._take_number()
        frame.chunks.append((chunk, size))
        frame.numbers.append(number)
        frame.parts.append(data)
        frame.size += size
        self._fresh[chunk] = number
        self.new_bytes += size
        return number

    def _close_frame(self) -> None:
        """Give the gathered chunks to the line, in the pack that has room for them."""
        frame, self._frame = self._frame, Frame()
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
