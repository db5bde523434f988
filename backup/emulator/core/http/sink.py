"""Receive a long request body from the socket directly into large buffers, which are reused.

Through the HTTP library each byte is copied five times; here the kernel writes it where it is hashed. For the
time of one body this protocol stands in for the connection's own, which is then told how much is left.
"""

from __future__ import annotations

import asyncio
import ctypes
import mmap
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress

from backup.emulator.core.errors import ServiceError

BUFFER_BYTES = 4 * 1024 * 1024
BUFFERS = 3  # one is filled, one is hashed, one waits
KEPT = 12
KEPT_SECONDS = 10


class _Spare:
    """A pool of buffers, kept for a while for the next body.

    They are mapped, not allocated: what the heap has held once at this size it does not give back.
    """

    def __init__(self) -> None:
        self._kept: list[mmap.mmap] = []
        self._uses = 0

    def take(self) -> mmap.mmap:
        """A buffer from the pool, or a new one."""
        self._uses += 1
        if self._kept:
            return self._kept.pop()
        return mmap.mmap(-1, BUFFER_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def keep(self, buffers: list[mmap.mmap]) -> None:
        """Return buffers to the pool, which is emptied once no body has arrived for a while."""
        self._kept += buffers[: max(0, KEPT - len(self._kept))]
        asyncio.get_running_loop().call_later(KEPT_SECONDS, self._forget, self._uses)

    def _forget(self, uses: int) -> None:
        if uses == self._uses:
            self._kept.clear()
            _give_back()


def _give_back() -> None:
    """Give back what the heaps of all threads hold free, some 10 MiB after a load. Source: malloc_trim(3)."""
    with suppress(OSError, AttributeError):  # another libc
        ctypes.CDLL(None).malloc_trim(0)


_spare = _Spare()


class ClientGone(Exception):  # noqa: N818 (an event rather than an error)
    """The client hung up before its request was complete."""


class BodySink(asyncio.BufferedProtocol):
    """Gathers `remaining` bytes, never one more; `start` are those that the library has read already."""

    def __init__(
        self, transport: asyncio.Transport, owner: asyncio.Protocol, start: bytes, remaining: int
    ) -> None:
        self._transport = transport
        self._owner = owner
        self.start = start
        self.remaining = remaining
        self._free = [_spare.take() for _ in range(BUFFERS)]
        self._current: mmap.mmap | None = self._free.pop()
        self._filled = 0
        self._full: deque[tuple[mmap.mmap, int]] = deque()
        self._lost = False
        self._news = asyncio.Event()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """The buffer for the next bytes."""
        room = min(BUFFER_BYTES - self._filled, self.remaining)
        assert self._current is not None  # noqa: S101 (reading is paused otherwise)
        return memoryview(self._current)[self._filled : self._filled + room]

    def buffer_updated(self, nbytes: int) -> None:
        """Count the bytes that arrived, and pass a full buffer on."""
        self._filled += nbytes
        self.remaining -= nbytes
        if self._filled == BUFFER_BYTES or not self.remaining:
            assert self._current is not None  # noqa: S101
            self._full.append((self._current, self._filled))
            self._current, self._filled = self._free.pop() if self._free else None, 0
            if self._current is None or not self.remaining:
                self._transport.pause_reading()
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._news.set()
        self._owner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        self._owner.resume_writing()

    async def batches(self, idle_seconds: float) -> AsyncIterator[tuple[mmap.mmap, int]]:
        """Full buffers and how much of each counts; each must be given back with `release`.

        408 when nothing comes for `idle_seconds`; ClientGone when the client hung up.
        """
        while self.remaining or self._full:
            if self._full:
                yield self._full.popleft()
                continue
            if self._lost:
                raise ClientGone
            self._news.clear()
            try:
                async with asyncio.timeout(idle_seconds):
                    await self._news.wait()
            except TimeoutError as error:
                raise ServiceError("RequestTimeoutException", "Request timed out.") from error

    def release(self, buffer: mmap.mmap) -> None:
        """Take a buffer back, and go on reading if that had to wait for one."""
        if self._current is None and self.remaining:
            self._current = buffer
            self._transport.resume_reading()
        else:
            self._free.append(buffer)

    def close(self) -> None:
        """Keep the buffers for the next body."""
        _spare.keep([*self._free, *([self._current] if self._current else [])])
        self._free, self._current = [], None
