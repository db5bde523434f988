"""Puts frames into packs: workers seal them, one thread writes and hashes in order, workers verify.

    with SealingLine(open_pack, level=3) as line:
        frame = line.open_frame()
        frame.add(...)
        if not line.has_room(frame): line.close_pack()
        line.send(frame)                                # again and again
        for sealed in line.finished(wait=True): ...     # packs that are complete, synced and proven

While a pack is synced the next one fills. Memory is held only by frames under way, at most `in_flight` bytes
and one frame, and by the one or two sealed frames that are being written and hashed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from msgspec import Struct, field

from backup.buffers import Buffers
from backup.catalogs.packing import OpenPack
from backup.format.chunker import MINIMUM
from backup.format.frame import ROOM_BEHIND, SMALL_FILES_FRAME, FrameCodec, SealedFrame
from backup.model import KIB, MIB, Buffer, ChunkId, FrameRow, Pack

_MARGIN = 256 * KIB  # room for a pack's directory: 44 bytes a chunk, 40 a frame, and padding
_CHUNK_ROW = 44
WORKERS_OF_A_PROVER = 4  # sealing a frame takes four times as long as proving it, and more
MOST_CHUNKS = 2**20  # in a pack: a quarter of a directory's limit; tiny files make many


class Frame(Struct):
    """Chunks to be sealed as one frame, in order; the first `size` bytes of `buffer` are theirs.

    The sealed frame goes `over` this memory: the chunks themselves where the buffer is the line's.
    """

    buffer: memoryview
    over: memoryview | None = None
    ids: list[ChunkId] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    size: int = 0

    @classmethod
    def of(
        cls, ids: Sequence[ChunkId], lengths: Sequence[int], numbers: Sequence[int], data: memoryview
    ) -> Self:
        """Make a frame of the chunks in `data` without a copy; `data` must not change while viewed."""
        return cls(data, None, list(ids), list(lengths), list(numbers), len(data))

    def add(
        self, ids: Sequence[ChunkId], lengths: Sequence[int], numbers: Sequence[int], data: Buffer
    ) -> None:
        """Copy consecutive chunks from `data`."""
        self.ids += ids
        self.lengths += lengths
        self.numbers += numbers
        start, self.size = self.size, self.size + len(data)
        self.buffer[start : self.size] = data


class SealedPack(Struct, frozen=True):
    """A complete pack: `file_name` in the spool, `numbers` of its chunks in order."""

    pack: Pack
    file_name: str
    numbers: Sequence[int]


class _Filling(Struct):
    """The pack that takes frames. `written` is known to be in it, `in_flight` (raw bytes) is under way."""

    pack: OpenPack
    written: int
    in_flight: int = 0
    frames: int = 0
    chunks: int = 0
    proofs: list[Future[int]] = field(default_factory=list)  # of frames: their ends; kept by the writer


class _UnderWay(Struct, frozen=True):
    """A frame that is not yet known to be written; `writing` gives its sealed length."""

    filling: _Filling
    frame: Frame
    writing: Future[int]


class SealingLine:
    """The line, for one thread; it owns its threads and deletes packs that were not taken over."""

    def __init__(
        self,
        open_pack: Callable[[], OpenPack],
        buffers: Buffers,
        *,
        level: int | None,
        pack_size: int,
        workers: int = 2,
        in_flight: int = 22 * MIB,
        largest: int = SMALL_FILES_FRAME,
        most_chunks: int = MOST_CHUNKS,
        make_codec: Callable[[int | None], FrameCodec] = FrameCodec,
    ) -> None:
        """Frames are gathered in `buffers`, and have at most `largest` bytes.

        `make_codec` makes each worker its own codec, of that level.
        """
        self._open_pack = open_pack
        self._buffers = buffers
        self._level = level
        self._make_codec = make_codec
        self._pack_size = pack_size
        self._largest = largest
        self._most_frames = max(1, in_flight // largest)
        self._most_chunks = min(most_chunks, MOST_CHUNKS)
        self._workers = ThreadPoolExecutor(workers, "seal")
        self._provers = ThreadPoolExecutor(max(1, workers // WORKERS_OF_A_PROVER), "prove")
        self._writer = ThreadPoolExecutor(1, "spool")
        self._hasher = ThreadPoolExecutor(1, "hash")  # hashes frames beside the writing, or soon after
        self._settler = ThreadPoolExecutor(1, "settle")
        self._codecs = threading.local()
        self._filling: _Filling | None = None
        self._under_way: deque[_UnderWay] = deque()
        self._closing: deque[tuple[OpenPack, Future[SealedPack]]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.shutdown(wait=True, cancel_futures=True)
        self._settler.shutdown(wait=True, cancel_futures=True)
        self._workers.shutdown(wait=True, cancel_futures=True)
        self._provers.shutdown(wait=True, cancel_futures=True)
        self._hasher.shutdown(wait=True)
        self._under_way.clear()  # cycles may keep the line alive for long
        self._buffers.clear()
        unwanted = [pack for pack, _ in self._closing]
        if self._filling is not None:
            unwanted.append(self._filling.pack)
            self._filling = None
        self._closing.clear()
        for pack in unwanted:
            pack.discard()

    def open_frame(self) -> Frame:
        """Return an empty frame; buffers of frames that are already written are freed first."""
        while self._under_way and self._under_way[0].writing.done():
            self._settle_oldest()
        buffer = self._buffers.take(self._largest + ROOM_BEHIND)
        return Frame(buffer, buffer)

    def has_room(self, frame: Frame) -> bool:
        """Whether the open pack can take a frame; waits for the writer only when it is nearly full.

        The last frame under way is counted uncompressed if that is little of a pack, as waiting for it would
        leave cores idle.
        """
        filling = self._filling
        if filling is None:
            return True
        if filling.chunks + len(frame.ids) > self._most_chunks:
            return False
        sure = min(self._largest, self._pack_size // 16)
        while not (fits := self._fits(filling, frame)) and self._under_way and filling.in_flight > sure:
            self._settle_oldest()
        return fits

    def send(self, frame: Frame) -> None:
        """Seal a frame into the open pack, a new one if there is none; waits while too much is under way."""
        if self._filling is None:
            pack = self._open_pack()
            self._filling = _Filling(pack, pack.size)
        filling = self._filling
        number, filling.frames = filling.frames, filling.frames + 1
        over = frame.over or self._buffers.take(frame.size + ROOM_BEHIND)
        sealing = self._workers.submit(self._seal, filling.pack, number, frame, over)
        writing = self._writer.submit(self._write, filling, frame, sealing)
        self._under_way.append(_UnderWay(filling, frame, writing))
        filling.chunks += len(frame.ids)
        filling.in_flight += frame.size
        while len(self._under_way) > self._most_frames or (
            self._under_way and self._under_way[0].writing.done()
        ):
            self._settle_oldest()

    def close_pack(self) -> None:
        """End the open pack once its frames are written; an empty pack is never made."""
        filling, self._filling = self._filling, None
        if filling is not None:
            writings: list[Future[Any]] = [
                pack.writing for pack in self._under_way if pack.filling is filling
            ]
            writings.append(self._writer.submit(filling.pack.end))
            self._closing.append((filling.pack, self._settler.submit(self._finish, filling, writings)))

    def finished(self, *, wait: bool) -> Iterator[SealedPack]:
        """Yield the closed packs that are complete, in order; all closed ones if `wait`."""
        while self._closing and (wait or self._closing[0][1].done()):
            sealed = self._closing[0][1].result()
            self._closing.popleft()
            yield sealed

    def _fits(self, filling: _Filling, frame: Frame) -> bool:
        directory = _MARGIN + _CHUNK_ROW * (filling.chunks + len(frame.ids))
        return filling.written + filling.in_flight + frame.size + directory <= self._pack_size

    def _settle_oldest(self) -> None:
        oldest = self._under_way.popleft()
        oldest.filling.written += oldest.writing.result()
        oldest.filling.in_flight -= oldest.frame.size

    # On the writing thread.

    def _write(self, filling: _Filling, frame: Frame, sealing: Future[SealedFrame]) -> int:
        beside = self._hasher if self._most_frames > 1 else None  # with little memory nothing waits for it
        row = filling.pack.append(sealing.result(), frame.ids, frame.lengths, frame.numbers, beside)
        filling.proofs.append(self._provers.submit(self._prove, filling.pack, row, frame.ids, frame.lengths))
        while filling.proofs and filling.proofs[0].done():
            filling.pack.let_go(filling.proofs.pop(0).result())
        return row.sealed_length

    # On the settling thread: a sync takes long, and the next pack is written meanwhile.

    def _finish(self, filling: _Filling, writings: Sequence[Future[Any]]) -> SealedPack:
        for writing in writings:
            writing.result()
        for proof in filling.proofs:
            proof.result()
        pack = filling.pack
        if pack.frames != filling.frames:
            raise AssertionError("a pack would be closed without all of its frames")
        return SealedPack(pack.settle(), pack.file_name, pack.numbers)

    # On worker threads.

    def _codec(self) -> FrameCodec:
        codec: FrameCodec | None = getattr(self._codecs, "codec", None)
        if codec is None:
            codec = self._codecs.codec = self._make_codec(self._level)
        return codec

    def _seal(self, pack: OpenPack, number: int, frame: Frame, over: memoryview) -> SealedFrame:
        keys, pack_id, parts = pack.keys, pack.label.pack_id, [frame.buffer[: frame.size]]
        are_large = len(frame.ids) * MINIMUM <= frame.size  # small ones may repeat each other
        return self._codec().seal(keys.frame_key, pack_id, number, parts, are_large=are_large, over=over)

    def _prove(self, pack: OpenPack, row: FrameRow, ids: Sequence[ChunkId], lengths: Sequence[int]) -> int:
        pack.prove_frame(self._codec(), row, ids, lengths)
        return row.offset + row.sealed_length
