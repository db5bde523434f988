"""One HTTP exchange: apply planned faults, run the operation, render errors, send the answer."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from backup.emulator.core.errors import DISK_ERRORS, DiskFailed, ServiceError
from backup.emulator.core.state.clock import real_now_ms
from backup.emulator.core.wire import Answer, Extent, Inbound, http_date, new_request_id

from .faults import Fault
from .receive import BRIEF_BYTES, Body
from .sink import ClientGone

CHUNK_BYTES = 1024 * 1024
TREE_HASH = "x-amz-sha256-tree-hash"
CHECKSUM = "x-amz-checksum-"

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Perform = Callable[[], Awaitable[Answer]]
Render = Callable[[ServiceError], Answer]


def inbound_of(scope: Scope) -> Inbound:
    """The request's head as received."""
    return Inbound(
        scope["method"],
        scope["raw_path"].decode("latin-1"),
        scope["query_string"].decode("latin-1"),
        tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]),
        (scope.get("client") or ("",))[0],
    )


def _request_id() -> Mapping[str, str]:
    return {"x-amzn-RequestId": new_request_id()}


class Exchange(Struct, frozen=True):
    """A request, and the means to answer it.

    `stamp` returns the headers that every answer has, `now_ms` the time that its `Date` tells.
    """

    scope: Scope
    body: Body
    send: Send
    stamp: Callable[[], Mapping[str, str]] = _request_id
    now_ms: Callable[[], int] = real_now_ms

    async def run(self, perform: Perform, render: Render, fault: Fault | None) -> None:
        """Answer the request with the operation's answer, its error, or a planned fault."""
        try:
            answer = await self._decide(perform, render, fault)
            await self._take_rest(answer)
            if answer is not None:
                await self._send(answer, fault)
        except ClientGone:
            return

    async def _decide(self, perform: Perform, render: Render, fault: Fault | None) -> Answer | None:
        """The answer to send; None if the connection was cut instead."""
        if fault is not None and not fault.after:
            await asyncio.sleep(fault.stall_seconds)
            planned = await self._planned(render, fault)
            if planned is not None or fault.reset:
                return planned
        try:
            answer = await perform()
        except ServiceError as error:
            answer = render(error)
        except DISK_ERRORS as error:
            failed = DiskFailed(error)
            print(failed.message, file=sys.stderr, flush=True)  # noqa: T201
            answer = render(failed)
        if fault is None or not fault.after:
            return answer
        await asyncio.sleep(fault.stall_seconds)
        planned = await self._planned(render, fault)
        return planned if planned is not None or fault.reset else answer

    async def _planned(self, render: Render, fault: Fault) -> Answer | None:
        if fault.reset:
            await self._reset()
            return None
        error = fault.error()
        if error is None:
            return None
        return replace(render(error), status=200) if fault.in_body else render(error)

    async def _reset(self) -> None:
        """Cut the connection so that the client sees a reset, not an end."""
        transport = self.scope["state"]["transport"]
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
        await self.body.gone()

    async def _take_rest(self, answer: Answer | None) -> None:
        """Read the rest of a body, so that a client still sending can finish, unless it waits for 100
        Continue."""
        if answer is None or self.body.complete:
            return
        if any(k == b"expect" and v.lower() == b"100-continue" for k, v in self.scope["headers"]):
            return
        try:
            await self.body.drain()
        except ServiceError:
            return

    async def _send(self, answer: Answer, fault: Fault | None) -> None:
        headers = {"Date": http_date(self.now_ms()), **answer.headers, **self.stamp()}
        if fault is not None and fault.wrong_hash:
            _spoil_hashes(headers)
        if answer.status not in (204, 304):
            headers["Content-Length"] = str(answer.length if answer.told is None else answer.told)
        if not self.body.complete:
            headers["Connection"] = "close"
        protocol = self.scope["state"].get("protocol")
        if protocol is not None:
            protocol.join_head()
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": answer.status, "headers": encoded})
        if fault is None and answer.length <= BRIEF_BYTES:
            whole = answer.body + b"".join(_read(extent, 0, extent.length) for extent in answer.extents)
            await self.send({"type": "http.response.body", "body": whole, "more_body": False})
        else:
            await self._send_pieces(answer, fault)

    async def _send_pieces(self, answer: Answer, fault: Fault | None) -> None:
        left = answer.length if fault is None or fault.truncate is None else fault.truncate
        cut = left < answer.length
        corrupt = fault is not None and fault.corrupt
        rate = None if fault is None else fault.bytes_per_second
        async for chunk in _chunks(answer, rate):
            sent = _flip(chunk[:left]) if corrupt else chunk[:left]
            corrupt = False
            left -= len(sent)
            await self.send({"type": "http.response.body", "body": sent, "more_body": True})
            if not left:
                break
        if cut:
            self.scope["state"]["transport"].close()
            await self.body.gone()
        else:
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})


def _spoil_hashes(headers: dict[str, str]) -> None:
    if TREE_HASH in headers:
        headers[TREE_HASH] = headers[TREE_HASH][::-1]
    for name in [name for name in headers if name.startswith(CHECKSUM) and name != f"{CHECKSUM}type"]:
        wrong = "B" if headers[name].startswith("A") else "A"
        headers[name] = wrong + headers[name][1:]


def _flip(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:] if data else data


async def _chunks(answer: Answer, rate: int | None) -> AsyncIterator[bytes]:
    """The body in pieces; with a `rate` in bytes a second, each is the amount of a tenth of a second."""
    most = CHUNK_BYTES if rate is None else max(1, rate // 10)
    async for chunk in _pieces(answer, most):
        if rate is not None:
            await asyncio.sleep(len(chunk) / rate)
        yield chunk


async def _pieces(answer: Answer, most: int) -> AsyncIterator[bytes]:
    for at in range(0, len(answer.body), most):
        yield answer.body[at : at + most]
    for extent in answer.extents:
        at = 0
        while at < extent.length:
            chunk = await asyncio.to_thread(_read, extent, at, most)
            yield chunk
            at += len(chunk)


def _read(extent: Extent, at: int, most: int) -> bytes:
    try:
        file = os.open(extent.path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise ClientGone from error  # deleted or replaced meanwhile: the answer is cut
    try:
        chunk = os.pread(file, min(most, extent.length - at), extent.offset + at)
    finally:
        os.close(file)
    if not chunk:
        raise ClientGone
    return chunk
