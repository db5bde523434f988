"""The page of a real installation on a loopback port, and a client that is logged in.

with running_page(server) as page:              # a Server of tests.support.servers, init and backups done
    client = page.login()                       # an operator; or page.stranger()
    answer = client.get("/")                    # answer.status, .headers, .text, .json()
    page.context                                # the WebContext
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email.message import Message
from functools import cache
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode

import uvicorn
from msgspec import Struct

from backup.config import Config, load_config
from backup.protocols import Clock
from backup.web.app import build
from backup.web.context import WebContext
from backup.web.daemon_desk import Ask, away
from backup.web.guard.passwords import hash_password
from backup.web.guard.users import Role
from backup.web.server import BoundedProtocol, server_options
from tests.support.servers import Server

NAME, PASSWORD = "ada", "four words of a tale"
VIEWER = "vi"


class Answer(Struct, frozen=True):
    """What came back."""

    status: int
    headers: Message
    body: bytes
    cookies: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Client:
    """A browser of sorts: it keeps cookies, says where its forms come from, and follows nothing."""

    host: str
    port: int
    cookies: dict[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None

    @property
    def authority(self) -> str:
        """What it asks for as `Host`."""
        return f"{self.host}:{self.port}"

    def get(self, path: str, **headers: str) -> Answer:
        """Ask for a page; headers by name, with _ for -."""
        return self.send(
            "GET", path, headers={key.replace("_", "-"): value for key, value in headers.items()}
        )

    def post(self, path: str, fields: Mapping[str, str] | None = None, **headers: str) -> Answer:
        """Send a form of a page of ours."""
        given = {key.replace("_", "-"): value for key, value in headers.items()}
        form = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
        return self.send("POST", path, headers=form | given, body=urlencode(fields or {}).encode())

    def send(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Send any request."""
        connection = self._connection()
        jar = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        try:
            connection.request(method, path, body, {**({"Cookie": jar} if jar else {}), **(headers or {})})
            found = connection.getresponse()
            given = found.headers.get_all("Set-Cookie") or []
            self._keep(given)
            return Answer(found.status, found.headers, found.read(), tuple(given))
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self.tls is None:
            return http.client.HTTPConnection(self.host, self.port, timeout=30)
        return http.client.HTTPSConnection(self.host, self.port, timeout=30, context=self.tls)

    def _keep(self, given: list[str]) -> None:
        for line in given:
            for name, morsel in SimpleCookie(line).items():
                if morsel["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value


@dataclass
class Page:
    """A running page."""

    context: WebContext
    host: str
    port: int
    tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    def stranger(self) -> Client:
        """A client that nobody knows."""
        return Client(self.host, self.port, tls=self.tls)

    def login(self, name: str = NAME, password: str = PASSWORD) -> Client:
        """A client that logged in by the form."""
        client = self.stranger()
        answer = client.post("/login", {"name": name, "password": password})
        assert answer.status == 303, answer.text
        return client


@cache
def _hashed() -> str:
    return hash_password(PASSWORD)


@contextmanager
def running_page(
    server: Server | Config,
    *,
    clock: Clock | None = None,
    ask: Ask = away,
    protocol: type[BoundedProtocol] = BoundedProtocol,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Page]:
    """The page of a server, with the operator `ada` and the viewer `vi`, who have the same password.

    `protocol`: one with other bounds. `tls`: what clients trust, where the config has TLS.
    """
    config = load_config(str(server.config)) if isinstance(server, Server) else server
    at = clock or (server.clock if isinstance(server, Server) else None)
    assert at is not None, "a config alone needs a clock"
    context = WebContext.of(config, at, ask)
    add_users(context, at.now())
    with _served(context, protocol) as (host, port):
        yield Page(context, host, port, tls)


def add_users(context: WebContext, now: datetime) -> None:
    """The two users that tests log in as."""
    known = {user.name for user in context.accounts.users()}
    for name, role in ((NAME, Role.OPERATOR), (VIEWER, Role.VIEWER)):
        if name not in known:
            context.accounts.add_user(name, role, _hashed(), now)


@contextmanager
def _served(context: WebContext, protocol: type[BoundedProtocol]) -> Iterator[tuple[str, int]]:
    listening = socket.create_server(("127.0.0.1", 0))
    host, port = listening.getsockname()
    files = (context.settings.certificate, context.settings.private_key)
    tls = {"ssl_certfile": files[0], "ssl_keyfile": files[1]} if files[0] else {}
    running = uvicorn.Server(server_options(build(context), protocol=protocol, **tls))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        until = time.monotonic() + 20
        while not running.started:
            assert time.monotonic() < until, "the page did not start"
            time.sleep(0.01)
        yield host, port
    finally:
        running.should_exit = True
        thread.join(20)
        listening.close()
        context.close()
