"""Refuses requests with an unknown host name (DNS rebinding), and changes from other sites (CSRF).

An attacker can let a name of his own resolve to 127.0.0.1; the browser then sends that name as `Host`. A
request that changes something must come from our own pages: browsers say that in `Sec-Fetch-Site`, old ones
in `Origin`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_BRACKETED: Final = re.compile(r"\[[^\[\]]+\](?::[0-9]*)?")
SAFE = frozenset({"GET", "HEAD"})
KNOWN = SAFE | {"POST"}


class Origins(Struct, frozen=True):
    """The middleware. `hosts`: the allowed host names, in lower case, without ports.

    `local` is `localhost` with the page's port, if it listens on loopback alone: an attacker's name server
    cannot change that name, and the page of another program has another port.
    """

    app: ASGIApp
    hosts: frozenset[str]
    local: str = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse with 421 another host, with 405 another method, with 403 another site's form."""
        headers = Headers(scope=scope)
        if not self._is_ours(headers.getlist("host")):
            answer = PlainTextResponse(_WRONG_HOST, 421)
        elif scope["method"] not in KNOWN:
            answer = PlainTextResponse("only GET and POST are allowed\n", 405, {"Allow": "GET, HEAD, POST"})
        elif scope["method"] not in SAFE and not is_same_origin(headers):
            answer = PlainTextResponse("this request comes from another site\n", 403)
        else:
            await self.app(scope, receive, send)
            return
        await answer(scope, receive, send)

    def _is_ours(self, named: Sequence[str]) -> bool:
        if len(named) != 1:
            return False
        if self.local and named[0].lower() == self.local:
            return True
        host = host_of(named[0])
        return host is not None and (host in self.hosts or is_loopback(host))


_WRONG_HOST = "this host name is not allowed: the administrator can add it to hosts in [web]\n"


def host_of(authority: str) -> str | None:
    """Return the host of `HOST[:PORT]` in lower case, IPv6 without brackets; None if it is invalid."""
    if authority.startswith("[") and not _BRACKETED.fullmatch(authority):
        return None
    try:
        parts = urlsplit(f"//{authority}")
        _ = parts.port  # refused if it is no number
    except ValueError:
        return None
    if parts.netloc != authority or "@" in authority or not parts.hostname:
        return None
    return parts.hostname.rstrip(".")


def is_loopback(host: str) -> bool:
    """Whether a host is written as a loopback address, which needs no name server."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_same_origin(headers: Headers) -> bool:
    """Whether our own page sent the request, by `Sec-Fetch-Site`, else by `Origin`."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin")
    if origin is None:
        return False
    return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
