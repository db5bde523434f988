"""Carries out runs of tasks, each on its own thread, and reports them to the log and the watchers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from backup.daemon.board import Board
from backup.daemon.task_run import TaskEnd, TaskRun, Watcher, Work
from backup.errors import InterruptedRunError, LockedError, NightvaultError
from backup.inventory.records.tasks import TaskState
from backup.log_context import about
from backup.protocols import Clock
from backup.reports import log_report

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Executor:
    """Carries out the runs that the board begins. `board` must be set before the first run."""

    work: Work
    clock: Clock
    watchers: Sequence[Watcher] = ()
    monotonic: Callable[[], float] = time.monotonic
    board: Board = field(init=False)
    _threads: list[threading.Thread] = field(default_factory=list, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def launch(self, run: TaskRun) -> None:
        """Carry out a run in a daemon thread, which does not keep the process from ending."""
        thread = threading.Thread(target=self.carry_out, args=[run], name=f"{run.task}", daemon=True)
        try:
            with self._lock:
                thread.start()
                self._threads = [*(other for other in self._threads if other.is_alive()), thread]
        except RuntimeError as error:  # the system has no more threads now
            _log.error("%s: cannot begin: %s", run.task, error)
            self.board.record_end(run, TaskState.WAITING, f"{error}", locked=True)
            self.board.release(run)

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` for all runs to end; return whether they have."""
        until = self.monotonic() + seconds
        with self._lock:
            threads = self._threads
        for thread in threads:
            thread.join(max(0.0, until - self.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def carry_out(self, run: TaskRun) -> None:
        """Do the work of a run, record its end, and report it to the watchers; raises nothing."""
        with about(**run.task.names) as names:
            run.log_names.append(names)
            self._carry_out(run)

    def _carry_out(self, run: TaskRun) -> None:
        try:
            is_quiet = not run.task.is_recorded
            if self.board.record_begin(run) and not is_quiet:
                _log.info("%s: begins", run.task)
                self._tell_watchers(lambda watcher: watcher.began(run))
            began = self.monotonic()
            end = self._end_of(run)
            if end.waits_for:
                self._waits(run, end)
                return
            if end.report is not None:
                _carefully(partial(log_report, end.report))
            self._tell_watchers(lambda watcher: watcher.ended(run, end))
            self.board.record_end(run, end.state)
            if end.state is TaskState.DONE and not is_quiet:
                _log.info("%s: done in %d s", run.task, self.monotonic() - began)
        except Exception as error:  # noqa: BLE001  one bad run must not end the daemon
            _log.error("%s: unexpected %s: %s", run.task, type(error).__name__, error)
            _log.debug("%s: where it happened", run.task, exc_info=error)
        finally:
            self.board.release(run)

    def _end_of(self, run: TaskRun) -> TaskEnd:
        try:
            done = self.work(run)
        except LockedError as error:
            if run.cancelled.is_set():
                return self._failed(run, error)
            return TaskEnd(TaskState.WAITING, self.clock.now(), error=error, waits_for=str(error))
        except Exception as error:  # noqa: BLE001  one bad run must not end the daemon
            return self._failed(run, error)
        if done.waits_for and run.cancelled.is_set():
            return self._failed(run, InterruptedRunError(done.waits_for))
        state = TaskState.WAITING if done.waits_for else TaskState.DONE
        return TaskEnd(state, self.clock.now(), done.report, waits_for=done.waits_for)

    def _waits(self, run: TaskRun, end: TaskEnd) -> None:
        """Note what a run waits for, and tell it once, as that may take hours."""
        is_locked = isinstance(end.error, LockedError)
        if self.board.record_end(run, end.state, end.waits_for, locked=is_locked):
            _log.info("%s: waits: %s", run.task, end.waits_for)
            self._tell_watchers(lambda watcher: watcher.ended(run, end))

    def _failed(self, run: TaskRun, error: Exception) -> TaskEnd:
        now = self.clock.now()
        if run.cancelled.is_set():  # whatever it ended with
            why = "" if isinstance(error, InterruptedRunError) else f"; meanwhile: {error}"
            _log.info("%s: cancelled%s", run.task, why)
            return TaskEnd(TaskState.CANCELLED, now, error=error)
        if isinstance(error, InterruptedRunError):
            _log.info("%s: stopped on request; nothing is lost", run.task)
            return TaskEnd(TaskState.INTERRUPTED, now, error=error)
        end = TaskEnd(TaskState.FAILED, now, error=error, retry_at=self.board.retry_at(run))
        if isinstance(error, NightvaultError):
            _log.error("%s: failed: %s", run.task, error)
            if error.advice:
                _log.info("%s: %s", run.task, error.advice)
        else:
            _log.error("%s: unexpected %s: %s", run.task, type(error).__name__, error)
            _log.debug("%s: where it happened", run.task, exc_info=error)
        if end.retry_at is not None:
            _log.info(
                "%s: it is tried again at %s", run.task, f"{end.retry_at.astimezone():%Y-%m-%d %H:%M:%S}"
            )
        return end

    def _tell_watchers(self, tell: Callable[[Watcher], None]) -> None:
        for watcher in self.watchers:
            _carefully(partial(tell, watcher))


def _carefully(tell: Callable[[], None]) -> None:
    """Tell of a run; an error in that must not end the daemon, nor keep others from being told."""
    try:
        tell()
    except Exception as error:  # noqa: BLE001  whoever is told may fail
        _log.error("a watcher failed: %s: %s", type(error).__name__, error)
        _log.debug("where it happened", exc_info=error)
