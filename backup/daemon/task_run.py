"""A run of a task, and the protocol of watchers that are called when it begins and ends."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Final, Protocol

from msgspec import Struct, field

from backup.app.tasks.tasks import Task
from backup.inventory.records.tasks import TaskState
from backup.protocols import Progress
from backup.reports import Report

_JOIN_SECONDS: Final = 0.5


class FollowedProgress(Progress, Protocol):
    """A progress that gives its figures on request."""

    def document(self) -> Mapping[str, object] | None:
        """Return the figures of the phase as a JSON document; None between two phases."""
        ...


class TaskRun(Struct, frozen=True):
    """A run of a task: `stop` asks it to end; `id` identifies it in logs, status and messages."""

    task: Task
    began_at: datetime
    progress: FollowedProgress
    is_by_hand: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)
    id: str = field(default_factory=lambda: secrets.token_hex(4))
    log_names: list[Mapping[str, str]] = field(default_factory=list)  # those of its log lines

    @property
    def number(self) -> str | None:
        """The run's number in the inventory; None before it is recorded there."""
        return next((names["run"] for names in self.log_names if "run" in names), None)

    def cancel(self) -> None:
        """Cancel the run: it is asked to end, and is not continued later."""
        self.cancelled.set()
        self.stop.set()


class Done(Struct, frozen=True):
    """The result of work: its report, None where it only looked, and what it waits for."""

    report: Report | None = None
    waits_for: str = ""


Work = Callable[[TaskRun], Done]
"""Does what a run's task is about. Our errors say why it failed; `run.stop` asks it to end."""


class TaskEnd(Struct, frozen=True):
    """The end of a run: `report` if it is done, `error` if it failed or was interrupted.

    `retry_at`: when a failed run is retried; None: at the next time of its schedule.
    """

    state: TaskState
    ended_at: datetime
    report: Report | None = None
    error: Exception | None = None
    waits_for: str = ""
    retry_at: datetime | None = None


class Watcher(Protocol):
    """An observer of runs, called on the run's thread; an exception of it is logged and ignored.

    `ended` is called after the run is in the inventory, and before the end of the task is recorded. If the
    process dies before that, it is not called: a watcher that must not miss a run looks at the next start.
    """

    def began(self, run: TaskRun) -> None:
        """Take note that a run begins."""
        ...

    def ended(self, run: TaskRun, end: TaskEnd) -> None:
        """Take note that a run has ended, or waits for its vault or for a lock."""
        ...


@contextmanager
def on_a_thread(
    work: Callable[[], None], name: str, stop: threading.Event, woken: threading.Event
) -> Iterator[None]:
    """Do a watcher's work on a thread until the body ends; what is under way then is done after a restart."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        woken.set()
        thread.join(_JOIN_SECONDS)
