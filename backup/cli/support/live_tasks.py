"""The state of the daemon's tasks, asked of the daemon and added to the status from the inventory."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from backup.app.status.concerns import concerns_of
from backup.app.status.parts import Status, TaskStatus
from backup.errors import DaemonAwayError, NightvaultError
from backup.model import VaultName
from backup.protocols import Clock

_SECONDS = 3.0
_BEGINS_IN = 1.0  # seconds until a daemon that begins has its socket


def with_tasks(status: Status, state_dir: str, clock: Clock) -> Status:
    """Return the status with the daemon's tasks; unchanged if no daemon runs.

    A daemon that does not answer is marked as silent; one that has just started is asked again first.
    """
    if status.daemon_runs is False:
        return status
    for pause in (_BEGINS_IN, None):
        try:
            return _asked(status, state_dir)
        except DaemonAwayError:
            if status.daemon_runs is None:  # nobody knows whether there is one
                break
            if pause is not None:
                clock.sleep(pause)
                continue
            found = replace(status, is_silent=True)
            return replace(found, concerns=concerns_of(found))
    return status


def _asked(status: Status, state_dir: str) -> Status:
    """The status with the daemon's words; as it is if they cannot be had. `DaemonAwayError`."""
    from backup.daemon.client import ask

    try:
        answer = ask(state_dir, {"do": "status"}, seconds=_SECONDS)
    except DaemonAwayError:
        raise
    except NightvaultError:
        return status
    with suppress(KeyError, ValueError, TypeError):  # one of another version may answer
        tasks = [_task(task) for task in answer["tasks"]]
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
