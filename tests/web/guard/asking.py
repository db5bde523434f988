"""A layer of the guard by itself: one request in this process, no network."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from msgspec import Struct
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Answer(Struct, frozen=True):
    """What a layer answered; `scope` is what the application below was given, None if it was not reached."""

    status: int
    headers: Headers
    body: bytes
    scope: Scope | None


class Below:
    """An application that answers 200, and remembers that it was asked."""

    def __init__(self, status: int = 200) -> None:
        self.scope: Scope | None = None
        self.status = status

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        self.scope = scope
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b"below"})


def ask(
    layer: ASGIApp,
    below: Below,
    path: str = "/",
    *,
    method: str = "GET",
    query: str = "",
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
) -> Answer:
    """What the layer answers."""
    given = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
    scope: Scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in given],
        "server": ("127.0.0.1", 1),
        "client": ("127.0.0.1", 2),
    }
    told: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        told.append(message)

    async def asked() -> None:
        await layer(scope, receive, send)

    asyncio.run(asked())
    body = b"".join(message.get("body", b"") for message in told[1:])
    return Answer(told[0]["status"], Headers(raw=told[0]["headers"]), body, below.scope)
