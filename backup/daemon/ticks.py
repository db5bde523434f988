"""Ticks of the daemon: APScheduler calls a function each full minute, in UTC; it schedules nothing else.

Its own triggers would step through every missed time: millions when a clock that started in 1970 is set. It
also keeps a tick that was planned while the clock was ahead; `reset_late` plans that again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from backup.app.base.clock import SystemClock

TICK_SECONDS = 60
SLACK = timedelta(seconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_log = logging.getLogger(__name__)


class Ticks:
    """Calls a function at once, and then each full minute; calls never overlap."""

    def __init__(self, call: Callable[[], None]) -> None:
        from apscheduler.executors.pool import ThreadPoolExecutor
        from apscheduler.schedulers.background import BackgroundScheduler

        # A tick that finds the last one still running is skipped, and APScheduler warns of it each time.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        self._scheduler = BackgroundScheduler(executors={"default": ThreadPoolExecutor(1)}, timezone=UTC)
        often = {"misfire_grace_time": None, "coalesce": True, "next_run_time": SystemClock().now()}
        self._call, self._at_work = call, threading.Lock()
        self._scheduler.add_job(self._tick, _every(TICK_SECONDS), id="look", **often)

    def _tick(self) -> None:
        if not self._at_work.acquire(blocking=False):
            return  # stopped: to wait here would keep the process from ending
        try:
            self._call()
        finally:
            self._at_work.release()

    def start(self) -> None:
        """Start the ticks."""
        self._scheduler.start()

    def reset_late(self) -> None:
        """Plan the next tick again if it is too far ahead, as the clock was ahead when it was planned."""
        last = SystemClock().now() + timedelta(seconds=TICK_SECONDS) + SLACK  # APScheduler knows no other
        for timer in self._scheduler.get_jobs():
            if timer.next_run_time is not None and timer.next_run_time > last:
                _log.warning("this machine's clock was set back: what is due is looked at by its new time")
                self._scheduler.reschedule_job(timer.id, trigger=timer.trigger)

    def stop(self, seconds: float) -> bool:
        """Stop the ticks, and wait up to `seconds` for a call in progress; return whether it has ended."""
        self._scheduler.shutdown(wait=False)
        return self._at_work.acquire(timeout=seconds)


def _every(seconds: float) -> Any:
    """An APScheduler trigger: each `seconds`, on full multiples of them; it knows the next time alone."""
    from apscheduler.triggers.base import BaseTrigger

    step = timedelta(seconds=seconds)

    class Every(BaseTrigger):  # type: ignore[misc]  # it has no types
        def get_next_fire_time(self, _previous: datetime | None, now: datetime) -> datetime:
            return now + step - (now - _EPOCH) % step

    return Every()
