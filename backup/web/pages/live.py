"""What a page says of the daemon while it is open: how far each task is, and whether anything else changed.

A page is made with the version of what the daemon said then; the stream of events tells that of what it
says now. How far a task is belongs to no version: that changes all the time, and is shown in its place.
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
    """A word that is another one once a task began, ended, waits or rests, or the daemon came or went.

    Another copy of the inventory changes it, too, but while a task runs: then each copy has something new.
    """
    tasks = [[task.get(name) for name in _OF_A_TASK] for task in heard.tasks]
    is_at_rest = all(task.get("state") != "running" for task in heard.tasks)
    copied = heard.document.get("copied_at") if heard.document and is_at_rest else None
    told = json.dumps([heard.is_away, tasks, copied], default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def summary(heard: Heard, said: Texts) -> dict[str, Any]:
    """What the stream says: the version, whether the daemon is away, and how far each running task is."""
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
    """What a task is at, and how long it takes still, as text."""
    left = [said.say("%(time)s left", time=duration(seconds_left)).unescape()] if seconds_left else []
    return " · ".join([*([phase] if phase else []), *left])
