"""Tells people of the daemon's runs: messages are made as each ends, and sent by a thread of their own.

What a daemon that died had not made or sent, the next one does at its start.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from backup.app.delivering import deliver_messages
from backup.app.tasks import TaskKind
from backup.app.telling import make_messages, unrecorded_run
from backup.config import Config
from backup.daemon.task_run import TaskEnd, TaskRun
from backup.errors import NightvaultError
from backup.inventory.runs import Run, RunKind
from backup.inventory.tasks import TaskState
from backup.model import JobName
from backup.protocols import Clock

_LOOK_SECONDS = 60.0  # so often what waits is looked at
_JOIN_SECONDS = 0.5
_KINDS = {
    TaskKind.BACKUP: RunKind.BACKUP,
    TaskKind.FORGET: RunKind.FORGET,
    TaskKind.COMPACT: RunKind.COMPACT,
    TaskKind.PRUNE: RunKind.PRUNE,
    TaskKind.DRILL: RunKind.DRILL,
}
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Teller:
    """A watcher of runs; `config` gives the one that is in force."""

    config: Callable[[], Config]
    clock: Clock
    _woken: threading.Event = field(default_factory=threading.Event, init=False)
    _stop: threading.Event = field(default_factory=threading.Event, init=False)

    def began(self, run: TaskRun) -> None:
        """Nothing: the run itself pings."""

    def ended(self, run: TaskRun, end: TaskEnd) -> None:
        """Make the messages of a run that has ended, and have them sent."""
        if end.waits_for or not run.task.is_recorded:
            return
        make_messages(self.config(), self.clock, unrecorded=_unrecorded(run, end))
        self._woken.set()

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Send what waits, now and whenever something is to be sent, until the body ends."""
        thread = threading.Thread(target=self._send, name="messages", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._woken.set()
            thread.join(_JOIN_SECONDS)  # an answer that is still to come is asked for again after a restart

    def _send(self) -> None:
        make_messages(self.config(), self.clock)
        while not self._stop.is_set():
            self._send_once()
            self._woken.wait(_LOOK_SECONDS)
            self._woken.clear()

    def _send_once(self) -> None:
        if not self.config().notify.channel:
            return
        try:
            deliver_messages(self.config(), self.clock, stop=self._stop.is_set)
        except NightvaultError as error:
            _log.warning("messages cannot be sent: %s", error)
        except Exception as error:  # noqa: BLE001  the next look may go well
            _log.error("messages cannot be sent: unexpected %s: %s", type(error).__name__, error)
            _log.debug("where it happened", exc_info=error)


def _unrecorded(run: TaskRun, end: TaskEnd) -> Run | None:
    """The run of a task that failed, should the inventory not have it; None for any other."""
    kind, task = _KINDS.get(run.task.kind), run.task
    if kind is None or end.state is not TaskState.FAILED or not isinstance(end.error, NightvaultError):
        return None
    job = None if task.of_job is None else JobName(task.of_job)
    vault = task.vault if task.of_job is None else None
    return unrecorded_run(kind, job, vault, end.error, run.began_at, end.ended_at)
