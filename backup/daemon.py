"""Runs jobs, prunes and compactions by their schedules, one at a time, until it is asked to stop.

APScheduler holds the jobs and ticks once a minute; whether a job is due is decided by `schedule.next_due`
alone, from the start of its last run in the inventory. So a run that was started by hand counts, and a time
that was missed while the machine was off is made up for once, at the next tick. A clock that was ahead for a
while delays nothing: a last run in the future counts as due now, and a tick that was set for a time far ahead
is set again.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue
from threading import Event, Lock
from types import FrameType
from typing import Any

from backup.app.clock import SystemClock
from backup.errors import InterruptedRunError, LockedError, NightvaultError
from backup.model import JobName, VaultName
from backup.protocols import Clock
from backup.schedule import Schedule, next_due

LastRun = Callable[[Any], datetime | None]  # of the name of a job, or of a vault
Run = Callable[[Any], str | None]
"""Runs what has that name. The text that it may return says what it waits for: it is tried again soon."""

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)  # and SIGHUP, unless this process is to ignore it
_LOOK_SECONDS = 0.5  # how long a `stop` that was not a signal, or a clock that was set back, may go unseen
_TICK_SECONDS = 60
_VAULT_SECONDS = 300  # one that waits for a list of the vault looks again so often
_SLACK = timedelta(seconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ScheduledJob:
    """A job that the daemon runs, with its schedule."""

    name: JobName
    schedule: Schedule


@dataclass(frozen=True, slots=True)
class ScheduledVault:
    """What is done with a vault of that name, with its schedule."""

    name: VaultName
    schedule: Schedule


@dataclass(frozen=True, slots=True)
class Chore:
    """A task that the daemon repeats beside the jobs' runs, whatever its last outcome."""

    name: str
    run: Callable[[], None]
    seconds: int

    def tick(self) -> None:
        """Run the task once; errors are logged, none is raised."""
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
    """The times of jobs, or of prunes: decides at each tick whether one is due, and then runs it.

    `run` is called from one thread at a time; it raises our errors, which are logged and end nothing. It
    should look at the event `stop` between packs and then end by `InterruptedRunError`. `last_run` gives the
    start of the last run, whatever its outcome; both may be called from any thread. `noun` is of the log.
    """

    run: Run
    clock: Clock
    last_run: LastRun
    stop: Event
    noun: str = "job"
    doing: str = ""  # what is done with a job, in the log; a backup where nothing is said
    started: datetime = field(init=False)
    _attempts: dict[str, datetime] = field(default_factory=dict, init=False)
    _waits: dict[str, str] = field(default_factory=dict, init=False)
    _one_at_a_time: Lock = field(default_factory=Lock, init=False)

    def __post_init__(self) -> None:
        self.started = self.clock.now()

    def due(self, job: ScheduledJob | ScheduledVault, now: datetime) -> datetime:
        """The time at which the job is due next; it may be past."""
        self.started = min(self.started, now)
        known = [self.last_run(job.name), self._attempts.get(job.name)]
        met = [moment for moment in known if moment is not None]
        # Of two the one that can be right: a run that fails before it leaves a record is tried once.
        last = max([moment for moment in met if moment <= now] or met, default=None)
        if last is None:
            # A calendar job that never ran waits for its first time since the daemon began, not since now.
            return next_due(job.schedule, None, self.started)
        if last > now:
            _log.warning(
                "%s %s: its last run began at %s, which is still to come: this machine's clock was ahead "
                "then, or is behind now; it counts as due",
                self.noun,
                job.name,
                last.isoformat(" ", "seconds"),
            )
        return next_due(job.schedule, last, now)

    def _named(self, job: ScheduledJob | ScheduledVault) -> str:
        return f"{self.noun} {job.name}: {self.doing}" if self.doing else f"{self.noun} {job.name}"

    def tick(self, job: ScheduledJob | ScheduledVault) -> None:
        """Run the job if it is due; our errors are logged, none is raised."""
        with self._one_at_a_time:
            if self.stop.is_set():
                return
            try:
                now = self.clock.now()
                if self.due(job, now) <= now:
                    self._run(job)
            except NightvaultError as error:
                _log.error("%s: cannot tell when it is due: %s", self._named(job), error)

    def _run(self, job: ScheduledJob | ScheduledVault) -> None:
        before, began = self._attempts.get(job.name), self.clock.now()
        self._attempts[job.name] = began  # a run that fails early leaves no record: do not try each minute
        if job.name not in self._waits:
            _log.info("%s: begins", self._named(job))
        try:
            waits = self.run(job.name) or ""
        except LockedError as error:
            _log.info("%s: waits: %s", self._named(job), error)
            self._is_due_still(job, before)
        except Exception as error:  # noqa: BLE001  one bad run must not end the daemon
            self._waits.pop(job.name, None)
            self._tell(job, error)
        else:
            self._ended(job, waits, before, max(0.0, (self.clock.now() - began).total_seconds()))

    def _ended(
        self, job: ScheduledJob | ScheduledVault, waits: str, before: datetime | None, took: float
    ) -> None:
        """Log the end of a run, or once what it waits for, as that may take hours."""
        if not waits:
            self._waits.pop(job.name, None)
            _log.info("%s: done in %d s", self._named(job), took)
            return
        if self._waits.get(job.name) != waits:
            _log.info("%s: waits: %s", self._named(job), waits)
        self._waits[job.name] = waits
        self._is_due_still(job, before)

    def _is_due_still(self, job: ScheduledJob | ScheduledVault, before: datetime | None) -> None:
        self._attempts.pop(job.name)
        if before is not None:
            self._attempts[job.name] = before

    def _tell(self, job: ScheduledJob | ScheduledVault, error: Exception) -> None:
        named = self._named(job)
        if isinstance(error, InterruptedRunError):
            _log.info("%s: stopped on request; nothing is lost", named)
        elif isinstance(error, NightvaultError):
            _log.error("%s: failed: %s", named, error)
            if error.advice:
                _log.info("%s: %s", named, error.advice)
        else:
            _log.error("%s: unexpected %s: %s", named, type(error).__name__, error)
            _log.debug("%s: where it happened", named, exc_info=error)


@dataclass(frozen=True, slots=True)
class VaultTask:
    """Prunes, or compactions: of which vaults and when, how to run one, and when the last began.

    `noun` is of the log, as in "prune of vault".
    """

    noun: str
    due: Sequence[ScheduledVault]
    run: Run
    last_run: LastRun


def run_daemon(
    jobs: Sequence[ScheduledJob],
    *,
    run: Run,
    clock: Clock,
    last_run: LastRun,
    stop: Event,
    tick: Any = None,
    chores: Sequence[Chore] = (),
    forgetting: Sequence[ScheduledJob] = (),
    forget: Run = lambda _: None,
    last_forget: LastRun = lambda _: None,
    vault_tasks: Sequence[VaultTask] = (),
) -> None:
    """Run the jobs when they are due, until `stop` is set or SIGTERM or SIGINT comes.

    Then `stop` is set, and a run in progress is waited for; a second signal ends the process at once.
    `tick` is the APScheduler trigger that makes it look, each full minute by default; it looks once at the
    start, too. `chores` are done beside the runs, on their own thread. `forgetting` are jobs that `forget` is
    called for by schedules of their own, after a backup that is due at the same time, and `vault_tasks` come
    after both. To be called from the main thread.
    """
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.schedulers.background import BackgroundScheduler

    # A tick that finds the last one still running is skipped, and APScheduler warns of it each minute.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    watch = Watch(run=run, clock=clock, last_run=last_run, stop=stop)
    executors = {"default": ThreadPoolExecutor(1), "chores": ThreadPoolExecutor(1)}
    scheduler = BackgroundScheduler(executors=executors, timezone=UTC)
    often = {"misfire_grace_time": None, "coalesce": True, "next_run_time": SystemClock().now()}
    for chore in chores:
        every = _every(chore.seconds)
        scheduler.add_job(chore.tick, every, executor="chores", id=f"chore {chore.name}", **often)
    for number, job in enumerate(jobs):  # those of one tick go in the order of their ids
        every, tick_id = tick or _every(_TICK_SECONDS), f"job {number:06d} {job.name}"
        scheduler.add_job(watch.tick, every, args=[job], id=tick_id, **often)
        _log.info("job %s: %s, %s", job.name, job.schedule.text, job.schedule.timezone)
    forgets = Watch(run=forget, clock=clock, last_run=last_forget, stop=stop, doing="forget")
    for number, job in enumerate(forgetting):
        every, tick_id = tick or _every(_TICK_SECONDS), f"then forget {number:06d} {job.name}"
        scheduler.add_job(forgets.tick, every, args=[job], id=tick_id, **often)
        _log.info("job %s: forget: %s, %s", job.name, job.schedule.text, job.schedule.timezone)
    for task in vault_tasks:
        watched = Watch(task.run, clock, task.last_run, stop, noun=task.noun)
        for one in task.due:
            every, tick_id = tick or _every(_VAULT_SECONDS), f"then {task.noun} {one.name}"
            scheduler.add_job(watched.tick, every, args=[one], id=tick_id, **often)
            _log.info("%s %s: %s, %s", task.noun, one.name, one.schedule.text, one.schedule.timezone)
    longest = timedelta(seconds=max([_VAULT_SECONDS, *(chore.seconds for chore in chores)])) + _SLACK
    with _signals() as woken:
        scheduler.start()
        _log.info("started with %d %s", len(jobs), "job" if len(jobs) == 1 else "jobs")
        while not stop.is_set():
            with suppress(Empty):
                woken.get(timeout=_LOOK_SECONDS)
                _log.info("asked to stop")
                stop.set()
            _reset_late_ticks(scheduler, longest)
        scheduler.shutdown(wait=True)
    _log.info("stopped")


def _every(seconds: int) -> Any:
    """An APScheduler trigger: each `seconds`, on the full minute or multiple of minutes.

    Its own triggers count each time that was missed, one by one: millions when a clock without a battery,
    which began in 1970, is set. This one knows nothing but the next time.
    """
    from apscheduler.triggers.base import BaseTrigger

    step = timedelta(seconds=seconds)

    class Every(BaseTrigger):  # type: ignore[misc]  # it has no types
        def get_next_fire_time(self, _previous: datetime | None, now: datetime) -> datetime:
            return now + step - (now - _EPOCH) % step

    return Every()


def _reset_late_ticks(scheduler: Any, longest: timedelta) -> None:
    """Set ticks again that are too far ahead because the clock was ahead when they were set."""
    last = SystemClock().now() + longest  # APScheduler knows no other
    late = [one for one in scheduler.get_jobs() if one.next_run_time is not None and one.next_run_time > last]
    if late:
        _log.warning("this machine's clock was set back: what is due is looked at by its new time")
    for one in late:
        scheduler.reschedule_job(one.id, trigger=one.trigger)


@contextmanager
def _signals() -> Iterator[SimpleQueue[int]]:
    """A queue that the first SIGTERM or SIGINT is put into; the next one has its usual effect.

    SIGHUP comes when a terminal is closed, often twice, so that another one has none.

    No exception and no `Event.set` from a handler: either may strike while this thread holds a lock that a
    clean end needs. Putting into a `SimpleQueue` is safe there by its documentation.
    """
    woken: SimpleQueue[int] = SimpleQueue()

    def handle(number: int, _frame: FrameType | None) -> None:
        for one in _STOP_SIGNALS:
            signal.signal(one, signal.SIG_DFL)
        woken.put(number)

    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    ending = (*_STOP_SIGNALS, signal.SIGHUP) if hangs_up else _STOP_SIGNALS
    before = {number: signal.signal(number, handle) for number in ending}
    try:
        yield woken
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
