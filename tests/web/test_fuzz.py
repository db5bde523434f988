"""Every route with every kind of parameter, of people who are logged in: no fault, whatever is asked.

The routes are those of the application, so that a new one is asked, too.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Message

from backup.config import load_config
from backup.web.app import build
from backup.web.context import WebContext
from backup.web.guard.users import Scope
from tests.support.pages import NAME, add_users
from tests.support.servers import Server

OWN = {"/events", "/metrics"}  # a stream; what is kept for a while, and has a test of its own
NAMES = [
    "job",
    "snapshot",
    "path",
    "after",
    "before",
    "q",
    "words",
    "run",
    "number",
    "older",
    "newer",
    "kind",
]
NAMES += ["outcome", "tier", "next", "until", "link", "name", "password", "page", "most", "size", "year"]
VALUES = st.one_of(
    st.sampled_from(
        ["", "main", "latest", "1", "0", "-1", "/", "/etc", "..", "%", "*", "None", "9" * 30, "\x00"]
    ),
    st.sampled_from(
        ["2026-11-26", "9999-12-31T23:59:59+14:00", "0001-01-01T00:00:00-14:00", "1e999", "\ud83d\ude00"]
    ),
    st.text(max_size=40),
    st.binary(max_size=20).map(lambda data: data.decode("latin-1")),
)


class Asked:
    """The application, asked without a network."""

    def __init__(self, app: Starlette, cookie: str, token: str) -> None:
        self.app, self.cookie, self.token = app, cookie, token
        self.loop = asyncio.new_event_loop()

    def status(self, method: str, path: str, query: str, body: bytes) -> tuple[int, bytes]:
        """The status and the body."""
        return self.loop.run_until_complete(self._ask(method, path, query, body))

    async def _ask(self, method: str, path: str, query: str, body: bytes) -> tuple[int, bytes]:
        headers = [(b"host", b"127.0.0.1"), (b"sec-fetch-site", b"same-origin")]
        if path.startswith("/api/"):
            headers.append((b"authorization", f"Bearer {self.token}".encode()))
        else:
            headers.append((b"cookie", f"nightvault={self.cookie}".encode()))
        headers.append((b"content-type", b"application/x-www-form-urlencoded"))
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "headers": headers,
            "path": path,
            "raw_path": quote(path, errors="replace").encode(),
            "root_path": "",
            "query_string": query.encode(),
            "server": ("127.0.0.1", 1),
            "client": ("127.0.0.1", 2),
            "asgi": {"version": "3.0"},
        }
        told: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            told.append(message)

        await self.app(scope, receive, send)
        said = b"".join(message.get("body", b"") for message in told[1:])
        return told[0]["status"], said


@pytest.fixture(scope="module")
def asked(one_backup: Server) -> Iterator[Asked]:
    config, now = load_config(str(one_backup.config)), one_backup.clock.now()
    context = WebContext.of(config, one_backup.clock, lambda _: {"tasks": [], "as_of": now.isoformat()})
    add_users(context, now)
    from datetime import timedelta

    token = context.accounts.add_token("fuzz", NAME, Scope.API, now + timedelta(days=1), now)
    made = Asked(build(context), context.accounts.open_session(NAME, now), token)
    yield made
    made.loop.close()
    context.close()


@settings(max_examples=250)
@given(data=st.data())
def test_whatever_is_asked_there_is_an_answer(asked: Asked, data: st.DataObject) -> None:
    routes = [
        known_route
        for known_route in asked.app.routes
        if isinstance(known_route, Route) and known_route.path not in OWN | {"/logout"}
    ]
    route = data.draw(st.sampled_from(routes))
    method = data.draw(st.sampled_from(sorted(route.methods or {"GET"})))
    path = re.sub(r"\{[^}]*\}", lambda _: data.draw(VALUES).replace("\r", "").replace("\n", ""), route.path)
    fields = urlencode(
        data.draw(
            st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=8)), VALUES, max_size=5)
        ),
        errors="replace",
    )
    if route.path == "/login":
        fields = fields.replace("password", "passwort")  # each takes a tenth of a second
    status, said = asked.status(method, path, fields, fields.encode())
    assert status < 500 or status == 503, (method, path, fields, status, said)
    assert b"Traceback" not in said
    assert b"this page has a fault" not in said
