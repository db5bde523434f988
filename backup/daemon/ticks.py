"""Ticks of the daemon: APScheduler calls each full minute, in UTC; it decides nothing.

Its own triggers count each time that was missed, one by one: millions when a clock without a battery, which
began in 1970, is set. And it keeps a tick that was set while the clock was ahead: `reset_late` does not.
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
    """Calls something at once, and then each full minute; two calls never overlap."""

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
        """Begin to tick."""
        self._scheduler.start()

    def reset_late(self) -> None:
        """Set a tick again that is too far ahead because the clock was ahead when it was set."""
        last = SystemClock().now() + timedelta(seconds=TICK_SECONDS) + SLACK  # APScheduler knows no other
        for timer in self._scheduler.get_jobs():
            if timer.next_run_time is not None and timer.next_run_time > last:
                _log.warning("this machine's clock was set back: what is due is looked at by its new time")
                self._scheduler.reschedule_job(timer.id, trigger=timer.trigger)

    def stop(self, seconds: float) -> bool:
        """Tick no more; whether no call is at work any more after so long."""
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
