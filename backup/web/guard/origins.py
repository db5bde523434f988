"""Refuses requests to other names, which a stranger's page may have made to point here, and from other sites.

A name that an attacker owns can be made to mean 127.0.0.1 (DNS rebinding); the browser then sends that name
as `Host`. What changes something must come from a page of ours: browsers say so in `Sec-Fetch-Site`, and old
ones in `Origin`.
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
    """A layer around the application. `hosts`: the names that are ours, in small letters, without ports.

    `local` is `localhost` with the very port that it listens on, where it listens on this machine alone: an
    attacker's name server has no say in that name, and another program's page has another port.
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
            answer = PlainTextResponse(
                "this page knows GET and POST alone\n", 405, {"Allow": "GET, HEAD, POST"}
            )
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


_WRONG_HOST = "this page is not known by that name: the administrator may add it to hosts in [web]\n"


def host_of(authority: str) -> str | None:
    """The host of `HOST[:PORT]` in small letters, IPv6 without brackets; None if it is none."""
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
    """Whether it is written as an address of this machine: no name server has a say in that."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_same_origin(headers: Headers) -> bool:
    """Whether a page of ours sent this, or a program that is no browser's page."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin")
    if origin is None:
        return False
    return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
