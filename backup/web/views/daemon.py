"""The daemon's answer about its tasks, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from backup.web.views.values.overview import LiveTask


class _Progress(msgspec.Struct):
    title: str | None = None
    done: int = 0
    total: int | None = None
    seconds_left: float | None = None


class _Task(msgspec.Struct):
    kind: str
    name: str
    text: str
    state: str
    vault: str | None = None
    last: str = "new"
    run: str | None = None
    began_at: datetime | None = None
    queued_at: datetime | None = None
    next_at: datetime | None = None
    paused_until: datetime | None = None
    waits_for: str | None = None
    progress: _Progress | None = None


class _DaemonAnswer(msgspec.Struct):
    as_of: datetime
    waits_for_clock: bool
    tasks: list[_Task]


class DaemonStatus(Struct, frozen=True):
    """The daemon's answer to "status"."""

    as_of: datetime
    waits_for_clock: bool
    tasks: Sequence[LiveTask]

    def task(self, kind: str, name: str) -> LiveTask | None:
        """Return the task of a kind and name; None if the daemon does not have it."""
        return next((task for task in self.tasks if (task.kind, task.name) == (kind, name)), None)


def daemon_status(answer: Mapping[str, Any] | None) -> DaemonStatus | None:
    """Return the answer as a value; None without one, or if it cannot be parsed, as from another version."""
    if answer is None:
        return None
    try:
        told = msgspec.convert(answer, _DaemonAnswer, strict=False)
    except msgspec.ValidationError:
        return None
    return DaemonStatus(told.as_of, told.waits_for_clock, [_live(task) for task in told.tasks])


def _live(task: _Task) -> LiveTask:
    progress = task.progress or _Progress()
    return LiveTask(
        kind=task.kind,
        name=task.name,
        text=task.text,
        state=task.state,
        run=task.run,
        began_at=task.began_at,
        queued_at=task.queued_at,
        next_at=task.next_at,
        paused_until=task.paused_until,
        waits_for=task.waits_for,
        phase=progress.title,
        done=progress.done,
        total=progress.total,
        seconds_left=progress.seconds_left,
    )
