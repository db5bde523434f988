"""The two cookies: of a session, and of a browser in which a user has logged in before."""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.responses import Response

SESSION, BROWSER = "nightvault", "nightvault-known"
_KNOWN_SECONDS = 180 * 86_400


def read_cookie(request: HTTPConnection, name: str, *, has_tls: bool) -> str:
    """Return the secret in a cookie; empty without one."""
    return request.cookies.get(_full(name, has_tls=has_tls), "")


def set_cookie(response: Response, name: str, secret: str, *, has_tls: bool) -> None:
    """Set a cookie that scripts cannot read (HttpOnly), and that other sites do not send (SameSite)."""
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
    """Delete a cookie in the browser."""
    full = _full(name, has_tls=has_tls)
    response.delete_cookie(full, path="/", secure=has_tls, httponly=True, samesite="strict")


def _full(name: str, *, has_tls: bool) -> str:
    """With TLS the prefix by which browsers take it from this host alone, and over TLS alone."""
    return f"__Host-{name}" if has_tls else name
