"""The lines of a status about the daemon's tasks: what runs and how far, what is queued, what waits."""

from __future__ import annotations

from collections.abc import Iterator

from backup.app.status.parts import Status, TaskStatus
from backup.cli.render.render import duration, size


def task_lines(status: Status) -> Iterator[tuple[str, str]]:
    """A line for each task of a job or vault that does not rest; restores have lines of their own."""
    tasks = [one for one in status.tasks or () if one.vault is not None]
    for one in tasks:
        if one.state == "running":
            yield "runs now", _running(one, status)
    for one in tasks:
        if one.state == "queued" or (one.state == "running" and one.queued_at is not None):
            yield "queued", one.text
    for one in tasks:
        if one.waits_for and one.state != "running":
            yield "waits", f"{one.text}: {one.waits_for}"


def _running(one: TaskStatus, status: Status) -> str:
    """Since when, how far, and how long it takes yet, if anybody knows; and its number, for `cancel`."""
    text = f"{one.text} (run {one.number or one.run})"
    took = 0.0 if one.began_at is None else (status.now - one.began_at).total_seconds()
    if took > 0:
        text += f", for {duration(took)}"
    if one.phase:
        text += f": {one.phase[:1].lower()}{one.phase[1:]}"
    if one.done and one.total:
        text += f", {size(min(one.done, one.total))} of {size(one.total)}"
    elif one.done:
        text += f", {size(one.done)}"
    if one.seconds_left:
        text += f", {duration(round(one.seconds_left))} left"
    return text
