"""The web page's connection to the daemon: its status, cached for a second, and requests to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from typing import Any

from msgspec import Struct

from backup.errors import DaemonAwayError, LockedError, NightvaultError
from backup.protocols import Clock

Ask = Callable[[Mapping[str, object]], dict[str, Any]]
"""Sends one request to the daemon. `DaemonAwayError`, `StateDeniedError`, and the daemon's own errors."""

_AT_ONCE, _MOST_WAITING = 4, 32
_KEPT_SECONDS = 1.0
_log = logging.getLogger(__name__)


class Heard(Struct, frozen=True):
    """The daemon's last status: `document` is the daemon's part of `nightvault status --json`, or None.

    While the daemon does not answer, `is_away` is set, and `document` is its last answer, given at `at`.
    """

    asked_at: datetime
    at: datetime | None
    document: Mapping[str, Any] | None
    is_away: bool

    @property
    def tasks(self) -> list[Mapping[str, Any]]:
        """The daemon's tasks; empty if it never answered."""
        return list(self.document["tasks"]) if self.document else []


class DaemonDesk:
    """The page's only connection to the daemon: however many viewers there are, it asks once a second."""

    def __init__(self, ask: Ask, clock: Clock) -> None:
        self._ask, self._clock = ask, clock
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="ask")
        self._heard: Heard | None = None
        self._is_old = True
        self._lock: asyncio.Lock | None = None
        self._waiting = 0
        self._asked = asyncio.Event()

    async def status(self) -> Heard:
        """Return the daemon's status, at most a second old; the last one, so marked, if it is away."""
        self._lock = self._lock or asyncio.Lock()
        async with self._lock:
            now = self._clock.now()
            heard = self._heard
            if heard is None or self._is_old or abs((now - heard.asked_at).total_seconds()) >= _KEPT_SECONDS:
                self._is_old = False
                heard = self._heard = await self._hear(now)
            return heard

    async def _hear(self, now: datetime) -> Heard:
        before = self._heard
        try:
            return Heard(now, now, await self.ask({"do": "status"}), is_away=False)
        except NightvaultError as error:
            if before is None or not before.is_away:
                _log.warning("the daemon gives no status: %s", error)
            at, document = (before.at, before.document) if before is not None else (None, None)
            return Heard(now, at, document, is_away=True)

    async def ask(self, request: Mapping[str, object]) -> dict[str, Any]:
        """Return the daemon's answer to a request, or raise its error. `LockedError` if too many wait."""
        if self._waiting >= _MOST_WAITING:
            raise LockedError("too many requests wait for the daemon", advice="try again in a moment")
        self._waiting += 1
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._threads, self._ask, request)
        finally:
            self._waiting -= 1
        if request.get("do") != "status":
            self._is_old = True  # it changed what the status says
            self._asked.set()
            self._asked = asyncio.Event()
        return answer

    async def rest(self, seconds: float) -> None:
        """Wait `seconds`, or until a request to the daemon has changed its status."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._asked.wait()

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)


def away(_request: Mapping[str, object]) -> dict[str, Any]:
    """Raise `DaemonAwayError`: the `Ask` for a page without a daemon."""
    raise DaemonAwayError("there is no daemon", advice="`nightvault daemon` starts one")
