"""The lines of a status about the daemon's tasks: running with progress, queued, waiting."""

from __future__ import annotations

from collections.abc import Iterator

from backup.app.status.parts import Status, TaskStatus
from backup.cli.render.render import duration, size


def task_lines(status: Status) -> Iterator[tuple[str, str]]:
    """Return a line for each active task of a job or vault; restores have lines of their own."""
    tasks = [task for task in status.tasks or () if task.vault is not None]
    for task in tasks:
        if task.state == "running":
            yield "runs now", _running(task, status)
    for task in tasks:
        if task.state == "queued" or (task.state == "running" and task.queued_at is not None):
            yield "queued", task.text
    for task in tasks:
        if task.waits_for and task.state != "running":
            yield "waits", f"{task.text}: {task.waits_for}"


def _running(task: TaskStatus, status: Status) -> str:
    """Since when, how far, and how long it takes yet, if anybody knows; and its number, for `cancel`."""
    text = f"{task.text} (run {task.number or task.run})"
    took = 0.0 if task.began_at is None else (status.now - task.began_at).total_seconds()
    if took > 0:
        text += f", for {duration(took)}"
    if task.phase:
        text += f": {task.phase[:1].lower()}{task.phase[1:]}"
    if task.done and task.total:
        text += f", {size(min(task.done, task.total))} of {size(task.total)}"
    elif task.done:
        text += f", {size(task.done)}"
    if task.seconds_left:
        text += f", {duration(round(task.seconds_left))} left"
    return text
