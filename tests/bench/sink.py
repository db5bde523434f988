"""A vault that only reads: `python -m tests.bench.sink` answers as Glacier does, keeps and checks nothing.

Parts are taken off the wire and dropped, so what is measured is who sends. What it gives out again is the
same 16 MiB all over, with the tree hash of what was asked for where that is one piece of it.
"""

from __future__ import annotations

import argparse
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus

from msgspec import Struct

from backup.format.treehash import tree_hash
from backup.model import MIB
from tests.support.emulated import REPOSITORY

PIECE = 16 * MIB
_TREE = "x-amz-sha256-tree-hash"
_DROP = getattr(socket, "MSG_TRUNC", 0) if sys.platform == "linux" else 0  # tcp(7): read without a copy
_GIVEN = bytes(range(256)) * (PIECE // 256)
_HASHES = {size: tree_hash(_GIVEN[:size]).hex() for size in (PIECE, 8 * MIB)}


class RunningSink(Struct, frozen=True):
    """A sink in a process of its own."""

    url: str
    pid: int


@contextmanager
def running_sink(*, certificate: str | None = None, key: str | None = None) -> Iterator[RunningSink]:
    """One sink, ended afterwards; https with the certificate."""
    tls = ["--tls-cert", certificate, "--tls-key", key or ""] if certificate else []
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.sink", *tls], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield RunningSink(process.stdout.readline().strip(), process.pid)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


class _Connection:
    """One kept connection: request after request."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray(MIB)
        self._drops = _DROP and not isinstance(connection, ssl.SSLSocket)
        self._ahead = b""

    def serve(self) -> None:
        """Until the other side hangs up."""
        with self._connection:
            while (head := self._head()) is not None:
                line, headers = head
                self._drop(int(headers.get("content-length", 0)))
                method, path, _ = line.split(" ")
                self._answer(method, path, headers)

    def _head(self) -> tuple[str, Mapping[str, str]] | None:
        while b"\r\n\r\n" not in self._ahead:
            more = self._connection.recv(65536)
            if not more:
                return None
            self._ahead += more
        head, _, self._ahead = self._ahead.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.split(":", 1) for line in lines)
        return first, {name.strip().lower(): value.strip() for name, value in pairs}

    def _drop(self, length: int) -> None:
        taken = min(length, len(self._ahead))
        self._ahead = self._ahead[taken:]
        left = length - taken
        while left > 0:
            most = min(left, len(self._buffer))
            got = self._connection.recv_into(self._buffer, most, _DROP if self._drops else 0)
            if not got:
                raise ConnectionError
            left -= got

    def _answer(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """As Glacier answers each kind of request that the benchmark makes."""
        if method == "GET" and path.endswith("/output"):
            self._give(headers["range"])
        elif method == "POST" and path.endswith("/multipart-uploads"):
            self._say(HTTPStatus.CREATED, {"x-amz-multipart-upload-id": "upload"})
        elif method == "POST":
            told = {"x-amz-archive-id": "archive", _TREE: headers.get(_TREE, "")}
            self._say(HTTPStatus.CREATED, told)
        else:
            self._say(HTTPStatus.NO_CONTENT, {_TREE: headers.get(_TREE, "")})

    def _give(self, asked: str) -> None:
        first, last = map(int, asked.removeprefix("bytes=").split("-"))
        body = memoryview(_GIVEN)[: last - first + 1]
        told = {"content-range": f"bytes {first}-{last}/*", "content-type": "application/octet-stream"}
        if len(body) in _HASHES:
            told[_TREE] = _HASHES[len(body)]
        self._say(HTTPStatus.PARTIAL_CONTENT, told, body)

    def _say(self, status: HTTPStatus, headers: Mapping[str, str], body: bytes | memoryview = b"") -> None:
        lines = [f"HTTP/1.1 {status.value} {status.phrase}", "x-amzn-requestid: sink"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if status is not HTTPStatus.NO_CONTENT:
            lines.append(f"content-length: {len(body)}")
        self._connection.sendall("\r\n".join([*lines, "", ""]).encode())
        self._connection.sendall(body)


def _serve(connection: socket.socket) -> None:
    try:
        _Connection(connection).serve()
    except (ConnectionError, ssl.SSLError):
        connection.close()


def main() -> None:
    """Listen on a free port of this machine, say where, serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.sink", description="a vault that only reads")
    parser.add_argument("--tls-cert")
    parser.add_argument("--tls-key")
    options = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", 0))
    scheme, host = "http", "127.0.0.1"
    if options.tls_cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.tls_cert, options.tls_key)
        listener = context.wrap_socket(listener, server_side=True, do_handshake_on_connect=False)
        scheme, host = "https", "localhost"
    print(f"{scheme}://{host}:{listener.getsockname()[1]}", flush=True)
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
