"""Code that all pages for users share: the daemon's status, and error pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from backup.errors import LockedError
from backup.web.context import context_of
from backup.web.pages.rendering import page, problem
from backup.web.views.daemon import DaemonStatus, daemon_status
from backup.web.views.errors import BadParameterError, NotThereError

Handler = Callable[[Request], Awaitable[Response]]


def answered(handler: Handler) -> Handler:
    """Wrap a handler: errors of the request become pages with status 400, 404 or 503."""

    @wraps(handler)
    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except NotThereError as error:
            return problem(request, 404, str(error), error.advice or "")
        except BadParameterError as error:
            return problem(request, 400, str(error), error.advice or "")
        except LockedError as error:
            return problem(request, 503, str(error), error.advice or "")

    return guarded


async def framed(request: Request, template: str, *, here: str, **values: Any) -> Response:
    """Return a page for a user who is logged in; `here` is its entry in the navigation."""
    heard = await context_of(request).daemon.status()
    return page(request, template, here=here, heard=heard, **values)


async def heard_status(request: Request) -> DaemonStatus | None:
    """Return the daemon's status; None if it does not answer."""
    heard = await context_of(request).daemon.status()
    return None if heard.is_away else daemon_status(heard.document)
