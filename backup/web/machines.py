"""Routes for monitoring: a health check, open to everybody; the metrics, with a token for them."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from backup.app.status.metrics import metrics_text
from backup.web.context import context_of
from backup.web.pages.overview import the_status

_KEPT = timedelta(seconds=15)


async def health(_request: Request) -> Response:
    """Answer "ok", as a sign that the process runs."""
    return PlainTextResponse("ok\n")


class Metrics:
    """The handler of the metrics, which are computed at most every 15 seconds."""

    def __init__(self) -> None:
        self._made: tuple[datetime, object, str] | None = None
        self._lock = asyncio.Lock()

    async def __call__(self, request: Request) -> Response:
        """The text that Prometheus reads."""
        context = context_of(request)
        now = context.clock.now()
        async with self._lock:
            made = self._made
            if made is None or made[1] is not context or abs(now - made[0]) > _KEPT:
                text = metrics_text(await context.reading.view(the_status, context.config, now, None))
                made = self._made = (now, context, text)
        return PlainTextResponse(made[2], media_type="text/plain; version=0.0.4")


async def metrics(request: Request) -> Response:
    """Answer with the metrics, in the same form as `status --metrics` writes."""
    state = request.app.state
    if not hasattr(state, "metrics"):
        state.metrics = Metrics()
    made: Metrics = state.metrics
    return await made(request)


MACHINES = (Route("/healthz", health, name="health"), Route("/metrics", metrics, name="metrics"))
