"""Server-sent events: a browser gets a line whenever the daemon's status has changed.

While no browser is connected, the daemon is not asked.

    event: status
    data: {"seen": "5e0c19af37b2d4aa", "away": false, "running":
           [{"task": "backup:main", "told": "reading · 7 min left", "done": 4100, "total": 9700}]}

Streams are few, and live for ten minutes; the browser then opens a new one.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from backup.web.context import WebContext, context_of, user_of
from backup.web.daemon_desk import Heard, summary
from backup.web.guard.users import User
from backup.web.pages.html import texts

MOST_STREAMS, _MOST_OF_A_USER = 100, 4
_LIFE_SECONDS = 600.0
_BUSY_SECONDS, _IDLE_SECONDS, _SIGN_SECONDS = 2.0, 10.0, 30.0
_open: Counter[str] = Counter()


async def events(request: Request) -> Response:
    """Answer with the stream; with 204, which stops the browser's retries, if there are too many streams."""
    context, who = context_of(request), user_of(request)
    key = (who.session or b"").hex() or who.name
    if _open.total() >= MOST_STREAMS or _open[key] >= _MOST_OF_A_USER:
        return Response(status_code=204)
    return _CountedStream(_stream(context, who, request), key)


class _CountedStream(StreamingResponse):
    """A stream that counts as its user's from when it was granted until it ends, however it ends."""

    def __init__(self, stream: AsyncIterator[str], key: str) -> None:
        super().__init__(stream, media_type="text/event-stream")
        self._key = key
        _open[key] += 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            _open[self._key] -= 1
            if _open[self._key] <= 0:
                del _open[self._key]


async def _stream(context: WebContext, who: User, request: Request) -> AsyncIterator[str]:
    desk, loop = context.daemon, asyncio.get_running_loop()
    until, told, said_at = loop.time() + _LIFE_SECONDS, "", loop.time()
    yield "retry: 5000\n\n"
    while loop.time() < until and _may_listen(context, who) and not await request.is_disconnected():
        heard = await desk.status()
        now = json.dumps(summary(heard, texts()))
        if now != told:
            told, said_at = now, loop.time()
            yield f"event: status\ndata: {now}\n\n"
        elif loop.time() - said_at >= _SIGN_SECONDS:
            said_at = loop.time()
            yield ": here\n\n"
        await desk.rest(_BUSY_SECONDS if _is_busy(heard) else _IDLE_SECONDS)


def _may_listen(context: WebContext, who: User) -> bool:
    """Whether who listens is still logged in: a stream ends with its session, and with its user."""
    if who.session is None:
        return context.accounts.role_of(who.name) is not None
    return context.accounts.is_open(who.session, context.clock.now())


def _is_busy(heard: Heard) -> bool:
    return any(task["state"] in {"running", "queued"} for task in heard.tasks)


EVENTS = (Route("/events", events, name="events"),)
