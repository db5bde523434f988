"""The first page: whether all is well, the concerns, and each job with its last thirty nights."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backup.web.context import context_of
from backup.web.pages.frame import answered, framed, heard_status
from backup.web.pages.html import texts
from backup.web.pages.overview_parts import shown
from backup.web.views.overview import overview


@answered
async def show(request: Request) -> Response:
    """Show the overview."""
    context = context_of(request)
    now, daemon = context.clock.now(), await heard_status(request)
    found = await context.reading.view(overview, context.config, now, daemon)
    return await framed(request, "overview.html", here="overview", **shown(found, texts()))


@answered
async def explain(request: Request) -> Response:
    """Show what each kind of concern means, and its page in the documentation."""
    return await framed(request, "help.html", here="overview")


OVERVIEW = (Route("/", show, name="overview"), Route("/help", explain, name="help"))
