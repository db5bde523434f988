"""Queries for tasks, the daemon's scheduled work, and for pauses of jobs: what of both survives a restart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import delete, func, insert, select, update

from backup.inventory.database import Transaction
from backup.inventory.schema import about, micros, moment, pauses, runs, tasks
from backup.model import JobName


class TaskState(StrEnum):
    """What became of the newest attempt at a task."""

    NEW = "new"
    RUNNING = "running"
    DONE = "done"  # or partial
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # it goes on by itself
    CANCELLED = "cancelled"  # by a person: the next one comes by the schedule
    WAITING = "waiting"  # for its vault


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task as it is remembered; `failures` and `cuts` (ends of the process) since its last due time."""

    kind: str
    name: str
    known_since: datetime
    state: TaskState = TaskState.NEW
    began_at: datetime | None = None
    ended_at: datetime | None = None
    failures: int = 0
    cuts: int = 0


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause of a job, which ends by itself."""

    job: JobName
    since: datetime
    until: datetime


def all_tasks(tx: Transaction) -> Mapping[tuple[str, str], TaskRow]:
    """All tasks that were ever seen, by kind and name."""
    found = {}
    for row in tx.execute(select(tasks).where(tasks.c.kind != _REQUEST)):
        found[row.kind, row.name] = TaskRow(
            row.kind,
            row.name,
            moment(row.known_since),
            TaskState(row.state),
            None if row.began_at is None else moment(row.began_at),
            None if row.ended_at is None else moment(row.ended_at),
            row.failures,
            row.cuts,
        )
    return found


def rebuilt_since(tx: Transaction) -> datetime | None:
    """When the rebuild began that made this inventory; None if there was none, or tasks are known already."""
    if tx.execute(select(tasks.c.kind).where(tasks.c.kind != _REQUEST).limit(1)).first() is not None:
        return None
    row = tx.execute(select(about.c.created_at).where(about.c.predecessor.is_not(None))).first()
    return None if row is None else moment(row.created_at)


def write_task(tx: Transaction, row: TaskRow) -> None:
    """Record a task in place of what was known of it."""
    at = (tasks.c.kind == row.kind) & (tasks.c.name == row.name)
    values = {
        "known_since": micros(row.known_since),
        "state": row.state,
        "began_at": None if row.began_at is None else micros(row.began_at),
        "ended_at": None if row.ended_at is None else micros(row.ended_at),
        "failures": row.failures,
        "cuts": row.cuts,
    }
    if not tx.execute(update(tasks).where(at).values(**values)).rowcount:
        tx.execute(insert(tasks).values(kind=row.kind, name=row.name, **values))


# A request is a row of a kind of its own, with the task's kind and name as its name.
_REQUEST = "request"


def all_requests(tx: Transaction) -> frozenset[tuple[str, str]]:
    """The tasks that a person asked for and that have not begun, by kind and name."""
    names = tx.execute(select(tasks.c.name).where(tasks.c.kind == _REQUEST)).scalars()
    return frozenset((kind, name) for kind, _, name in (one.partition("/") for one in names))


def write_request(tx: Transaction, key: tuple[str, str]) -> None:
    """Record that a person asked for a task; no effect if that is recorded."""
    if key not in all_requests(tx):
        values = {"kind": _REQUEST, "name": "/".join(key), "known_since": 0, "state": TaskState.NEW}
        tx.execute(insert(tasks).values(**values, failures=0, cuts=0))


def end_request(tx: Transaction, key: tuple[str, str]) -> None:
    """Record that what was asked for has begun, or was taken back."""
    tx.execute(delete(tasks).where(tasks.c.kind == _REQUEST, tasks.c.name == "/".join(key)))


def all_pauses(tx: Transaction) -> Mapping[JobName, Pause]:
    """The pauses of jobs, also those that are over."""
    rows = tx.execute(select(pauses))
    return {JobName(row.job): Pause(JobName(row.job), moment(row.since), moment(row.until)) for row in rows}


def write_pause(tx: Transaction, pause: Pause) -> None:
    """Pause a job, in place of another pause of it."""
    end_pause(tx, pause.job)
    values = {"job": pause.job, "since": micros(pause.since), "until": micros(pause.until)}
    tx.execute(insert(pauses).values(**values))


def end_pause(tx: Transaction, job: JobName) -> None:
    """Take a job's pause back; no effect without one."""
    tx.execute(delete(pauses).where(pauses.c.job == job))


def newest_start(tx: Transaction) -> datetime | None:
    """When the newest run began, by its number: no clock decides which that is. None if nothing ever ran."""
    number = select(func.max(runs.c.number)).scalar_subquery()
    found = tx.execute(select(runs.c.started_at).where(runs.c.number == number)).scalar()
    return None if found is None else moment(found)
