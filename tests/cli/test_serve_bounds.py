"""`nightvault serve` is taken away by nobody: silent and slow clients, many of them, two hosts."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress

import pytest

from backup.cli.keys.serve import LocalServer, make_server
from backup.credentials.serving.local_requests import Reply, refuse_stranger

GET = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def answer(_method: str, _path: str, headers: Mapping[str, str]) -> Reply:
    return refuse_stranger(headers) or Reply(200, "keys")


@contextmanager
def served(
    answering: Callable[[str, str, Mapping[str, str]], Reply] = answer, *, most: int = 64, seconds: float = 60
) -> Iterator[LocalServer]:
    with make_server(answering, 0, 64) as server:
        server.most, server.head_seconds = most, seconds
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def connected(server: LocalServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=10)


def asked(connection: socket.socket, request: bytes = GET) -> bytes:
    connection.sendall(request)
    found = bytearray()
    while not found.endswith(b"keys") and (piece := connection.recv(4096)):
        found += piece
        if b" 403 " in found:
            break
    return bytes(found)


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not is_so() and time.monotonic() < until:
        time.sleep(0.01)
    assert is_so()


def test_a_thousand_silent_clients_keep_nobody_from_the_keys() -> None:
    threads = threading.active_count()
    with served() as server, ExitStack() as silent:
        for _ in range(300):
            silent.enter_context(closing(connected(server)))
        with closing(connected(server)) as connection:
            assert asked(connection).startswith(b"HTTP/1.1 200")
            assert asked(connection).endswith(b"keys")  # and once more by the same connection
        wait_until(lambda: threading.active_count() <= threads + 66)


def test_the_one_that_waits_longest_goes_and_no_other() -> None:
    with served(most=2) as server, ExitStack() as opened:
        first, second = (opened.enter_context(closing(connected(server))) for _ in range(2))
        for connection in (second, first):  # the second waits longer then
            assert asked(connection).startswith(b"HTTP/1.1 200")
            wait_until(lambda: len(server._waiting) == 2)  # a moment after the reply was read
        third = opened.enter_context(closing(connected(server)))
        assert second.recv(1) == b""
        for connection in (first, third):
            assert asked(connection).startswith(b"HTTP/1.1 200")


def test_who_is_being_answered_is_not_cut_off() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slowly(*_: object) -> Reply:
        begun.set()
        assert go_on.wait(20)
        return Reply(200, "keys")

    with served(slowly, most=1) as server, closing(connected(server)) as first:
        first.sendall(GET)
        assert begun.wait(20)
        with closing(connected(server)) as second:
            assert second.recv(1) == b""
        go_on.set()
        assert first.recv(4096).startswith(b"HTTP/1.1 200")


def test_a_byte_now_and_then_is_no_head() -> None:
    with served(seconds=0.3) as server, closing(connected(server)) as connection:
        sent = 0
        with suppress(OSError):  # a broken pipe, or a reset
            for letter in b"GET / HTTP/1.1\r\n" + b"X-Y: z\r\n" * 20:
                connection.sendall(bytes([letter]))
                sent += 1
                time.sleep(0.02)
        assert 1 < sent < 170


@pytest.mark.parametrize(
    "hosts",
    [("127.0.0.1", "evil.example"), ("evil.example", "127.0.0.1"), ("[::1]evil",), ("",), ("127.0.0.1:x",)],
)
def test_hosts_that_are_none_are_refused(hosts: tuple[str, ...]) -> None:
    head = "".join(f"Host: {host}\r\n" for host in hosts)
    with served() as server, closing(connected(server)) as connection:
        assert asked(connection, f"GET / HTTP/1.1\r\n{head}\r\n".encode()).startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9911", "[::1]", "[::1]:9911", "LOCALHOST"])
def test_hosts_of_this_machine_are_answered(host: str) -> None:
    assert refuse_stranger({"host": host}) is None
