"""The application that takes reports: bounded in bytes, time and number; what it refuses is named."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from cryptography import x509
from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from backup.center.database import AT_ONCE
from backup.center.identity import Trust, checked_revocations
from backup.center.joining import join
from backup.center.receive import ChainBrokenError, Taken, TooManyError, take_report
from backup.errors import ConfigError, DeniedError, FormatError, NightvaultError, UnreachableError
from backup.format.host_report import CERTIFICATE, CHAIN, JOIN_PATH, MOST_BYTES, PATH, SIGNATURE
from backup.protocols import Clock
from backup.wording import escape

MOST_WAITING = 64
"""So many requests are held at once, of a report's size each; the next ones are to come again later."""
MOST_A_MINUTE = 120
"""So many requests of one host are looked at in a minute, whatever they are."""
_BODY_SECONDS = 20.0
_COME_AGAIN_SECONDS = 60
_LOOK_SECONDS = 5.0
_MOST_LINES = 20
_STATUS: Mapping[type[NightvaultError], int] = {
    DeniedError: 403,
    ChainBrokenError: 409,
    TooManyError: 429,
    UnreachableError: 503,
    FormatError: 400,
}
_log = logging.getLogger(__name__)


class TrustFiles:
    """Authorities and lists of revoked certificates in PEM files, which are read again when they change."""

    def __init__(
        self, authorities: tuple[str, ...], revocations: tuple[str, ...], names: frozenset[str]
    ) -> None:
        self._authorities, self._revocations, self._names = authorities, revocations, names
        self._stamp, self._looked = self._stamps(), time.monotonic()
        self._trust = self._read()

    def current(self) -> Trust:
        """What is trusted now; as before where the files cannot be read any more."""
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            self._looked = time.monotonic()
            try:
                stamp = self._stamps()
                if stamp != self._stamp:
                    self._trust, self._stamp = self._read(), stamp
            except NightvaultError as error:
                _log.error("what was trusted before is trusted still: %s", error)
        return self._trust

    def _stamps(self) -> list[tuple[int, int]]:
        try:
            found = [os.stat(path) for path in (*self._authorities, *self._revocations)]
        except OSError as error:
            raise ConfigError(f"{error.filename} cannot be read: {error.strerror}") from error
        return [(file.st_mtime_ns, file.st_ino) for file in found]

    def _read(self) -> Trust:
        known = [certificate for path in self._authorities for certificate in _certificates_of(path)]
        try:
            lists = checked_revocations([_revoked_of(path) for path in self._revocations], known)
        except DeniedError as error:
            raise ConfigError(str(error)) from error
        return Trust(known, lists, self._names)


def _bytes_of(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(8 << 20)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def _certificates_of(path: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_bytes_of(path))
    except ValueError as error:
        raise ConfigError(f"{path} holds no certificates: {error}") from error


def _revoked_of(path: str) -> x509.CertificateRevocationList:
    try:
        return x509.load_pem_x509_crl(_bytes_of(path))
    except ValueError as error:
        raise ConfigError(f"{path} holds no list of revoked certificates: {error}") from error


class Receiver:
    """Takes reports by HTTP; the work of each is done in a thread, at most as many as connections."""

    def __init__(
        self, engine: Engine, trust: Callable[[], Trust], clock: Clock, *, uninvited: bool = False
    ) -> None:
        self._engine, self._trust, self._clock = engine, trust, clock
        self._uninvited = uninvited
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="report")
        self._waiting = 0
        self._lines, self._minute = 0, 0.0
        self._came, self._came_since, self._counting = Counter[str](), 0.0, threading.Lock()

    def app(self) -> Starlette:
        """The application: reports, servers that join, and whether it is alive; no more."""
        routes = [
            Route(PATH, self.report, methods=["POST"]),
            Route(JOIN_PATH, self.report, methods=["POST"]),
            Route("/health", self.health),
        ]
        return Starlette(routes=routes)

    async def health(self, request: Request) -> Response:  # noqa: ARG002
        """Answer that the process is alive; it tells nothing of hosts or database."""
        return PlainTextResponse("alive\n")

    async def report(self, request: Request) -> Response:
        """Take one report, or a server that joins, and answer what became of it."""
        if self._waiting >= MOST_WAITING:
            return _refusal(503, "too many at once")
        self._waiting += 1
        try:
            body = await _body_of(request)
            if body is None:
                return _refusal(413, f"more than {MOST_BYTES} bytes, or too slow")
            headers = {name: request.headers.get(name, "") for name in _READ}
            taken = await asyncio.get_running_loop().run_in_executor(
                self._threads, self._take, request.url.path, headers, body
            )
        except NightvaultError as error:
            self._tell(request, error)
            status = next(code for kind, code in _STATUS.items() if isinstance(error, kind))
            return _refusal(status, str(error) if status != 503 else "the center's database is away")
        except ClientDisconnect:
            return _refusal(400, "cut off")
        finally:
            self._waiting -= 1
        return JSONResponse({"taken": str(taken)})

    def _take(self, path: str, headers: Mapping[str, str], body: bytes) -> Taken:
        now = self._clock.now()
        identity = self._trust().identity_of(headers, body, now, path)
        try:
            self._count(identity.host_id)
            if path == JOIN_PATH:
                join(self._engine, identity, body, now)
                return Taken.NEW
            return take_report(self._engine, identity, body, now, uninvited=self._uninvited)
        except NightvaultError as error:
            error.add_note(identity.name)
            raise

    def _count(self, host_id: str) -> None:
        """Count a request of a host, which its signature proves; no database is asked yet. `TooManyError`."""
        with self._counting:
            if time.monotonic() - self._came_since > 60:
                self._came, self._came_since = Counter(), time.monotonic()
            self._came[host_id] += 1
            if self._came[host_id] > MOST_A_MINUTE:
                raise TooManyError(f"more than {MOST_A_MINUTE} requests in a minute")

    def _tell(self, request: Request, error: NightvaultError) -> None:
        """Log what was refused, and of whom; a flood of it is a few lines a minute."""
        if time.monotonic() - self._minute > 60:
            self._minute, self._lines = time.monotonic(), 0
        self._lines += 1
        if self._lines > _MOST_LINES:
            return
        who = " ".join(getattr(error, "__notes__", ())) or (
            request.client.host if request.client else "a socket"
        )
        more = " (no more such lines within this minute)" if self._lines == _MOST_LINES else ""
        _log.warning("a request of %s was refused: %s%s", escape(who), escape(str(error)), more)


_READ = ("host", *(name.lower() for name in (CERTIFICATE, CHAIN, SIGNATURE)))


async def _body_of(request: Request) -> bytes | None:
    """The request's body; None if it is too large, or does not come."""
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or len(length) > 10 or int(length) > MOST_BYTES:
        return None
    found = bytearray()
    with suppress(TimeoutError):
        async with asyncio.timeout(_BODY_SECONDS):
            async for piece in request.stream():
                found += piece
                if len(found) > MOST_BYTES:
                    return None
            return bytes(found)
    return None


def _refusal(status: int, why: str) -> Response:
    later = {"Retry-After": str(_COME_AGAIN_SECONDS)} if status in {429, 503} else {}
    closes = {"Connection": "close"} if status == 413 else {}
    return JSONResponse({"error": escape(why[:300])}, status, {**later, **closes})
