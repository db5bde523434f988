"""The page with the quote of a restore of chosen paths, and the command for it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backup.model import Tier
from backup.web.context import context_of
from backup.web.pages.frame import answered, framed
from backup.web.pages.html import texts
from backup.web.pages.links import PageParameters
from backup.web.texts import Texts
from backup.web.views.quoting import quote


def tier_word(tier: Tier, said: Texts) -> str:
    """Return a tier as a heading."""
    return {
        Tier.EXPEDITED: said.say("Expedited"),
        Tier.STANDARD: said.say("Standard"),
        Tier.BULK: said.say("Bulk"),
    }[tier]


def hours(bounds: tuple[float, float], said: Texts) -> str:
    """Return how long a tier takes, as text: minutes below an hour, days above two."""
    least, most = bounds
    if most <= 0:
        return said.say("at once")
    if most < 1:
        return said.say("%(least)s to %(most)s min", least=round(least * 60), most=round(most * 60))
    if most == least:
        return said.say("up to %(most)s h", most=f"{most:g}")
    return said.say("%(least)s to %(most)s h", least=f"{least:g}", most=f"{most:g}")


@answered
async def show(request: Request) -> Response:
    """Show the cost of restoring the chosen paths, and the command for it."""
    context, asked = context_of(request), PageParameters(request.scope["query_string"])
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
