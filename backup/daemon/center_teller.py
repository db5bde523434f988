"""Tells a center how this server is, when a run has ended and now and then; nothing waits for this thread.

A center that is away, or refuses this server, is tried again later and later. Times are spread at random, so
that many servers do not come at once: after a night's time, or when their center is there again.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from backup.config import Config
from backup.daemon.task_run import TaskEnd, TaskRun, on_a_thread
from backup.errors import NightvaultError

LONGEST_PAUSE = 3600.0
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class CenterTeller:
    """A watcher; `tell` tells the center of a config. Each `look_seconds` without a run it is told, too;
    through a bucket each `bucket_seconds`.

    What is told waits for up to `spread_seconds` first; a center that is away, for `away_seconds` and then
    twice as long each time, up to an hour.
    """

    config: Callable[[], Config]
    tell: Callable[[Config], object]
    look_seconds: float = 300.0
    bucket_seconds: float = 3600.0
    spread_seconds: float = 20.0
    away_seconds: float = 60.0
    chance: random.Random = field(default_factory=random.Random)
    _woken: threading.Event = field(default_factory=threading.Event, init=False)
    _stop: threading.Event = field(default_factory=threading.Event, init=False)
    _failed: int = field(default=0, init=False)

    def began(self, run: TaskRun) -> None:
        """Do nothing: a run is told when it has ended."""

    def ended(self, run: TaskRun, end: TaskEnd) -> None:  # noqa: ARG002
        """Wake the thread: a run has ended, or waits."""
        self._woken.set()

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Tell the center on a thread until the body ends; what is being sent then is sent again later."""
        with on_a_thread(self._go, "center", self._stop, self._woken):
            yield

    def _go(self) -> None:
        while not self._stop.wait(self.chance.uniform(0, self.spread_seconds)):
            self._woken.clear()
            self._once()
            if self._failed:
                self._stop.wait(pause_after(self._failed, self.away_seconds, self.chance))
            else:
                self._woken.wait(self._pause())

    def _pause(self) -> float:
        """For how long nothing is told without a run: in a bucket each report is an object that is paid."""
        center = self.config().center
        return self.bucket_seconds if center is not None and center.is_in_bucket else self.look_seconds

    def _once(self) -> None:
        config = self.config()
        if config.center is None:
            self._failed = 0
            return
        try:
            self.tell(config)
        except NightvaultError as error:
            self._failed += 1
            level = logging.WARNING if self._failed == 1 else logging.DEBUG
            _log.log(level, "the center cannot be told, and is tried again later: %s", error)
        except Exception as error:  # noqa: BLE001  the next time may go well
            self._failed += 1
            _log.error("the center cannot be told: unexpected %s: %s", type(error).__name__, error)
            _log.debug("where it happened", exc_info=error)
        else:
            if self._failed:
                _log.info("the center is told again")
            self._failed = 0


def pause_after(failed: int, away_seconds: float, chance: random.Random) -> float:
    """For how long a center that failed so often is left alone: half to all of a time that doubles."""
    longest = min(away_seconds * 2 ** min(failed - 1, 20), LONGEST_PAUSE)
    return chance.uniform(longest / 2, longest)
