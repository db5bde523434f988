"""Runs jobs by their schedules, one at a time, until it is asked to stop.

APScheduler holds the jobs and ticks once a minute; whether a job is due is decided by `schedule.next_due`
alone, from the start of its last run as the inventory knows it. So a run that somebody started by hand
counts, and a time that was missed while the machine was off is made up for once, at the next tick.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from threading import Event, Lock
from types import FrameType
from typing import Any

from backup.errors import InterruptedRunError, LockedError, NightvaultError
from backup.model import JobName
from backup.protocols import Clock
from backup.schedule import Schedule, next_due

LastRun = Callable[[JobName], datetime | None]
Run = Callable[[JobName], None]

_ENDING = (signal.SIGTERM, signal.SIGINT)
_LOOK_SECONDS = 0.5  # how long a `stop` that was not a signal may go unseen

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ScheduledJob:
    """A job that the daemon runs, and when."""

    name: JobName
    schedule: Schedule


@dataclass(frozen=True, slots=True)
class Chore:
    """Something that the daemon does every so often beside the jobs' runs, whatever became of it before."""

    name: str
    run: Callable[[], None]
    seconds: int

    def tick(self) -> None:
        """Do it; raises nothing."""
        try:
            self.run()
        except InterruptedRunError:
            _log.info("%s: stopped on request; nothing is lost", self.name)
        except NightvaultError as error:
            _log.error("%s: %s", self.name, error)
            if error.advice:
                _log.info("%s: %s", self.name, error.advice)
        except Exception as error:  # noqa: BLE001  one bad time must not end the daemon
            _log.error("%s: unexpected %s: %s", self.name, type(error).__name__, error)
            _log.debug("%s: where it happened", self.name, exc_info=error)


@dataclass(slots=True)
class Watch:
    """Decides at each tick whether a job is due, and runs it then.

    `run` is called from one thread at a time; it raises our errors, which are logged and end nothing. It
    should look at the event `stop` between packs and then end by `InterruptedRunError`. `last_run` gives the
    start of a job's last run, whatever its outcome; both may be called from any thread.
    """

    run: Run
    clock: Clock
    last_run: LastRun
    stop: Event
    started: datetime = field(init=False)
    _attempts: dict[JobName, datetime] = field(default_factory=dict, init=False)
    _one_at_a_time: Lock = field(default_factory=Lock, init=False)

    def __post_init__(self) -> None:
        self.started = self.clock.now()

    def due(self, job: ScheduledJob) -> datetime:
        """When the job is due next; it may be past."""
        known = (self.last_run(job.name), self._attempts.get(job.name))
        last = max((moment for moment in known if moment is not None), default=None)
        # A calendar job that never ran waits for its first time since the daemon began, not since just now.
        return next_due(job.schedule, last, self.started if last is None else self.clock.now())

    def tick(self, job: ScheduledJob) -> None:
        """Run the job if it is due; raises nothing of ours."""
        with self._one_at_a_time:
            if self.stop.is_set():
                return
            try:
                if self.due(job) <= self.clock.now():
                    self._run(job)
            except NightvaultError as error:
                _log.error("job %s: cannot tell when it is due: %s", job.name, error)

    def _run(self, job: ScheduledJob) -> None:
        before, began = self._attempts.get(job.name), self.clock.now()
        self._attempts[job.name] = began  # a run that fails early leaves no record: do not try each minute
        _log.info("job %s: begins", job.name)
        try:
            self.run(job.name)
        except InterruptedRunError:
            _log.info("job %s: stopped on request; nothing is lost", job.name)
        except LockedError as error:
            _log.info("job %s: waits: %s", job.name, error)
            self._attempts.pop(job.name)
            if before is not None:
                self._attempts[job.name] = before
        except NightvaultError as error:
            _log.error("job %s: failed: %s", job.name, error)
            if error.advice:
                _log.info("job %s: %s", job.name, error.advice)
        except Exception as error:  # noqa: BLE001  one bad run must not end the daemon
            _log.error("job %s: unexpected %s: %s", job.name, type(error).__name__, error)
            _log.debug("job %s: where it happened", job.name, exc_info=error)
        else:
            _log.info("job %s: done in %d s", job.name, (self.clock.now() - began).total_seconds())


def run_daemon(
    jobs: Sequence[ScheduledJob],
    *,
    run: Run,
    clock: Clock,
    last_run: LastRun,
    stop: Event,
    tick: Any = None,
    chores: Sequence[Chore] = (),
) -> None:
    """Run the jobs when they are due, until `stop` is set or SIGTERM or SIGINT comes.

    Then `stop` is set, and a run in progress is waited for; a second signal ends the process at once.
    `tick` is the APScheduler trigger that makes it look, each full minute by default; it looks once at the
    start, too. `chores` are done beside the runs, on their own thread. To be called from the main thread.
    """
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.schedulers.background import BackgroundScheduler
    from apscheduler.triggers.cron import CronTrigger
    from apscheduler.triggers.interval import IntervalTrigger

    # A tick that finds the last one still running is skipped, and APScheduler warns of it each minute.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    watch = Watch(run=run, clock=clock, last_run=last_run, stop=stop)
    executors = {"default": ThreadPoolExecutor(1), "chores": ThreadPoolExecutor(1)}
    scheduler = BackgroundScheduler(executors=executors, timezone=UTC)
    for chore in chores:
        every = IntervalTrigger(seconds=chore.seconds, timezone=UTC)
        scheduler.add_job(
            chore.tick,
            every,
            executor="chores",
            id=f"chore {chore.name}",
            misfire_grace_time=None,
            coalesce=True,
        )
        scheduler.add_job(chore.tick, executor="chores", misfire_grace_time=None)  # once, now
    for job in jobs:
        scheduler.add_job(
            watch.tick,
            tick or CronTrigger(second=0, timezone=UTC),
            args=[job],
            id=job.name,
            misfire_grace_time=None,
            coalesce=True,
        )
        scheduler.add_job(watch.tick, args=[job], misfire_grace_time=None)  # once, now
        _log.info("job %s: %s, %s", job.name, job.schedule.text, job.schedule.timezone)
    with _signals() as woken:
        scheduler.start()
        _log.info("started with %d jobs", len(jobs))
        while not stop.is_set():
            with suppress(Empty):
                woken.get(timeout=_LOOK_SECONDS)
                _log.info("asked to stop")
                stop.set()
        scheduler.shutdown(wait=True)
    _log.info("stopped")


@contextmanager
def _signals() -> Iterator[SimpleQueue[int]]:
    """A queue that the first SIGTERM or SIGINT is put into; the next one has its usual effect.

    No exception and no `Event.set` from a handler: either may strike while this thread holds a lock that a
    clean end needs. Putting into a `SimpleQueue` is safe there by its documentation.
    """
    woken: SimpleQueue[int] = SimpleQueue()

    def handle(number: int, _frame: FrameType | None) -> None:
        for one in _ENDING:
            signal.signal(one, signal.SIG_DFL)
        woken.put(number)

    before = {number: signal.signal(number, handle) for number in _ENDING}
    try:
        yield woken
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
