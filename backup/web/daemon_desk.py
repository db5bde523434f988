"""The web page's connection to the daemon: its status, cached for a second, and requests to it.

A page contains the version of the daemon's status that it was made from; the stream of events sends the
present version. Progress is not part of the version: it changes all the time, and is updated in place.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from backup.app.status.parts import TaskStatus
from backup.errors import DaemonAwayError, LockedError, NightvaultError
from backup.protocols import Clock
from backup.web.texts import Texts
from backup.wording import duration

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


class DaemonStatus(Struct, frozen=True):
    """The daemon's answer to "status"."""

    as_of: datetime
    waits_for_clock: bool
    tasks: Sequence[TaskStatus]

    def task(self, kind: str, name: str) -> TaskStatus | None:
        """Return the task of a kind and name; None if the daemon does not have it."""
        return next((task for task in self.tasks if (task.kind, task.name) == (kind, name)), None)


def daemon_status(answer: Mapping[str, Any] | None) -> DaemonStatus | None:
    """Return the answer as a value; None without one, or if it cannot be parsed, as from another version."""
    if answer is None:
        return None
    try:
        told = {**answer, "tasks": [_with_figures(task) for task in answer["tasks"]]}
        return msgspec.convert(told, DaemonStatus, strict=False)
    except (AttributeError, KeyError, TypeError, msgspec.ValidationError):
        return None


def _with_figures(task: Mapping[str, Any]) -> dict[str, Any]:
    """A task with the figures of its progress beside the others."""
    progress = task.get("progress") or {}
    figures = {name: progress[name] for name in ("done", "total", "seconds_left") if name in progress}
    return {"vault": None, **task, "phase": progress.get("title"), **figures}


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

    async def parsed(self) -> DaemonStatus | None:
        """Return the daemon's status as a value; None if it is away: what it said before is old."""
        heard = await self.status()
        return None if heard.is_away else daemon_status(heard.document)

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


_OF_A_TASK = ("kind", "name", "state", "last", "ended_at", "run", "paused_until")


def version_of(heard: Heard) -> str:
    """Return a hash that changes when a task begins, ends, waits or is paused, or the daemon comes or goes.

    A new copy of the inventory changes it, too, except while a task runs, since then every copy differs.
    """
    tasks = [[task.get(name) for name in _OF_A_TASK] for task in heard.tasks]
    is_at_rest = all(task.get("state") != "running" for task in heard.tasks)
    copied = heard.document.get("copied_at") if heard.document and is_at_rest else None
    told = json.dumps([heard.is_away, tasks, copied], default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def summary(heard: Heard, said: Texts) -> dict[str, Any]:
    """Return the data of an event: the version, whether the daemon is away, progress of running tasks."""
    return {
        "seen": version_of(heard),
        "away": heard.is_away,
        "running": [
            _running(task, task.get("progress") or {}, said)
            for task in heard.tasks
            if task["state"] == "running"
        ],
    }


def _running(task: Mapping[str, Any], progress: Mapping[str, Any], said: Texts) -> dict[str, Any]:
    return {
        "task": f"{task['kind']}:{task['name']}",
        "told": how_far(progress.get("title") or task.get("waits_for"), progress.get("seconds_left"), said),
        "done": progress.get("done") or 0,
        "total": progress.get("total"),
    }


def how_far(phase: str | None, seconds_left: float | None, said: Texts) -> str:
    """Return the phase of a task and the time left, as text."""
    left = [said.say("%(time)s left", time=duration(seconds_left)).unescape()] if seconds_left else []
    return " · ".join([*([phase] if phase else []), *left])
