"""What the daemon tells of its tasks, added to a status that the inventory gave."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from backup.app.concerns import concerns_of
from backup.app.status_parts import Status, TaskStatus
from backup.errors import NightvaultError
from backup.model import VaultName

_SECONDS = 3.0


def with_tasks(status: Status, state_dir: str) -> Status:
    """The status with the daemon's tasks; as it is if no daemon runs, or it gives no answer."""
    from backup.daemon.client import ask

    if status.daemon_runs is False:
        return status
    with suppress(NightvaultError, KeyError, ValueError, TypeError):  # one of another version may answer
        answer = ask(state_dir, {"do": "status"}, seconds=_SECONDS)
        tasks = [_task(one) for one in answer["tasks"]]
        found = replace(status, tasks=tasks, waits_for_clock=bool(answer["waits_for_clock"]))
        return replace(found, concerns=concerns_of(found))
    return status


def _task(told: Mapping[str, Any]) -> TaskStatus:
    progress = told["progress"] or {}
    return TaskStatus(
        kind=told["kind"],
        name=told["name"],
        text=told["text"],
        vault=None if told["vault"] is None else VaultName(told["vault"]),
        state=told["state"],
        last=told["last"],
        run=told["run"],
        number=told.get("number"),
        began_at=_moment(told["began_at"]),
        queued_at=_moment(told["queued_at"]),
        next_at=_moment(told["next_at"]),
        paused_until=_moment(told["paused_until"]),
        waits_for=told["waits_for"],
        phase=progress.get("title"),
        done=progress.get("done", 0),
        total=progress.get("total"),
        seconds_left=progress.get("seconds_left"),
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
