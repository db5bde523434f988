"""The emulator's HTTP/1.1 connection: uvicorn's h11 protocol with AWS's answers to invalid HTTP, and a way to
cut it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from typing import Any

import h11
from msgspec.structs import replace
from uvicorn.protocols.http.h11_impl import H11Protocol

from backup.emulator.core.errors import ServiceError
from backup.emulator.core.state.clock import real_now_ms
from backup.emulator.core.wire import Answer, glacier_error, http_date, new_request_id

from .sink import BodySink

LINGER_SECONDS = 10.0


class _HeadFirst:
    """A wrapper of the transport for one answer: it holds the first write back until the second."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        if self._head is None:
            self._head = data
            return
        whole, self._head = self._head + data, b""
        if whole:
            self._transport.write(whole)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._transport.write(self._head or b"")
        self._transport.close()


class EmulatorProtocol(H11Protocol):
    """uvicorn's h11 protocol, which also gives the application its transport, so that a fault can cut it.

    Bytes that are not HTTP are refused with 400 (431 for a head that is too large). A client that is still
    sending would lose the answer to a reset, so the rest of its bytes is read and dropped for a while.
    """

    refusals: Mapping[int, Callable[[ServiceError], Answer]] = {}
    """The function, by port, that makes the answer to bytes that are not HTTP; by default the vault
    service's."""

    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport, "protocol": self}

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            super().data_received(data)

    @property
    def has_whole_body(self) -> bool:
        """Whether the current request has been received completely."""
        return not self.cycle.more_body

    def join_head(self) -> None:
        """Send the head of the next answer together with the first bytes of its body."""
        self.cycle.transport = _HeadFirst(self.transport)  # type: ignore[assignment]

    def divert(self, length: int) -> BodySink | None:
        """Have a sink receive the rest of a body of `length` bytes; None if all of it has arrived already."""
        cycle = self.cycle
        start = bytes(cycle.body)
        if not cycle.more_body or cycle.disconnected or len(start) >= length:
            return None
        cycle.body = bytearray()
        if cycle.waiting_for_100_continue:
            event = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
            self.transport.write(self.conn.send(event) or b"")
            cycle.waiting_for_100_continue = False
        sink = BodySink(self.transport, self, start, length - len(start))
        self.transport.set_protocol(sink)
        self.flow.resume_reading()
        return sink

    def take_back(self, sink: BodySink) -> None:
        """Become the connection's protocol again, after correcting h11's count of the remaining bytes."""
        sink.close()
        if self.transport.is_closing():
            return
        self.transport.set_protocol(self)
        self.transport.resume_reading()
        reader: Any = self.conn._reader  # noqa: SLF001 (h11 cannot be told otherwise that a body has come)
        reader._remaining = sink.remaining  # noqa: SLF001
        if not sink.remaining:
            self.handle_events()

    def send_400_response(self, msg: str) -> None:
        """Answer the protocol error that is being handled, then drop what else arrives."""
        self._refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        error = sys.exc_info()[1]
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        answer = self._refusal(ServiceError("BadRequest", f"{msg} {error}", status=status))
        ends = {"Content-Length": str(answer.length), "Connection": "close"}
        headers = {"Date": http_date(real_now_ms()), **answer.headers, **ends}
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        for event in (
            h11.Response(status_code=status, headers=[*self.server_state.default_headers, *encoded]),
            h11.Data(data=answer.body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.resume_reading()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def _refusal(self, error: ServiceError) -> Answer:
        """The error answer in the format of this port's service."""
        words = self.refusals.get(self.server[1] or 0) if self.server is not None else None
        if words is not None:
            return words(error)
        answer = glacier_error(error)
        return replace(answer, headers={**answer.headers, "x-amzn-RequestId": new_request_id()})
