"""Archives and money: what is stored by month and job, what is dead and from when it is free, checks."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backup.web.context import context_of
from backup.web.pages.frame import answered, framed
from backup.web.pages.html import texts
from backup.web.pages.months import months
from backup.web.views.money import money


@answered
async def show(request: Request) -> Response:
    """All sums."""
    context = context_of(request)
    found = await context.reading.view(money, context.config, context.clock.now())
    return await framed(request, "archives.html", here="archives", it=found, months=months(found, texts()))


ARCHIVES = (Route("/archives", show, name="archives"),)
