"""Values into HTML."""

from __future__ import annotations

from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response


def page(request: Request, template: str, *, status: int = 200, **values: object) -> Response:  # noqa: ARG001
    """The page that a template makes of these values."""
    rows = "".join(f"<dt>{escape(key)}</dt><dd>{escape(str(value))}</dd>" for key, value in values.items())
    return HTMLResponse(f"<!doctype html><title>{escape(template)}</title><dl>{rows}</dl>", status)


def problem(request: Request, status: int, sentence: str, advice: str = "") -> Response:
    """A page that says what went wrong and what to do."""
    return page(request, "problem.html", status=status, sentence=sentence, advice=advice)
