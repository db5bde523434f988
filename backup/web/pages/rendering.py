"""Makes the answer to a request from values: a page, or an error page."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from backup.web.context import context_of
from backup.web.daemon_desk import Heard
from backup.web.pages.html import renderer, texts
from backup.web.pages.live import version_of


def page(
    request: Request,
    template: str,
    *,
    status: int = 200,
    here: str = "",
    heard: Heard | None = None,
    **values: Any,
) -> Response:
    """Return the page that a template makes from the values; `heard` is the daemon's status."""
    context = context_of(request)
    now = context.clock.now()
    html = renderer().html(
        template,
        now,
        user=getattr(request.state, "user", None),
        here=here,
        live=heard is not None and not heard.is_away,
        stale=heard is not None and heard.is_away,
        heard_at=heard.at if heard is not None else None,
        read_at=context.reading.as_of(now),
        seen=version_of(heard) if heard is not None else "",
        **values,
    )
    return HTMLResponse(html, status)


def problem(request: Request, status: int, sentence: str, advice: str = "") -> Response:
    """Return an error page: what went wrong, and what to do."""
    title = {
        404: texts().say("This page is not there"),
        403: texts().say("This is not allowed"),
        429: texts().say("Too much at once"),
    }.get(status) or HTTPStatus(status).phrase
    return page(request, "problem.html", status=status, title=title, sentence=sentence, advice=advice)
