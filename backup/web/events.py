"""The stream of a browser: a line whenever the daemon's status has changed.

Nothing is asked while nobody looks.

    event: status
    data: {"running": ["backup main"], "queued": 0, "away": false}

Streams are few, and live for ten minutes; the browser then opens a new one.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from backup.web.context import context_of, user_of
from backup.web.daemon_desk import DaemonDesk, Heard

MOST_STREAMS, _MOST_OF_A_USER = 100, 4
_LIFE_SECONDS = 600.0
_BUSY_SECONDS, _IDLE_SECONDS, _SIGN_SECONDS = 2.0, 10.0, 30.0
_open: Counter[str] = Counter()


async def events(request: Request) -> Response:
    """The stream. 204 tells a browser not to come again: its user has enough of them, or all are taken."""
    context, who = context_of(request), user_of(request)
    key = (who.session or b"").hex() or who.name
    if _open.total() >= MOST_STREAMS or _open[key] >= _MOST_OF_A_USER:
        return Response(status_code=204)
    return StreamingResponse(_stream(context.daemon, key, request), media_type="text/event-stream")


async def _stream(desk: DaemonDesk, key: str, request: Request) -> AsyncIterator[str]:
    _open[key] += 1
    loop = asyncio.get_running_loop()
    until, told, said_at = loop.time() + _LIFE_SECONDS, "", loop.time()
    try:
        yield "retry: 5000\n\n"
        while loop.time() < until and not await request.is_disconnected():
            heard = await desk.status()
            now = json.dumps(_summary(heard))
            if now != told:
                told, said_at = now, loop.time()
                yield f"event: status\ndata: {now}\n\n"
            elif loop.time() - said_at >= _SIGN_SECONDS:
                said_at = loop.time()
                yield ": here\n\n"
            await asyncio.sleep(_BUSY_SECONDS if _is_busy(heard) else _IDLE_SECONDS)
    finally:
        _open[key] -= 1
        if _open[key] <= 0:
            del _open[key]


def _is_busy(heard: Heard) -> bool:
    return any(task["state"] in {"running", "queued"} for task in heard.tasks)


def _summary(heard: Heard) -> dict[str, Any]:
    """What a page has to show anew: what runs and how far, what waits, and whether the daemon is there."""
    running = [
        {"task": str(task["text"]), "progress": task["progress"]}
        for task in heard.tasks
        if task["state"] == "running"
    ]
    queued = [str(task["text"]) for task in heard.tasks if task["state"] == "queued"]
    return {"running": running, "queued": queued, "away": heard.is_away}


EVENTS = (Route("/events", events, name="events"),)
