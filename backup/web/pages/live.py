"""Live updates of an open page: the progress of each task, and whether the page is out of date.

A page contains the version of the daemon's status that it was made from; the stream of events sends the
present version. Progress is not part of the version: it changes all the time, and is updated in place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from backup.web.daemon_desk import Heard
from backup.web.texts import Texts
from backup.wording import duration

_OF_A_TASK = ("kind", "name", "state", "last", "ended_at", "run", "paused_until")


def version_of(heard: Heard) -> str:
    """Return a hash that changes when a task begins, ends, waits or is paused, or the daemon comes or goes.

    A new copy of the inventory changes it, too, except while a task runs, since then every copy differs.
    """
    tasks = [[task.get(name) for name in _OF_A_TASK] for task in heard.tasks]
    is_at_rest = all(task.get("state") != "running" for task in heard.tasks)
    copied = heard.document.get("copied_at") if heard.document and is_at_rest else None
    told = json.dumps([heard.is_away, tasks, copied], default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def summary(heard: Heard, said: Texts) -> dict[str, Any]:
    """Return the data of an event: the version, whether the daemon is away, progress of running tasks."""
    return {
        "seen": version_of(heard),
        "away": heard.is_away,
        "running": [
            _running(task, task.get("progress") or {}, said)
            for task in heard.tasks
            if task["state"] == "running"
        ],
    }


def _running(task: Mapping[str, Any], progress: Mapping[str, Any], said: Texts) -> dict[str, Any]:
    return {
        "task": f"{task['kind']}:{task['name']}",
        "told": how_far(progress.get("title") or task.get("waits_for"), progress.get("seconds_left"), said),
        "done": progress.get("done") or 0,
        "total": progress.get("total"),
    }


def how_far(phase: str | None, seconds_left: float | None, said: Texts) -> str:
    """Return the phase of a task and the time left, as text."""
    left = [said.say("%(time)s left", time=duration(seconds_left)).unescape()] if seconds_left else []
    return " · ".join([*([phase] if phase else []), *left])
