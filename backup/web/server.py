"""The HTTP server: HTTP/1.1 by uvicorn and h11, with limits for connections and slow clients."""

from __future__ import annotations

import asyncio
import socket
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from backup.errors import ConfigError

_LARGEST_HEAD = 32 * 1024


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with a bound for connections, for the time that a request's head may take, and for
    the time in which a client has to read.

    uvicorn itself waits for ever for a client that sends nothing, or a byte now and then, or never reads.
    """

    most_connections, head_seconds, read_seconds = 400, 15.0, 30.0
    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _answered: object = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, or close it at once if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            transport.abort()
            return
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Receive bytes; the time limit of a request head starts with its first byte."""
        if self._deadline is None and (self.cycle is None or self.cycle.response_complete):
            self._await_head()
        super().data_received(data)
        if self.cycle is not None and self.cycle is not self._answered:
            self._answered = self.cycle
            self._end_wait()

    def pause_writing(self) -> None:
        """Start the time limit for a client that does not read."""
        super().pause_writing()
        self._cut_off_unless_read()

    def resume_writing(self) -> None:
        """Stop that time limit, as the client reads again."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, even if its client has not read everything."""
        super().timeout_keep_alive_handler()
        self._cut_off_unless_read()

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove a closed connection from the count."""
        self._end_wait()
        if self._unread is not None:
            self._unread.cancel()
        super().connection_lost(exc)

    def _cut_off_unless_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
        self._unread = self.loop.call_later(self.read_seconds, self.transport.abort)

    def _await_head(self) -> None:
        self._end_wait()
        self._deadline = self.loop.call_later(self.head_seconds, self.transport.abort)

    def _end_wait(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def server_options(
    app: ASGIApp, *, protocol: type[BoundedProtocol] = BoundedProtocol, **tls: Any
) -> uvicorn.Config:
    """Return uvicorn's configuration; `tls`: its `ssl_…` options; `protocol`: a class with other limits."""
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        log_level="error",
        access_log=False,  # an address may hold the secret of a link
        server_header=False,
        proxy_headers=False,  # a client's word on where it came from counts for nothing
        timeout_keep_alive=15,
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=_LARGEST_HEAD,
        backlog=128,
        **tls,
    )


class _Quiet(uvicorn.Server):
    """A server that ends at a signal, and does not pass the signal on."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """End the server; at once on a second signal."""
        self.force_exit = self.should_exit
        self.should_exit = True


def run(options: uvicorn.Config, listening: socket.socket) -> None:
    """Serve until SIGTERM or Ctrl-C. `ConfigError` if certificate and key cannot be used."""
    try:
        options.load()
    except (OSError, ValueError) as error:
        raise ConfigError(f"the page's certificate and key cannot be used: {error}") from error
    _Quiet(options).run(sockets=[listening])
