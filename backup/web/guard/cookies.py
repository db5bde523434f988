"""The two cookies: that of a session, and that of a browser in which somebody has logged in before."""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.responses import Response

SESSION, BROWSER = "nightvault", "nightvault-known"
_KNOWN_SECONDS = 180 * 86_400


def read_cookie(request: HTTPConnection, name: str, *, has_tls: bool) -> str:
    """The secret in a cookie; empty without one."""
    return request.cookies.get(_full(name, has_tls=has_tls), "")


def set_cookie(response: Response, name: str, secret: str, *, has_tls: bool) -> None:
    """Give a browser a cookie that no script reads and no other site sends."""
    response.set_cookie(
        _full(name, has_tls=has_tls),
        secret,
        max_age=_KNOWN_SECONDS if name == BROWSER else None,
        path="/",
        secure=has_tls,
        httponly=True,
        samesite="strict",
    )


def remove_cookie(response: Response, name: str, *, has_tls: bool) -> None:
    """Have a browser forget a cookie."""
    full = _full(name, has_tls=has_tls)
    response.delete_cookie(full, path="/", secure=has_tls, httponly=True, samesite="strict")


def _full(name: str, *, has_tls: bool) -> str:
    """With TLS the prefix by which browsers take it from this host alone, and over TLS alone."""
    return f"__Host-{name}" if has_tls else name
