"""Chunks named, gathered into frames, sealed on worker threads, in order, into packs.

    with Pipeline(...) as pipeline:
        numbers = pipeline.put([(chunk id, bytes), ...])   # again and again
        pipeline.finish()                                  # the last pack is closed and handed on

Known chunks are dropped; each call asks for a whole batch at once. Frames are sealed and proven by workers;
only bytes of frames under way are held, at most `in_flight`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from backup.archiver.packing import OpenPack
from backup.format.frame import FRAME_SIZE, FrameCodec, SealedFrame
from backup.inventory.archives import KnownChunk
from backup.model import KIB, MIB, ChunkId, FrameRow, Pack

Buffer = bytes | memoryview
_MARGIN = 256 * KIB  # room for a pack's directory: 44 bytes a chunk, 40 a frame, and padding
_CHUNK_ROW = 44
_MOST_CHUNKS = 2**20  # a quarter of what a directory may hold: files of a few bytes make many


@dataclass(slots=True)
class _Frame:
    """Chunks on their way into one frame."""

    chunks: list[tuple[ChunkId, int]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    parts: list[Buffer] = field(default_factory=list)
    size: int = 0


class Pipeline:
    """Seals what is new. Use it from one thread; it owns its workers and ends them."""

    def __init__(
        self,
        *,
        open_pack: Callable[[], OpenPack],
        hand_on: Callable[[Pack, str, Sequence[int]], None],
        known: Callable[[Iterable[ChunkId]], Mapping[bytes, KnownChunk]],
        take_number: Callable[[], int],
        level: int,
        pack_size: int,
        workers: int = 2,
        in_flight: int = 24 * MIB,
    ) -> None:
        self._open_pack = open_pack
        self._hand_on = hand_on
        self._known = known
        self._take_number = take_number
        self._pack_size = pack_size
        self._most = in_flight
        self._workers = ThreadPoolExecutor(workers, "seal")
        self._codecs = threading.local()
        self._level = level
        self._frame = _Frame()
        self._pack: OpenPack | None = None
        self._next_frame = 0
        self._sealing: deque[tuple[_Frame, Future[SealedFrame]]] = deque()
        self._proving: deque[Future[None]] = deque()
        self._bytes_in_flight = 0
        self._fresh: dict[ChunkId, int] = {}  # chunks of packs not yet handed on
        self.used_archives: set[int] = set()
        self.new_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.shutdown(wait=True, cancel_futures=True)
        if self._pack is not None:
            self._pack.discard()
            self._pack = None

    def put(self, batch: Sequence[tuple[ChunkId, Buffer]]) -> list[int]:
        """The number of each chunk, in order; the bytes of new ones are sealed, and held until then."""
        unknown = {chunk for chunk, _ in batch if chunk not in self._fresh}
        found = self._known(unknown) if unknown else {}
        self.used_archives.update(known.archive for known in found.values())
        numbers = {chunk: self._fresh[chunk] for chunk, _ in batch if chunk in self._fresh}
        numbers.update((ChunkId(chunk), known.number) for chunk, known in found.items())
        for chunk, data in batch:
            if chunk not in numbers:
                numbers[chunk] = self._add(chunk, data)
        return [numbers[chunk] for chunk, _ in batch]

    def finish(self) -> None:
        """Seal what is left and hand the last pack on; no pack is made for nothing."""
        self._close_frame()
        self._close_pack()

    def _add(self, chunk: ChunkId, data: Buffer) -> int:
        if self._frame.size + len(data) > FRAME_SIZE:
            self._close_frame()
        number = self._take_number()
        frame = self._frame
        frame.chunks.append((chunk, len(data)))
        frame.numbers.append(number)
        frame.parts.append(data)
        frame.size += len(data)
        self._fresh[chunk] = number
        self.new_bytes += len(data)
        return number

    def _close_frame(self) -> None:
        """Give the gathered chunks to a worker, in the pack that has room for them."""
        frame, self._frame = self._frame, _Frame()
        if not frame.parts:
            return
        if self._pack is not None and not self._has_room(self._pack, frame.size):
            kept = {chunk: self._fresh[chunk] for chunk, _ in frame.chunks}
            self._close_pack()
            self._fresh.update(kept)
        if self._pack is None:
            self._pack = self._open_pack()
            self._next_frame = 0
        number, self._next_frame = self._next_frame, self._next_frame + 1
        future = self._workers.submit(self._seal, self._pack, number, frame.parts)
        self._sealing.append((frame, future))
        self._bytes_in_flight += frame.size
        while self._bytes_in_flight > self._most or (self._sealing and self._sealing[0][1].done()):
            self._write_oldest()

    def _has_room(self, pack: OpenPack, size: int) -> bool:
        if len(self._fresh) >= _MOST_CHUNKS:
            return False
        directory = _MARGIN + _CHUNK_ROW * len(self._fresh)
        return pack.size + self._bytes_in_flight + size + directory <= self._pack_size

    def _write_oldest(self) -> None:
        frame, future = self._sealing.popleft()
        sealed = future.result()
        assert self._pack is not None  # noqa: S101
        row = self._pack.append(sealed, frame.chunks, frame.numbers)
        self._bytes_in_flight -= frame.size
        self._proving.append(self._workers.submit(self._prove, self._pack, row, frame.chunks))
        while self._proving and self._proving[0].done():
            self._proving.popleft().result()

    def _close_pack(self) -> None:
        while self._sealing:
            self._write_oldest()
        while self._proving:
            self._proving.popleft().result()
        if self._pack is None:
            return
        pack, self._pack = self._pack, None
        try:
            finished = pack.finish()
        except BaseException:
            pack.discard()
            raise
        self._hand_on(finished, pack.file_name, pack.numbers)
        self._fresh.clear()

    # On worker threads.

    def _codec(self) -> FrameCodec:
        codec: FrameCodec | None = getattr(self._codecs, "codec", None)
        if codec is None:
            codec = self._codecs.codec = FrameCodec(self._level)
        return codec

    def _seal(self, pack: OpenPack, number: int, parts: Sequence[Buffer]) -> SealedFrame:
        return self._codec().seal(pack.keys.frame_key, pack.label.pack_id, number, parts)

    def _prove(self, pack: OpenPack, row: FrameRow, chunks: Sequence[tuple[ChunkId, int]]) -> None:
        pack.prove_frame(self._codec(), row, chunks)
