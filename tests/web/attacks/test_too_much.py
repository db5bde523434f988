"""Too much and too slow: bodies, heads, streams, sessions, connections, clients that do not read."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.client import HTTPException

import pytest
from starlette.requests import Request
from starlette.types import Message

from backup.web.guard.bounds import read_form
from backup.web.guard.faults import BadParameterError
from backup.web.server import BoundedProtocol
from tests.support.pages import NAME, VIEWER, Client, Page, running_page
from tests.support.servers import Server
from tests.web.attacks.asking import FORM, OWN, head, raw


def test_14_what_is_too_large_is_refused(client: Client) -> None:
    form = FORM | {"Sec-Fetch-Site": "same-origin"}
    assert client.send("POST", "/login", headers=form, body=b"a" * 70_000).status == 413
    assert client.send("POST", "/login", headers=form, body=b"&".join([b"a=b"] * 1000)).status == 400
    assert client.get("/?" + "a" * 9000).status == 414
    chunked = f"POST /login HTTP/1.1\r\nHost: {client.authority}\r\nSec-Fetch-Site: same-origin\r\n"
    chunked += "Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n"
    said = raw(client, chunked + ("2000\r\n" + "a" * 0x2000 + "\r\n") * 9 + "0\r\n\r\n")
    assert said.split()[1] == b"400"
    huge = f"GET / HTTP/1.1\r\nHost: {client.authority}\r\nX: {'a' * 40_000}\r\n\r\n"
    assert raw(client, huge).split()[1] in {b"400", b"431"}


def test_14_streams_are_few(web_page: Page) -> None:
    client = web_page.login()
    held = []
    jar = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    try:
        for _ in range(4):
            sock = socket.create_connection((client.host, client.port), timeout=5)
            held.append(sock)
            sock.sendall(
                f"GET /events HTTP/1.1\r\nHost: {client.authority}\r\nCookie: {jar}\r\n\r\n".encode()
            )
            assert b" 200 " in sock.recv(4096)
        assert client.get("/events").status == 204
    finally:
        for sock in held:
            sock.close()


class Impatient(BoundedProtocol):
    """Half a second for everybody, and few connections."""

    most_connections, head_seconds, read_seconds = 20, 0.5, 0.5


@pytest.fixture
def impatient(one_backup: Server) -> Iterator[Page]:
    with running_page(one_backup, protocol=Impatient) as page:
        yield page


def seconds_until_cut_off(sock: socket.socket, drip: bytes = b"") -> float:
    """How long a connection lasts; a byte is sent now and then."""
    began = time.monotonic()
    sock.settimeout(0.1)
    with suppress(ConnectionError):
        while time.monotonic() - began < 20:
            if drip:
                sock.sendall(drip)
            with suppress(TimeoutError):
                if not sock.recv(65536):
                    break
    return time.monotonic() - began


@pytest.mark.parametrize("drip", [b"", b"X"])
def test_14_a_head_that_never_ends_is_cut_off(impatient: Page, drip: bytes) -> None:
    with socket.create_connection((impatient.host, impatient.port), timeout=5) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost:")
        assert seconds_until_cut_off(sock, drip) < 5


def test_14_nothing_at_all_is_cut_off(impatient: Page) -> None:
    with socket.create_connection((impatient.host, impatient.port), timeout=5) as sock:
        assert seconds_until_cut_off(sock) < 5


def test_14_a_body_that_never_ends_is_given_up() -> None:
    async def receive() -> Message:
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b"a", "more_body": True}

    headers = [(b"content-type", b"application/x-www-form-urlencoded")]
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
    with pytest.raises(BadParameterError, match="too slowly"):
        asyncio.run(read_form(request, seconds=0.3))


def test_14_who_never_reads_is_cut_off(impatient: Page) -> None:
    """Many answers are asked for at once, and none is taken: what is not read is kept for half a second."""
    client = impatient.login()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(10)
        sock.connect((client.host, client.port))
        with suppress(ConnectionError, TimeoutError):
            sock.sendall(head(client, "/static/page.css") * 2_000)
        time.sleep(1.5)
        taken = 0
        with suppress(ConnectionError):
            while piece := sock.recv(1 << 20):
                taken += len(piece)
        assert taken < 2_000 * 15_000
    assert client.get("/healthz").status == 200


def test_14_a_stream_that_is_never_read_ends_and_frees_its_place(web_page: Page) -> None:
    client = web_page.login()
    for _ in range(3):
        with ExitStack() as held:
            for _ in range(4):
                sock = held.enter_context(socket.create_connection((client.host, client.port), timeout=5))
                sock.sendall(head(client, "/events"))
            wait_for_204(client)
        until = time.monotonic() + 10
        while client_stream(client) != 200:
            assert time.monotonic() < until


def wait_for_204(client: Client) -> None:
    until = time.monotonic() + 10
    while client_stream(client) != 204:
        assert time.monotonic() < until


def client_stream(client: Client) -> int:
    """The status that a stream is answered with."""
    with socket.create_connection((client.host, client.port), timeout=5) as sock:
        sock.sendall(head(client, "/events"))
        return int(sock.recv(100).split()[1])


def test_14_streams_of_all_users_are_bounded(web_page: Page) -> None:
    accounts, now = web_page.context.accounts, web_page.context.clock.now()
    jars = [accounts.open_session(name, now) for name in (NAME, VIEWER) for _ in range(13)]
    clients = [Client(web_page.host, web_page.port, {"nightvault": jar}) for jar in jars]
    with ExitStack() as held:
        granted = 0
        for client in clients:
            for _ in range(4):
                sock = held.enter_context(socket.create_connection((client.host, client.port), timeout=5))
                sock.sendall(head(client, "/events"))
                granted += sock.recv(100).split()[1] == b"200"
        assert granted == 100


@pytest.mark.usefixtures("real_passwords")
def test_14_few_logins_are_looked_at_at_once(web_page: Page) -> None:
    """Each takes a tenth of a second and 32 MiB."""
    with ThreadPoolExecutor(24) as threads:
        fields = [{"name": f"n{number}", "password": "a wrong one"} for number in range(24)]
        statuses = list(threads.map(lambda form: web_page.stranger().post("/login", form).status, fields))
    assert set(statuses) <= {403, 429, 503}
    assert statuses.count(503) >= 1
    assert statuses.count(403) >= 1


def test_14_a_user_has_twenty_sessions(web_page: Page) -> None:
    accounts, clock = web_page.context.accounts, web_page.context.clock
    opened = []
    for _ in range(25):
        clock.sleep(1)
        opened.append(accounts.open_session(NAME, clock.now()))
    known = [accounts.user_of_session(session, clock.now()) is not None for session in opened]
    assert known == [False] * 5 + [True] * 20


class Few(BoundedProtocol):
    """Twenty connections, with time enough."""

    most_connections = 20


def test_14_connections_are_bounded(one_backup: Server) -> None:
    with running_page(one_backup, protocol=Few) as page, ExitStack() as held:
        socks = [
            held.enter_context(socket.create_connection((page.host, page.port), timeout=5)) for _ in range(60)
        ]
        closed = 0
        for sock in socks[20:]:
            with suppress(ConnectionError):
                closed += sock.recv(1) == b""
                continue
            closed += 1
        assert closed == 40
        socks[0].settimeout(0.2)
        with pytest.raises(TimeoutError):
            socks[0].recv(1)
        for sock in socks:
            sock.close()
        until = time.monotonic() + 10
        while True:
            with suppress(ConnectionError, HTTPException):
                assert page.stranger().get("/healthz").status == 200
                break
            assert time.monotonic() < until


def test_14_a_head_and_fields_are_bounded(client: Client) -> None:
    many = {f"X-{number}": "a" * 100 for number in range(200)}
    assert client.send("GET", "/", headers=many).status in {400, 431}
    assert client.send("GET", "/", headers={"X": "a" * 17_000}).status == 431
    start = f"POST /login HTTP/1.1\r\nHost: {client.authority}\r\nSec-Fetch-Site: same-origin\r\n"
    start += f"Content-Type: {FORM['Content-Type']}\r\n"
    for length in ("-1", "1e9", "9" * 30, "70000"):
        said = raw(client, f"{start}Content-Length: {length}\r\n\r\n")
        assert said == b"" or said.split()[1] in {b"400", b"413"}, length
    assert client.send("POST", "/login", headers=FORM | OWN, body=b"name=x&password=y").status == 403
