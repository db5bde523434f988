"""Receive request bodies: small ones whole, uploads into a file, hashed on a worker thread as they arrive."""

from __future__ import annotations

import asyncio
import mmap
import os
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from backup.emulator.core.errors import ServiceError, invalid

from .sink import BodySink, ClientGone
from .treehash import TreeHasher

if TYPE_CHECKING:
    from .protocol import EmulatorProtocol

BATCH_BYTES = 4 * 1024 * 1024  # large enough that handing over costs little beside the hashing
SMALL_BODY_LIMIT = 1024 * 1024
DIVERTED_BYTES = 1024 * 1024
BRIEF_BYTES = 64 * 1024

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Received(Struct, frozen=True):
    """An upload's body on disk: its file's name, bytes, linear SHA-256 (hex), leaf digests."""

    file: str
    size: int
    linear: str
    leaves: bytes


class Body:
    """A request's body; waiting longer than `idle_seconds` for more of it is answered with 408."""

    def __init__(
        self, receive: Receive, idle_seconds: float, protocol: EmulatorProtocol | None = None
    ) -> None:
        self._receive = receive
        self._protocol = protocol
        self.idle_seconds = idle_seconds
        self._finished = False
        self.complete = False

    async def pieces(self) -> AsyncIterator[bytes]:
        """The rest of the body in pieces, as it arrives."""
        while not self._finished:
            piece = await self._next()
            if piece:
                yield piece

    async def _next(self) -> bytes:
        try:
            message = await self._received()
        except TimeoutError as error:
            self._finished = True
            raise ServiceError("RequestTimeoutException", "Request timed out.") from error
        if message["type"] == "http.disconnect":
            self._finished = True
            raise ClientGone
        self._finished = self.complete = not message.get("more_body", False)
        return message.get("body") or b""

    async def _received(self) -> MutableMapping[str, Any]:
        if self._protocol is not None and self._protocol.has_whole_body:
            return await self._receive()  # a timer costs more than it takes
        async with asyncio.timeout(self.idle_seconds):
            return await self._receive()

    def divert(self, length: int | None) -> BodySink | None:
        """A sink for the rest of a long body; None if the body is short, chunked or has arrived already."""
        if self._protocol is None or length is None or length < DIVERTED_BYTES:
            return None
        return self._protocol.divert(length)

    def take_back(self, sink: BodySink) -> None:
        """Continue reading in the usual way after a sink."""
        if self._protocol is not None:
            self._protocol.take_back(sink)
        self._finished = True
        self.complete = not sink.remaining

    async def read(self, limit: int = SMALL_BODY_LIMIT) -> bytes:
        """The whole body, at most so many bytes; 400 beyond."""
        gathered = bytearray()
        while not self._finished:
            gathered += await self._next()
            if len(gathered) > limit:
                raise ServiceError("BadRequest", "The request body is too large.")
        return bytes(gathered)

    async def drain(self) -> None:
        """Read the rest and drop it, so that a client that is still sending can read its answer."""
        while not self._finished:
            await self._next()

    async def gone(self) -> None:
        """Wait until the connection is closed."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def side_by_side(size: int, *works: Callable[[], None]) -> None:
    """Do some things with so many bytes, each on a thread of its own; with few bytes it is done on the spot,
    since to ask a thread would take longer.
    """
    if size <= BRIEF_BYTES:
        for work in works:
            work()
    else:
        await asyncio.gather(*(asyncio.to_thread(work) for work in works))


class BodyDestination(Protocol):
    """A destination for a body's bytes."""

    async def take(self, data: bytes | bytearray | memoryview) -> None:
        """Accept the next bytes; the buffer may be reused afterwards."""


class _UntilItFails:
    """A spool that drops bytes after its disk has failed: a client reads the answer only once it has sent
    all."""

    def __init__(self, spool: BodyDestination) -> None:
        self._spool = spool
        self.failure: OSError | None = None

    async def take(self, data: bytes | bytearray | memoryview) -> None:
        """Pass the next bytes on, if all before them went well."""
        if self.failure is not None:
            return
        try:
            await self._spool.take(data)
        except OSError as error:
            self.failure = error


class _FileSpool:
    """A file that two worker threads write and hash concurrently."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._path = path
        self.hasher = TreeHasher()

    async def take(self, data: bytes | bytearray | memoryview) -> None:
        """One thread hashes the leaves while another writes and hashes the whole."""
        await side_by_side(len(data), lambda: self._write(data), lambda: self.hasher.update_leaves(data))

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        self.hasher.update_linear(data)

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self._file)


async def receive_file(body: Body, path: Path, length: int | None, limit: int) -> Received:
    """Stream the body into a new file: `length` bytes, or if that is unknown at most `limit` (else 400).

    The file is removed if the body does not arrive completely.
    """
    spool = _FileSpool(path)
    try:
        await fill(body, spool, length, limit)
    except BaseException:
        spool.remove()
        raise
    finally:
        spool.close()
    return Received(path.name, spool.hasher.size, spool.hasher.linear(), spool.hasher.leaves())


async def fill(body: Body, spool: BodyDestination, length: int | None, limit: int) -> None:
    """Stream the body into a spool: `length` bytes, or if that is unknown at most `limit` (else 400)."""
    kept = _UntilItFails(spool)
    sink = body.divert(length)
    if sink is None:
        await _fill(body, kept, limit)
    else:
        await _fill_from_sink(body, sink, kept)
    if kept.failure is not None:
        raise kept.failure


async def _fill_from_sink(body: Body, sink: BodySink, spool: BodyDestination) -> None:
    """Buffer by buffer; while one is hashed the next is filled."""
    busy: asyncio.Task[None] | None = None
    held: mmap.mmap | None = None
    try:
        await spool.take(sink.start)
        async for buffer, count in sink.batches(body.idle_seconds):
            if busy:
                await busy
            if held is not None:
                sink.release(held)
            held = buffer
            busy = asyncio.create_task(spool.take(memoryview(buffer)[:count]))
    finally:
        if busy:
            await asyncio.shield(busy)
        body.take_back(sink)


async def _fill(body: Body, spool: BodyDestination, limit: int) -> None:
    """Gather batch by batch; while one is hashed the next is received."""
    busy: asyncio.Task[None] | None = None
    batch, size = bytearray(), 0
    try:
        async for piece in body.pieces():
            batch += piece
            size += len(piece)
            if size > limit:
                raise invalid(f"Invalid Content-Length: {size}")
            if len(batch) < BATCH_BYTES:
                continue
            if busy:
                await busy
            busy = asyncio.create_task(spool.take(batch))
            batch = bytearray()
    finally:
        if busy:
            await asyncio.shield(busy)
    await spool.take(batch)
