"""Turns exceptions of handlers into answers, all in one place: our errors with their message, bugs with a
general one."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backup.errors import NightvaultError, UsageError

Problem = Callable[[Request, int, str, str], Response]
"""Makes the page for a problem: status, sentence, advice."""


class BadParameterError(UsageError):
    """A parameter of a URL or form is invalid: too long, no number, no path. HTTP status 400."""


class NotThereError(UsageError):
    """The requested object does not exist, or no longer. HTTP status 404."""


_STATUS: tuple[tuple[type[NightvaultError], int], ...] = (
    (BadParameterError, 400),
    (UsageError, 404),
    (NightvaultError, 503),
)
_log = logging.getLogger(__name__)


def api_error(
    status: int, kind: str, message: str, advice: str = "", headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return the API's answer for an error."""
    return JSONResponse({"error": {"kind": kind, "message": message, "advice": advice}}, status, headers)


class Faults(Struct, frozen=True):
    """The middleware; `problem` makes the error page."""

    app: ASGIApp
    problem: Problem

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does; what it raises is told, as long as nothing was sent."""
        began = False

        async def noticing(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self.app(scope, receive, noticing)
        except NightvaultError as error:
            status = next(status for kind, status in _STATUS if isinstance(error, kind))
            _log.info("answered with %d: %s", status, error.kind)  # its text may hold what was typed
            told = self._problem_answer(scope, receive, status, error.kind, str(error), error.advice)
        except Exception as error:  # noqa: BLE001  a request must not end the page
            _log.error("unexpected %s at %s", type(error).__name__, _place(error))
            told = self._problem_answer(
                scope, receive, 500, "unexpected", "this page has a fault", "its log says where"
            )
        else:
            return
        if not began:
            await told(scope, receive, send)

    def _problem_answer(
        self, scope: Scope, receive: Receive, status: int, kind: str, sentence: str, advice: str
    ) -> Response:
        if str(scope["path"]).startswith("/api/"):
            return api_error(status, kind, sentence, advice)
        return self.problem(Request(scope, receive), status, sentence, advice)


def _place(error: Exception) -> str:
    """Where it was raised: files and lines, and never a value, which may be a secret."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return " < ".join(
        f"{frame.filename.rpartition('/backup/')[2]}:{frame.lineno}" for frame in reversed(frames)
    )
