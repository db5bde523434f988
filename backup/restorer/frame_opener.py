"""Opens frames on threads ahead of the reader: the work is in C, without the interpreter's lock."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple, Self

from msgspec import Struct, field

from backup.errors import FormatError, IntegrityError, NightvaultError
from backup.format.frame import FrameCodec
from backup.format.pack import PackKeys
from backup.model import Buffer, FrameRow, PackId


class Opened(NamedTuple):
    """The joined chunks of a frame; `proven` says, by position, whether each checked chunk has its id."""

    data: bytes
    proven: Mapping[int, bool] = {}


Arrived = tuple[FrameRow, "Future[Opened]"]
Prove = Callable[[FrameRow], Callable[[bytes], Mapping[int, bool]]]
"""Called for a frame by the reader; what it returns proves chunks of the frame, on the frame's thread."""


def _prove_nothing(_: FrameRow) -> Callable[[bytes], Mapping[int, bool]]:
    return lambda _: {}


class OpenedArchive(Struct, frozen=True):
    """The keys and frames of an archive to open; `why`: by frame number, the reason that one is missing."""

    pack_id: PackId
    keys: PackKeys
    why: Mapping[int, str] = field(default_factory=dict)


class Opener:
    """Opens frames for one reader; a context manager that ends its threads.

    Each thread is one frame ahead of the reader, and one more frame waits, so that none is idle while the
    reader writes.
    """

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._codecs = threading.local()
        self._workers = ThreadPoolExecutor(threads, "open")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.shutdown(wait=True, cancel_futures=True)

    def opened(
        self,
        archive: OpenedArchive,
        frames: Iterable[tuple[FrameRow, Buffer | None]],
        prove: Prove = _prove_nothing,
    ) -> Iterator[Arrived]:
        """The chunks of each frame, joined, as a future, in order; of sealed bytes whose digest was checked.

        Its result is an IntegrityError if the frame does not open, or was not fetched (None). An error of
        `frames` is raised after the frames before it.
        """
        ahead: deque[Arrived] = deque()
        try:
            for row, sealed in frames:
                ahead.append((row, self._workers.submit(self._open, archive, row, sealed, prove(row))))
                if len(ahead) > self._threads + 1:
                    yield ahead.popleft()
        except NightvaultError:
            yield from ahead
            raise
        yield from ahead

    def _codec(self) -> FrameCodec:
        codec: FrameCodec | None = getattr(self._codecs, "codec", None)
        if codec is None:
            codec = self._codecs.codec = FrameCodec()
        return codec

    def _open(
        self,
        archive: OpenedArchive,
        row: FrameRow,
        sealed: Buffer | None,
        prove: Callable[[bytes], Mapping[int, bool]],
    ) -> Opened:
        if sealed is None:
            why = archive.why.get(row.number)
            if why is not None:
                raise IntegrityError(f"its data cannot be had from the vault: {why}")
            raise IntegrityError("its data came back damaged from the vault")
        try:
            data = self._codec().open_checked(archive.keys.frame_key, archive.pack_id, row, sealed)
        except (FormatError, IntegrityError) as error:
            raise IntegrityError(f"its data cannot be opened: {error}") from error
        return Opened(data, prove(data))
