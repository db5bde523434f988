"""The board of tasks: which are due, queued in their lane, running, or waiting.

Each look puts due tasks into the queue of their lane. When a lane is free, its first task runs; of the tasks
that store catalogs only one runs at a time. A task that waits (for a vault's list, for a lock) is tried again
some minutes later. State that must survive a restart is written to the book before it takes effect; if the
book cannot be written (a full disk), the state in memory is used.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from msgspec.structs import replace

from backup.app.tasks.book import Seen
from backup.app.tasks.tasks import Task, TaskKey
from backup.app.tasks.times import LastRun, begun, due_at, ended, found_at_start, retry_at
from backup.daemon.clock_gate import ClockGate
from backup.daemon.task_run import FollowedProgress, TaskRun
from backup.errors import DaemonAwayError, NightvaultError
from backup.inventory.records.tasks import TaskRow, TaskState
from backup.kinds import TaskKind
from backup.model import JobName
from backup.protocols import Clock

LOCK_SECONDS, VAULT_SECONDS = 60, 300
"""After how many seconds a task is tried again that waits for a lock, or for its vault."""
_log = logging.getLogger(__name__)


class Book(Protocol):
    """The durable state of tasks, which survives the process."""

    def read(self, tasks: Sequence[Task]) -> Seen:
        """Return the recorded state of these tasks. Raises `NightvaultError`."""
        ...

    def write(
        self, *changed: TaskRow, asked: Collection[TaskKey] = (), answered: Collection[TaskKey] = ()
    ) -> None:
        """Record tasks durably. Raises `NightvaultError`.

        `asked`: tasks that a person requested; `answered`: requests that have begun or were withdrawn.
        """
        ...


@dataclass(slots=True)
class BoardLine:
    """The state of a task on the board."""

    task: Task
    row: TaskRow
    last: LastRun | None = None
    next_at: datetime | None = None
    paused_until: datetime | None = None
    queued_at: datetime | None = None
    turn: int = 0  # of the queue: who has waited longer has a lower one, whatever the clock does
    is_by_hand: bool = False
    run: TaskRun | None = None
    before: TaskRow | None = None  # what it was before the run that is going on
    waits_for: str = ""
    not_before: float = field(default=0.0)  # by the monotonic clock

    @property
    def order(self) -> tuple[bool, int, tuple[int, int]]:
        """The sort key in the queue: tasks requested by hand come first, then those that waited longest."""
        return not self.is_by_hand, self.turn, self.task.order


class Board:
    """The board of all tasks, thread-safe. `launch` carries out a run, at once or in a thread."""

    def __init__(
        self,
        tasks: Sequence[Task],
        book: Book,
        clock: Clock,
        *,
        launch: Callable[[TaskRun], None],
        progress: Callable[[Task], FollowedProgress],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tasks = list(tasks)
        self._book = book
        self._clock = clock
        self._launch = launch
        self._progress = progress
        self._monotonic = monotonic
        self._lock = threading.RLock()
        self._looking = threading.RLock()  # or an older look would undo what a newer one saw
        self._lines: dict[TaskKey, BoardLine] = {}
        self._turn = 0
        self._untold: str | None = None
        self._unrecorded: str | None = None
        self._stopped = False
        self.gate = ClockGate(monotonic)
        self.looked_at = monotonic()

    def look(self) -> None:
        """Put due tasks into their queues, and begin those that may begin. Raises nothing."""
        try:
            self._look_at_book()
        except NightvaultError as error:
            self._tell_once(str(error))
        except Exception as error:  # noqa: BLE001  the next look may go well
            self._tell_once(f"unexpected {type(error).__name__}: {error}")
            _log.debug("where it happened", exc_info=error)
        else:
            self._untold = None
        finally:
            self.looked_at = self._monotonic()

    def _tell_once(self, why: str) -> None:
        if self._untold != why:
            _log.error("cannot tell what is due: %s", why)
        self._untold = why

    def _look_at_book(self) -> None:
        with self._looking:
            tasks = self._tasks
            seen = self._book.read(tasks)
            with self._lock:
                if tasks is not self._tasks:  # others came meanwhile, and with them a look of their own
                    return
                self._heed(seen, self._clock.now())
        self.dispatch()

    def _heed(self, seen: Seen, now: datetime) -> None:
        is_set = self.gate.is_open(seen.newest_start, now)
        # By a clock that is not set yet, all that was would be still to come.
        self._take_in(seen, now if is_set else max(now, seen.newest_start or now))
        if is_set and not self._stopped:
            self._queue_due(now)
            self._forget_strange(seen)

    def _forget_strange(self, seen: Seen) -> None:
        """Drop what was asked for of jobs that the config does not have any more."""
        strange = seen.requests - {task.key for task in self._tasks}
        if strange:
            self._record(answered=strange)

    def _take_in(self, seen: Seen, now: datetime) -> None:
        """Bring the lines up to what the book says, and record what it does not know or could not be told."""
        changed, answered = list[TaskRow](), list[TaskKey]()
        for task in self._tasks:
            line = self._lines.get(task.key)
            last = seen.last.get(task.key)
            if line is None:
                since = min(seen.rebuilt_since or now, now)  # what fell due during a rebuild is made up for
                known = seen.rows.get(task.key) or TaskRow(task.kind, task.name, known_since=since)
                line = self._lines[task.key] = BoardLine(task, found_at_start(known, last, now))
                line.is_by_hand = task.key in seen.requests  # asked for before a restart
                if line.is_by_hand and known.state is TaskState.RUNNING:  # and begun
                    line.is_by_hand = line.row.state is TaskState.INTERRUPTED
                    answered += [] if line.is_by_hand else [task.key]
            if line.row.known_since > now:  # the clock was ahead then
                line.row = replace(line.row, known_since=now)
            is_told = task.is_recorded and not _is_only_listed(line)
            if line.row != seen.rows.get(task.key) and line.run is None and is_told:
                changed.append(line.row)
            line.last = last
            pause = seen.pauses.get(JobName(task.of_job)) if task.of_job else None
            self._note_pause(line, pause.until if pause else None, now)
        self._record(*changed, answered=answered)

    def _note_pause(self, line: BoardLine, until: datetime | None, now: datetime) -> None:
        paused = until if until is not None and until > now else None
        if line.task.kind is TaskKind.BACKUP and (paused is None) != (line.paused_until is None):
            _log.info("%s: %s", line.task, "goes on after its pause" if paused is None else "is paused")
        line.paused_until = paused
        if paused and not line.is_by_hand:
            line.queued_at = None

    def _queue_due(self, now: datetime) -> None:
        self._turn += 1
        for line in self.lines():
            line.next_at = due_at(line.task.timing, line.row, line.last, now)
            if _was_done_meanwhile(line):
                line.queued_at = None
            is_due = line.next_at is not None and line.next_at <= now
            if line.run is None and not is_due and not line.is_by_hand:
                line.waits_for = ""  # what it waited for did its work
            if line.run or line.queued_at or line.not_before > self._monotonic():
                continue
            if line.is_by_hand:
                line.queued_at, line.turn = now, self._turn
            elif is_due and not line.paused_until:
                self._tell_ahead(line, now)
                line.queued_at, line.turn = now, self._turn

    def _tell_ahead(self, line: BoardLine, now: datetime) -> None:
        if line.last is not None and line.last.started_at > now:
            _log.warning(
                "%s: its last run began at %s, which is still to come: this machine's clock was ahead "
                "then, or is behind now; it counts as due",
                line.task,
                line.last.started_at.isoformat(" ", "seconds"),
            )

    def dispatch(self) -> None:
        """Begin the queued tasks that may begin."""
        while True:
            with self._lock:
                queued = [
                    line for line in self._lines.values() if line.queued_at and self._may_begin(line.task)
                ]
                if self._stopped or not queued:
                    return
                run = self._begin(min(queued, key=lambda line: line.order))
            self._launch(run)

    def _may_begin(self, task: Task) -> bool:
        running = [line.run.task for line in self._lines.values() if line.run is not None]
        if any(other.lane == task.lane for other in running):
            return False
        return not (task.is_exclusive and any(other.is_exclusive for other in running))

    def _begin(self, line: BoardLine) -> TaskRun:
        now = self._clock.now()
        run = TaskRun(line.task, now, self._progress(line.task), line.is_by_hand)
        line.before, line.row = line.row, begun(line.task.timing, line.row, line.last, now)
        line.run, line.queued_at, line.is_by_hand = run, None, False
        return run

    def record_begin(self, run: TaskRun) -> bool:
        """Record that a run begins, before it does anything; False if it continues a task that waited."""
        line = self._lines[run.task.key]
        is_new = not line.waits_for
        if run.task.is_recorded:
            self._record(line.row)
        return is_new

    def record_end(
        self, run: TaskRun, state: TaskState, waits_for: str = "", *, locked: bool = False
    ) -> bool:
        """Record the end of a run; return whether the reason for waiting is new. `locked`: it never began.

        A task requested by hand stays requested, whatever schedule and pause say, if its run never began or
        was interrupted.
        """
        with self._lock:
            line = self._lines[run.task.key]
            before, line.before = line.before, None
            is_new, line.waits_for = waits_for != line.waits_for, waits_for
            line.row = before if locked and before is not None else ended(line.row, state, self._clock.now())
            is_asked = run.is_by_hand and not run.cancelled.is_set()  # `cancel` has answered what it ends
            is_kept = is_asked and (locked or state is TaskState.INTERRUPTED)
            line.is_by_hand = line.is_by_hand or is_kept  # it may be asked for again while it is cancelled
            if waits_for:
                line.not_before = self._monotonic() + (LOCK_SECONDS if locked else VAULT_SECONDS)
        if run.task.is_recorded:
            key = run.task.key
            answered = [key] if is_asked and not is_kept else []
            self._record(line.row, asked=[key] if is_kept else [], answered=answered)
        return is_new

    def release(self, run: TaskRun) -> None:
        """Free the lane of a run that has ended, and begin the tasks that waited for the lane."""
        with self._lock:
            line = self._lines[run.task.key]
            line.run = None
            if run.task.key not in {task.key for task in self._tasks}:
                del self._lines[run.task.key]
        self.dispatch()

    def _record(
        self, *changed: TaskRow, asked: Collection[TaskKey] = (), answered: Collection[TaskKey] = ()
    ) -> None:
        """Write to the book; if that fails, memory decides."""
        if not (changed or asked or answered):
            return
        try:
            self._book.write(*changed, asked=asked, answered=answered)
        except NightvaultError as error:
            if self._unrecorded != str(error):
                _log.warning("the state of a task cannot be recorded: %s", error)
            self._unrecorded = str(error)
        else:
            self._unrecorded = None

    def retry_at(self, run: TaskRun) -> datetime | None:
        """Return when a run that fails now is retried, or is due anyway if that is sooner; None: no retry."""
        now, timing = self._clock.now(), run.task.timing
        row = ended(self._lines[run.task.key].row, TaskState.FAILED, now)
        return None if retry_at(timing, row, now) is None else due_at(timing, row, None, now)

    # What is asked for by a person.

    def cancel(self, run: TaskRun) -> None:
        """Cancel a run. Recorded at once, as the run may hang until the process is ended."""
        with self._lock:
            line = self._lines[run.task.key]
            if line.run is not run:
                return
            run.cancel()
            line.row = ended(line.row, TaskState.CANCELLED, self._clock.now())
            answered = [run.task.key] if run.is_by_hand and not line.is_by_hand else []
        if run.task.is_recorded:
            self._record(line.row, answered=answered)

    def put(self, key: TaskKey) -> bool:
        """Queue a task now, whatever its schedule and pause say; False if it runs or is requested already.

        If its run is being cancelled, the task runs again afterwards. `DaemonAwayError` after a stop.
        """
        with self._lock:
            if self._stopped:
                raise DaemonAwayError("the daemon is stopping", advice="ask again when it runs")
            line = self._lines.get(key)
            if line is None:
                raise NightvaultError("the daemon cannot look into the inventory now", advice="see its log")
            is_running = line.run is not None and not line.run.cancelled.is_set()
            if is_running or (line.is_by_hand and line.queued_at is not None):
                return False
        self._record(asked=[key])  # before it can begin, which records the opposite
        with self._lock:
            if line.queued_at is None:
                line.queued_at, line.turn = self._clock.now(), self._turn
            line.is_by_hand = True
        self.dispatch()
        return True

    def withdraw(self, name: str) -> Task | None:
        """Withdraw a request by hand that has not begun, and return its task; None if there is none."""
        with self._lock:
            for line in self.lines():
                if line.is_by_hand and line.task.name == name:
                    line.queued_at, line.is_by_hand, line.waits_for = None, False, ""
                    break
            else:
                return None
        self._record(answered=[line.task.key])
        return line.task

    @property
    def scheduled(self) -> list[Task]:
        """The tasks that have a schedule in the config."""
        return [task for task in self._tasks if task.is_recorded and task.timing.schedule is not None]

    def lines(self) -> list[BoardLine]:
        """Return the state of all tasks, in order."""
        with self._lock:
            return sorted(self._lines.values(), key=lambda line: line.task.order)

    def runs(self) -> list[TaskRun]:
        """Return the runs in progress."""
        return [line.run for line in self.lines() if line.run is not None]

    def replace(self, tasks: Sequence[Task], book: Book) -> None:
        """Replace the tasks; runs in progress are not disturbed."""
        with self._lock:
            self._tasks, self._book = list(tasks), book
            new = {task.key: task for task in tasks}
            for key, line in list(self._lines.items()):
                if key in new:
                    if _is_only_listed(line):
                        line.row = replace(line.row, known_since=self._clock.now())
                    line.task = new[key]
                elif line.run is None:
                    del self._lines[key]
                else:
                    line.queued_at, line.is_by_hand = None, False
        self.look()

    def stop(self) -> None:
        """Begin no more runs, and ask those in progress to end."""
        with self._lock:
            self._stopped = True
            for run in self.runs():
                run.stop.set()


def _is_only_listed(line: BoardLine) -> bool:
    """Whether it has no schedule and was never begun: should it get one, it counts from then."""
    return line.task.timing.schedule is None and line.row.state is TaskState.NEW


def _was_done_meanwhile(line: BoardLine) -> bool:
    """Whether somebody ran by hand what was queued because it was due."""
    if line.queued_at is None or line.is_by_hand or line.last is None:
        return False
    return line.queued_at < line.last.started_at
