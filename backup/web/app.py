"""Builds the web application: its routes, and the middleware of every request."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from backup.web.api import API
from backup.web.context import WebContext
from backup.web.events import EVENTS
from backup.web.guard.bounds import Bounds
from backup.web.guard.faults import Faults, api_error
from backup.web.guard.gate import Gate
from backup.web.guard.headers import SafeHeaders
from backup.web.guard.origins import Origins, is_loopback
from backup.web.machines import MACHINES
from backup.web.pages.archives import ARCHIVES
from backup.web.pages.browse import BROWSE
from backup.web.pages.changes import CHANGES
from backup.web.pages.html import problem
from backup.web.pages.nights import NIGHTS
from backup.web.pages.overview import OVERVIEW
from backup.web.pages.quote import QUOTE
from backup.web.pages.runs import RUNS
from backup.web.pages.schedule import SCHEDULE
from backup.web.pages.search import SEARCH
from backup.web.pages.signing_in import SIGNING_IN
from backup.web.pages.static import STATIC
from backup.web.pages.versions import VERSIONS

PAGES = (
    *(*OVERVIEW, *RUNS, *NIGHTS, *CHANGES, *BROWSE, *SEARCH, *VERSIONS),
    *(*QUOTE, *ARCHIVES, *SCHEDULE, *SIGNING_IN, *STATIC),
)


def build(context: WebContext) -> Starlette:
    """Return the application. The first middleware is the outermost: its headers are on every answer."""
    settings = context.settings
    layers = [
        Middleware(SafeHeaders, has_tls=settings.has_tls),
        Middleware(Faults, problem=problem),
        Middleware(Bounds),
        Middleware(Origins, hosts=known_hosts(context), local=local_name(context)),
        Middleware(
            Gate,
            accounts=context.accounts,
            clock=context.clock,
            has_tls=settings.has_tls,
            user_header=settings.user_header if settings.is_unix else None,
        ),
    ]
    app = Starlette(
        routes=[*PAGES, *API, *EVENTS, *MACHINES],
        middleware=layers,
        exception_handlers={HTTPException: _refused},
    )
    app.router.redirect_slashes = False
    app.state.context = context
    return app


def known_hosts(context: WebContext) -> frozenset[str]:
    """Return the host names that requests may use; loopback addresses are always allowed."""
    settings = context.settings
    names = {name.lower() for name in settings.hosts}
    if settings.url is not None:
        names.add((urlsplit(settings.url).hostname or "").lower())
    if not settings.is_unix:
        names.add(settings.listen.rpartition(":")[0].strip("[]").lower())
    return frozenset(names - {"", "0.0.0.0", "::"})  # noqa: S104  these are not names, and nobody asks for them


def local_name(context: WebContext) -> str:
    """Return `localhost:PORT` if the page listens on loopback alone, for use through `ssh -L`; else ""."""
    settings = context.settings
    host, _, port = settings.listen.rpartition(":")
    is_local = not settings.is_unix and is_loopback(host.strip("[]"))
    return f"localhost:{port}" if is_local and port != "80" else "localhost" if is_local else ""


async def _refused(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    said = error.detail if isinstance(error, HTTPException) else ""
    if request.url.path.startswith("/api/"):
        return api_error(status, "not-found" if status == 404 else "refused", said)
    return problem(request, status, "there is no such page" if status == 404 else said)
