"""Limits of a request: length of its URL, size of its body, and the time to read the answer."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl

from msgspec import Struct
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backup.web.guard.faults import BadParameterError

LONGEST_BODY = 64 * 1024
LONGEST_TARGET = 8 * 1024
LARGEST_HEAD = 16 * 1024
_MOST_FIELDS = 64
_SECONDS = 30.0


class Bounds(Struct, frozen=True):
    """The middleware that applies these limits; a client that is too slow is disconnected."""

    app: ASGIApp
    seconds: float = _SECONDS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse with 413, 414 or 431 what is too large, with 400 what two readers would read differently.

        Each message of the answer has so many seconds.
        """
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        if "content-length" in headers and "transfer-encoding" in headers:
            answer = PlainTextResponse("one length, please\n", 400, {"Connection": "close"})  # RFC 9112, 6.1
            await answer(scope, receive, send)
            return
        too_long = len(scope["raw_path"]) + len(scope["query_string"]) > LONGEST_TARGET
        head = sum(len(name) + len(value) for name, value in scope["headers"])
        if head > LARGEST_HEAD:
            await PlainTextResponse("too large\n", 431, {"Connection": "close"})(scope, receive, send)
            return
        if too_long or (length.isdecimal() and len(length) < 20 and int(length) > LONGEST_BODY):
            answer = PlainTextResponse("too large\n", 414 if too_long else 413, {"Connection": "close"})
            await answer(scope, receive, send)
            return

        async def in_time(message: Message) -> None:
            async with asyncio.timeout(self.seconds):
                await send(message)

        await self.app(scope, receive, in_time)


async def read_form(request: Request, *, seconds: float = 10.0) -> dict[str, str]:
    """Return the fields of a submitted form; of a repeated field the last.

    `BadParameterError`: its body is too large, too slow, or no form.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise BadParameterError("a form is expected")
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                body += piece
                if len(body) > LONGEST_BODY:
                    raise BadParameterError("the form is too large")
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except TimeoutError as error:
        raise BadParameterError("the form came too slowly") from error
    except ValueError as error:
        raise BadParameterError("this is no form") from error
    return dict(pairs)
