"""The verbs of the control socket: status, run, pause, resume, cancel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backup import __version__
from backup.app.tasks.pausing import pause_job, resume_job
from backup.config import Config
from backup.daemon.board import Board, BoardLine
from backup.daemon.control import Verb
from backup.daemon.task_run import TaskRun
from backup.errors import UsageError
from backup.kinds import TaskKind
from backup.protocols import Clock


@dataclass(slots=True)
class Verbs:
    """The verbs of a daemon; `config` may be replaced between two requests."""

    config: Config
    board: Board
    clock: Clock

    def all(self) -> dict[str, Verb]:
        """Return all verbs by name."""
        return {**self.of_page(), "cancel": self.cancel}

    def of_page(self) -> dict[str, Verb]:
        """Return the verbs of the page's socket: none of them ends a run or deletes anything."""
        return {"status": self.status, "run": self.run, "pause": self.pause, "resume": self.resume}

    def status(self, _request: Mapping[str, object]) -> dict[str, Any]:
        """Return the state of all tasks: running (with progress), queued, waiting, and when next due."""
        return {
            "as_of": self.clock.now(),
            "version": __version__,
            "waits_for_clock": self.board.gate.is_waiting,
            "tasks": [_task(line) for line in self.board.lines()],
        }

    def run(self, request: Mapping[str, object]) -> dict[str, Any]:
        """Queue the backup of a job, before all scheduled tasks."""
        job = self.config.job(_text(request, "job"))
        self.board.look()  # or a daemon that has just begun would not know it
        key = (TaskKind.BACKUP, job.name)
        queued = self.board.put(key)
        ending = [run for run in self.board.runs() if run.task.key == key and run.cancelled.is_set()]
        after = (ending[0].number or ending[0].id) if queued and ending else None
        return {"job": job.name, "queued": queued, "after": after}

    def pause(self, request: Mapping[str, object]) -> dict[str, Any]:
        """Pause the schedules of a job until a given time."""
        until = pause_job(self.config, _text(request, "job"), _moment(request, "until"), self.clock.now())
        self.board.look()
        return {"job": request["job"], "until": until}

    def resume(self, request: Mapping[str, object]) -> dict[str, Any]:
        """End the pause of a job."""
        was_paused = resume_job(self.config, _text(request, "job"), self.clock.now())
        self.board.look()
        return {"job": request["job"], "was_paused": was_paused}

    def cancel(self, request: Mapping[str, object]) -> dict[str, Any]:
        """Cancel a run, named by id, number, job or vault; or withdraw a request that has not begun."""
        name = _text(request, "run")
        found = [run for run in self.board.runs() if name in {run.id, run.task.name, run.number}]
        is_ending = all(run.cancelled.is_set() for run in found)
        if is_ending and (task := self.board.withdraw(name)) is not None:
            return {"run": None, "number": None, "task": str(task)}
        waiting = [line for line in self.board.lines() if line.waits_for and line.task.name == name]
        if not found and waiting:
            raise UsageError(
                f"{waiting[0].task} does not run: it waits: {waiting[0].waits_for}",
                advice="it goes on by itself: take its schedule out of the config if it should not",
            )
        if len(found) != 1:
            running = ", ".join(_named(run) for run in self.board.runs()) or "nothing"
            several = "several are named" if found else "no run is named"
            raise UsageError(f"{several} {name}: what runs is {running}", advice="name one by its id")
        self.board.cancel(found[0])
        return {"run": found[0].id, "number": _number(found[0]), "task": str(found[0].task)}


def _task(line: BoardLine) -> dict[str, Any]:
    run, task = line.run, line.task
    return {
        "kind": task.kind,
        "name": task.name,
        "text": str(task),
        "vault": task.vault,
        "state": _state(line),
        "run": run.id if run else None,
        "number": _number(run) if run else None,
        "began_at": run.began_at if run else None,
        "by_hand": run.is_by_hand if run else line.is_by_hand,
        "stopping": run is not None and run.stop.is_set(),
        "progress": run.progress.document() if run else None,
        "queued_at": line.queued_at,
        "waits_for": line.waits_for or None,
        "paused_until": line.paused_until,
        "next_at": line.next_at,
        "last": line.row.state,
        "ended_at": line.row.ended_at,
    }


def _number(run: TaskRun) -> int | None:
    """The number by which `runs` has it."""
    return None if run.number is None else int(run.number)


def _state(line: BoardLine) -> str:
    if line.run is not None:
        return "running"
    if line.queued_at is not None:
        return "queued"
    if line.waits_for:
        return "waiting"
    return "paused" if line.paused_until is not None else "idle"


def _named(run: TaskRun) -> str:
    return f"{run.task} ({run.number or run.id})"


def _text(request: Mapping[str, object], key: str) -> str:
    found = request.get(key)
    if not isinstance(found, str) or not found:
        raise UsageError(f'a request to {request.get("do")} needs "{key}", a text')
    return found


def _moment(request: Mapping[str, object], key: str) -> datetime:
    try:
        found = datetime.fromisoformat(_text(request, key))
    except ValueError as error:
        raise UsageError(f'"{key}" must be a time such as 2026-11-26T08:00:00+01:00') from error
    if found.tzinfo is None:
        raise UsageError(f'"{key}" must have an offset, such as 2026-11-26T08:00:00+01:00')
    return found
