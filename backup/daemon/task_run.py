"""One run of a task, and the watchers that are told when it begins and ends."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct, field

from backup.app.tasks.tasks import Task
from backup.inventory.records.tasks import TaskState
from backup.protocols import Progress


class FollowedProgress(Progress, Protocol):
    """A progress that can be asked how far it is."""

    def document(self) -> Mapping[str, object] | None:
        """The figures of the phase as JSON has them; None between two phases."""
        ...


class TaskRun(Struct, frozen=True):
    """A run of a task: `stop` asks it to end; `id` tells it from all others, in logs, status and messages."""

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
        """The number that the inventory has it by; None before it is recorded there."""
        return next((names["run"] for names in self.log_names if "run" in names), None)

    def cancel(self) -> None:
        """Ask it to end for good: nothing goes on with it."""
        self.cancelled.set()
        self.stop.set()


class Done(Struct, frozen=True):
    """What work returns: its report, whose type goes by the kind of task; what it waits for, if anything."""

    report: Any = None
    waits_for: str = ""


Work = Callable[[TaskRun], Done]
"""Does what a run's task is about. Our errors say why it failed; `run.stop` asks it to end."""


class TaskEnd(Struct, frozen=True):
    """How a run ended. `report` is there if it is done, `error` if it failed or was interrupted.

    `retry_at`: when a run that failed is tried again; None: at the next time of its schedule.
    """

    state: TaskState
    ended_at: datetime
    report: Any = None
    error: Exception | None = None
    waits_for: str = ""
    retry_at: datetime | None = None


class Watcher(Protocol):
    """Somebody who is told of runs, on the run's own thread; what it raises is logged and ends nothing.

    `ended` is called before the end of the task is recorded, and after the run itself is in the inventory. A
    process that dies between the two never calls it: who must not miss a run looks for it at the next start.
    """

    def began(self, run: TaskRun) -> None:
        """Take note that a run begins."""
        ...

    def ended(self, run: TaskRun, end: TaskEnd) -> None:
        """Take note that a run has ended, or waits for its vault or for a lock."""
        ...
