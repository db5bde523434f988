"""A proxy that answers: CONNECT tunnels and plain requests, with a password if it is told one."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socketserver import StreamRequestHandler, ThreadingTCPServer
from urllib.parse import urlsplit


class Proxy:
    """Where it listens and what it was asked, as `METHOD target`; 407 for whoever has not the password."""

    def __init__(self, user: str | None = None, password: str = "") -> None:
        self.seen: list[str] = []
        self.refused = 0
        coded = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._wanted = None if user is None else f"Basic {coded}"
        outer = self

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    outer._answer(self)

        self._server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def _answer(self, handler: StreamRequestHandler) -> None:
        first = handler.rfile.readline().decode()
        head: dict[str, str] = {}
        while (line := handler.rfile.readline().decode().strip()) != "":
            name, _, value = line.partition(":")
            head[name.lower()] = value.strip()
        method, target, _ = first.split()
        self.seen.append(f"{method} {target}")
        if self._wanted is not None and head.get("proxy-authorization") != self._wanted:
            self.refused += 1
            handler.wfile.write(
                b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                b'Proxy-Authenticate: Basic realm="r"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
            )
            return
        if method == "CONNECT":
            host, _, port = target.rpartition(":")
            with socket.create_connection((host, int(port)), 10) as there:
                handler.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                self._carry(handler.connection, there)
        else:
            self._forward(handler, target, method, head)

    def _forward(self, handler: StreamRequestHandler, target: str, method: str, head: dict[str, str]) -> None:
        parts = urlsplit(target)
        body = handler.rfile.read(int(head.get("content-length", "0")))
        kept = {name: value for name, value in head.items() if not name.startswith("proxy-")}
        lines = [f"{method} {parts.path} HTTP/1.1", *(f"{name}: {value}" for name, value in kept.items())]
        with socket.create_connection((parts.hostname or "", parts.port or 80), 10) as there:
            there.sendall("\r\n".join([*lines, "", ""]).encode() + body)
            self._carry(handler.connection, there)

    def _carry(self, here: socket.socket, there: socket.socket) -> None:
        """Bytes in both directions until one side ends."""
        back = threading.Thread(target=_pump, args=(there, here), daemon=True)
        back.start()
        _pump(here, there)
        back.join(10)

    @contextmanager
    def running(self) -> Iterator[Proxy]:
        """Serve until the block ends."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
