"""Frames of archives, fetched and opened when they are needed or soon will be; kept within a bound."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from msgspec import Struct, field

from backup.browser.packs import ColdContentError, Packs, ReadableRange
from backup.errors import (
    FormatError,
    IntegrityError,
    NightvaultError,
    RetrievalExpiredError,
    RetrievalNotReadyError,
)
from backup.format.frame import FrameCodec, check_digest
from backup.format.naming import chunk_id
from backup.inventory.content.packed import ChunkLocation
from backup.model import MIB, FrameRow
from backup.protocols import Clock
from backup.transfer.fault_scope import look_beneath
from backup.transfer.retry import RetryPolicy

MOST: Final = 24 * MIB
"""So many bytes of opened frames are kept."""
_THREADS: Final = 3
_TRIES: Final = 3  # of a vault that does not answer: whoever reads waits for some seconds at most


class HeldFrame(Struct):
    """An opened frame; `proven` are the offsets of chunks in it that have their ids."""

    data: memoryview
    proven: set[int] = field(default_factory=set)


class Frames:
    """Opened frames. For any thread; `close` ends its own."""

    def __init__(self, packs: Packs, chunk_key: bytes, clock: Clock, *, most: int = MOST) -> None:
        self._packs = packs
        self._key = chunk_key
        self._retry = RetryPolicy(clock, attempts=_TRIES)
        self._most = most
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[int, int], tuple[Future[HeldFrame], int]] = OrderedDict()
        self._bytes = 0
        self._codecs = threading.local()
        self._workers = ThreadPoolExecutor(_THREADS, "frames")

    def close(self) -> None:
        """End the threads."""
        self._workers.shutdown(wait=True, cancel_futures=True)

    def chunk(self, location: ChunkLocation, row: FrameRow) -> memoryview:
        """A chunk that has its id. `ColdContentError`; `IntegrityError` if nothing has it intact."""
        key = (location.archive, location.frame)
        try:
            frame = self._of(key, row).result()
        except (NightvaultError, ColdContentError):
            self._drop(key)
            raise
        data = frame.data[location.offset : location.offset + location.length]
        if location.offset not in frame.proven:
            if chunk_id(self._key, data) != location.id:
                raise IntegrityError("a chunk does not match its id")
            frame.proven.add(location.offset)
        return data

    def ahead(self, wanted: Sequence[tuple[int, FrameRow]]) -> None:
        """Begin to fetch frames that are likely to be read next; of errors the reader hears."""
        for archive, row in wanted:
            self._of((archive, row.number), row)

    def _of(self, key: tuple[int, int], row: FrameRow) -> Future[HeldFrame]:
        with self._lock:
            held = self._held.get(key)
            if held is not None:
                self._held.move_to_end(key)
                return held[0]
            future = self._workers.submit(self._open, key[0], row)
            self._held[key] = future, row.raw_length
            self._bytes += row.raw_length
            while self._bytes > self._most and len(self._held) > 1:
                self._bytes -= self._held.popitem(last=False)[1][1]
            return future

    def _drop(self, key: tuple[int, int]) -> None:
        with self._lock:
            held = self._held.pop(key, None)
            self._bytes -= held[1] if held else 0

    def _open(self, number: int, row: FrameRow) -> HeldFrame:
        """Fetch a frame from the first place that gives it intact."""
        archive = self._packs.archive(number)
        places = [place for place in self._packs.ranges(number) if place.holds(row)]
        if archive is None:
            raise IntegrityError(f"archive {number} is not in its vault any more")
        if not places:
            raise ColdContentError
        keys = self._packs.opened(archive)
        why: NightvaultError | None = None
        for place in places:
            try:
                data = self._sealed(place, row)
                raw = self._codec().open_checked(keys.frame_key, archive.label.pack_id, row, data)
                return HeldFrame(memoryview(raw))
            except (RetrievalNotReadyError, RetrievalExpiredError):
                self._packs.forget(number)
            except NightvaultError as error:
                why = why or error
        if why is None:
            raise ColdContentError
        if isinstance(why, FormatError):
            raise IntegrityError(f"a frame of archive {number} cannot be opened: {why}") from why
        raise why

    def _sealed(self, place: ReadableRange, row: FrameRow) -> bytes | memoryview:
        """A frame's sealed bytes as they were stored, also if something was put over them since."""

        def fetch() -> bytes | memoryview:
            data = self._retry.call(lambda: place.vault.fetch(place.retrieval, place.within(row)).data)
            check_digest(row, data)
            return data

        try:
            return fetch()
        except IntegrityError:
            if not look_beneath(place.vault, place.retrieval):
                raise
        return fetch()

    def _codec(self) -> FrameCodec:
        codec: FrameCodec | None = getattr(self._codecs, "codec", None)
        if codec is None:
            codec = self._codecs.codec = FrameCodec()
        return codec
