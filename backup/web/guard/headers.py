"""The security headers of every answer, also of errors."""

from __future__ import annotations

from msgspec import Struct
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "X-Robots-Tag": "noindex, nofollow",
}
_KEPT = "private, max-age=3600"
_TLS = "max-age=31536000"


class SafeHeaders(Struct, frozen=True):
    """The middleware that adds them; browsers may cache only style, script and icons."""

    app: ASGIApp
    has_tls: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does, with these headers."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                is_static = str(scope["path"]).startswith("/static/") and message["status"] == 200
                headers["Cache-Control"] = _KEPT if is_static else "no-store"
                if self.has_tls:
                    headers["Strict-Transport-Security"] = _TLS
            await send(message)

        await self.app(scope, receive, with_headers)
