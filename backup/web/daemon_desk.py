"""What the daemon says: its status, kept for a moment, and what it is asked to do."""

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
    """The daemon's status as last heard: `document` as `nightvault status --json` has its daemon, or None.

    While the daemon is away `document` stays what it said last, at `at`, and `is_away` says that it is old.
    """

    asked_at: datetime
    at: datetime | None
    document: Mapping[str, Any] | None
    is_away: bool

    @property
    def tasks(self) -> list[Mapping[str, Any]]:
        """What runs, waits and is next; empty if that was never heard."""
        return list(self.document["tasks"]) if self.document else []


class DaemonDesk:
    """The one place of the page that asks the daemon, so that many viewers are one question a second."""

    def __init__(self, ask: Ask, clock: Clock) -> None:
        self._ask, self._clock = ask, clock
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="ask")
        self._heard: Heard | None = None
        self._is_old = True
        self._lock: asyncio.Lock | None = None
        self._waiting = 0
        self._asked = asyncio.Event()

    async def status(self) -> Heard:
        """The daemon's status, at most a second old; or the last one, marked, if the daemon is away."""
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
        """The daemon's answer; its errors are raised. `LockedError` if very many wait for one."""
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
        """Wait so long, or until the daemon was asked for something that changes its status."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._asked.wait()

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(cancel_futures=True)


def away(_request: Mapping[str, object]) -> dict[str, Any]:
    """An `Ask` where there is no daemon."""
    raise DaemonAwayError("there is no daemon", advice="`nightvault daemon` starts one")
