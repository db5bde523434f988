"""Notifies people of the daemon's runs: makes messages when runs end, and sends them on its own thread.

Messages that a daemon had not made or sent when it died are made and sent at the next start. If the inventory
cannot be used, no task can begin and report that: the thread notifies people of it, once a day.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date

from backup.app.telling.fallback import send_directly
from backup.app.telling.record import make_messages, unrecorded_run
from backup.app.telling.send import deliver_messages
from backup.config import Config
from backup.daemon.task_run import TaskEnd, TaskRun, on_a_thread
from backup.errors import LockedError, NightvaultError
from backup.inventory.records.runs import Run
from backup.inventory.records.tasks import TaskState
from backup.kinds import KINDS, load, run_of
from backup.model import JobName
from backup.protocols import Clock

_LASTS = 2  # looks: what passes by itself is not told
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Teller:
    """A watcher that makes the messages of runs; `config` returns the config in force.

    Waiting messages are tried every `look_seconds`.
    """

    config: Callable[[], Config]
    clock: Clock
    look_seconds: float = 60.0
    _woken: threading.Event = field(default_factory=threading.Event, init=False)
    _stop: threading.Event = field(default_factory=threading.Event, init=False)
    _failed_looks: int = field(default=0, init=False)
    _told_on: date | None = field(default=None, init=False)

    def began(self, run: TaskRun) -> None:
        """Do nothing: the run itself sends the ping of its start."""

    def ended(self, run: TaskRun, end: TaskEnd) -> None:
        """Make the messages of a run that has ended, and wake the thread that sends them."""
        if end.waits_for or not run.task.is_recorded:
            return
        make_messages(self.config(), self.clock, unrecorded=_unrecorded(self.config(), run, end))
        self._woken.set()

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Send waiting messages on a thread, now and whenever there are new ones, until the body ends."""
        with on_a_thread(self._send, "messages", self._stop, self._woken):
            yield

    def _send(self) -> None:
        make_messages(self.config(), self.clock)
        while not self._stop.is_set():
            self._send_once()
            self._woken.wait(self.look_seconds)
            self._woken.clear()

    def _send_once(self) -> None:
        if not self.config().notify.channel:
            return
        try:
            deliver_messages(self.config(), self.clock, stop=self._stop.is_set)
        except LockedError as error:
            _log.warning("messages cannot be sent: %s", error)
        except NightvaultError as error:
            _log.warning("messages cannot be sent: %s", error)
            self._tell_of_trouble(error)
        except Exception as error:  # noqa: BLE001  the next look may go well
            _log.error("messages cannot be sent: unexpected %s: %s", type(error).__name__, error)
            _log.debug("where it happened", exc_info=error)
        else:
            self._failed_looks = 0

    def _tell_of_trouble(self, error: NightvaultError) -> None:
        """Tell that nothing can be recorded, if that lasts, and was not told on this day."""
        self._failed_looks += 1
        today = self.clock.now().date()
        if self._failed_looks < _LASTS or self._told_on == today:
            return
        if send_directly(self.config(), self.clock, error, None):
            self._told_on = today


def _unrecorded(config: Config, run: TaskRun, end: TaskEnd) -> Run | None:
    """The run of a task that failed, should the inventory not have it; None for any other."""
    kind, task = run_of(run.task.kind), run.task
    if kind is None or end.state is not TaskState.FAILED or not isinstance(end.error, NightvaultError):
        return None
    job = None if task.of_job is None else JobName(task.of_job)
    about = {"vault": task.vault}
    with suppress(NightvaultError):  # the config may have it no more
        about |= load(KINDS[kind].operation).about(config, task.name)
    return unrecorded_run(kind, job, about, end.error, run.began_at, end.ended_at)
