"""Authenticates every request before it is routed.

A browser has a session; a program has a token, for the API or the metrics; a proxy in front of a Unix socket
may name a user in a header. Without a user only the paths in `OPEN` are answered.
"""

from __future__ import annotations

from urllib.parse import quote

from msgspec import Struct
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from backup.protocols import Clock
from backup.web.guard.accounts import Accounts
from backup.web.guard.cookies import SESSION, read_cookie
from backup.web.guard.faults import api_error
from backup.web.guard.users import Scope as TokenScope
from backup.web.guard.users import User, Way

OPEN = ("/login", "/welcome", "/healthz")
"""Answered to strangers; so is what lies below /static/, which is the same on every server."""

_MACHINES = {"/api/": TokenScope.API, "/metrics": TokenScope.METRICS}
_LONGEST_SECRET = 128


class Gate(Struct, frozen=True):
    """The middleware. `user_header`: the proxy's header with the user, trusted on a Unix socket alone."""

    app: ASGIApp
    accounts: Accounts
    clock: Clock
    has_tls: bool
    user_header: str | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer strangers here; let everybody else through, with `state.user`."""
        path = str(scope["path"])
        user = self._user(HTTPConnection(scope), path)
        scope.setdefault("state", {})["user"] = user
        if user is None and path not in OPEN and not path.startswith("/static/"):
            await _to_strangers(scope, path)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _user(self, connection: HTTPConnection, path: str) -> User | None:
        now = self.clock.now()
        token = _token_of(connection.headers)
        if token is not None:
            wanted = next((of for begin, of in _MACHINES.items() if path.startswith(begin)), None)
            return None if wanted is None else self.accounts.user_of_token(token, wanted, now)
        named = connection.headers.getlist(self.user_header) if self.user_header is not None else []
        if len(named) > 1:
            return None  # one is not the proxy's, and nobody knows which
        if named and named[0]:
            return self._named_by_proxy(connection, named[0][:64])
        secret = read_cookie(connection, SESSION, has_tls=self.has_tls)
        if not secret:
            return None
        return self.accounts.user_of_session(secret, now, touch=path != "/events")

    def _named_by_proxy(self, connection: HTTPConnection, name: str) -> User | None:
        """The user whom the proxy names; a session of the same user says whether the password was typed."""
        role = self.accounts.role_of(name)
        if role is None:
            return None
        secret = read_cookie(connection, SESSION, has_tls=self.has_tls)
        own = self.accounts.user_of_session(secret, self.clock.now()) if secret else None
        if own is not None and own.name == name:
            return own
        return User(name, role, Way.PROXY)


def _token_of(headers: Headers) -> str | None:
    kind, _, token = headers.get("authorization", "").partition(" ")
    if not kind:
        return None
    return token.strip()[:_LONGEST_SECRET] if kind.lower() == "bearer" else ""


def _to_strangers(scope: Scope, path: str) -> Response:
    if any(path.startswith(begin) for begin in _MACHINES):
        headers = {"WWW-Authenticate": 'Bearer realm="nightvault"'}
        return api_error(401, "login", "a token is needed", "`nightvault web token add`", headers)
    if scope["method"] in {"GET", "HEAD"} and path != "/events":
        query = scope["query_string"].decode("latin-1")
        target = path + (f"?{query}" if query else "")
        return RedirectResponse("/login" + (f"?next={quote(target, safe='')}" if target != "/" else ""), 303)
    return PlainTextResponse("log in first\n", 401)
