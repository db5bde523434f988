"""The first page: is all well."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backup.inventory import runs
from backup.inventory.database import Transaction
from backup.web.context import context_of
from backup.web.pages.rendering import page


def _count(tx: Transaction) -> int:
    return len(runs.list_runs(tx))


async def overview(request: Request) -> Response:
    """All jobs at a glance."""
    context = context_of(request)
    return page(request, "overview.html", runs=await context.reading.view(_count))


OVERVIEW = (Route("/", overview, name="overview"),)
