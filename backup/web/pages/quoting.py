"""What a restore of a selection would cost, and the command; restoring belongs here, later."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backup.web.context import context_of
from backup.web.pages.frame import answered, framed
from backup.web.pages.html import texts
from backup.web.pages.links import Asked
from backup.web.pages.tiers import hours, tier_word
from backup.web.views.quoting import quote


@answered
async def show(request: Request) -> Response:
    """What restoring the chosen paths costs, and the command for it."""
    context, asked = context_of(request), Asked(request.scope["query_string"])
    found = await context.reading.view(
        quote, context.config, context.clock.now(), asked.text("snapshot") or "", asked.paths() or [b"/"]
    )
    said = texts()
    return await framed(
        request,
        "quote.html",
        here="browse",
        it=found,
        tier_word=lambda tier: tier_word(tier, said),
        hours=lambda bounds: hours(bounds, said),
    )


QUOTING = (Route("/quote", show, name="quote"),)
