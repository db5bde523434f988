"""Queries for tasks, the daemon's scheduled work, and for pauses of jobs: both survive a restart."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import changed, insert_row, raw_rows, records, row_of, value_of
from backup.inventory.store.times import micros, moment
from backup.model import JobName


class TaskState(StrEnum):
    """The result of the newest attempt at a task."""

    NEW = "new"
    RUNNING = "running"
    DONE = "done"  # or partial
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # it goes on by itself
    CANCELLED = "cancelled"  # by a person: the next one comes by the schedule
    WAITING = "waiting"  # for its vault


class TaskRow(Struct, frozen=True):
    """A task as it is remembered; `failures` and `cuts` (ends of the process) since its last due time."""

    kind: str
    name: str
    known_since: datetime
    state: TaskState = TaskState.NEW
    began_at: datetime | None = None
    ended_at: datetime | None = None
    failures: int = 0
    cuts: int = 0


class Pause(Struct, frozen=True):
    """A pause of a job, which ends by itself."""

    job: JobName
    since: datetime
    until: datetime


def all_tasks(tx: Transaction) -> Mapping[tuple[str, str], TaskRow]:
    """All tasks that were ever seen, by kind and name."""
    found = {}
    for row in records(tx, "SELECT * FROM tasks WHERE kind != ?", (_REQUEST,)):
        found[row["kind"], row["name"]] = TaskRow(
            row["kind"],
            row["name"],
            moment(row["known_since"]),
            TaskState(row["state"]),
            None if row["began_at"] is None else moment(row["began_at"]),
            None if row["ended_at"] is None else moment(row["ended_at"]),
            row["failures"],
            row["cuts"],
        )
    return found


def rebuilt_since(tx: Transaction) -> datetime | None:
    """When the rebuild began that made this inventory; None if there was none, or tasks are known already."""
    if row_of(tx, "SELECT 1 FROM tasks WHERE kind != ? LIMIT 1", (_REQUEST,)) is not None:
        return None
    found = value_of(tx, "SELECT created_at FROM about WHERE predecessor IS NOT NULL", ())
    return None if found is None else moment(found)


def write_task(tx: Transaction, row: TaskRow) -> None:
    """Record a task in place of what was known of it."""
    changed(tx, "DELETE FROM tasks WHERE kind = ? AND name = ?", (row.kind, row.name))
    insert_row(
        tx,
        "tasks",
        kind=row.kind,
        name=row.name,
        known_since=micros(row.known_since),
        state=row.state,
        began_at=None if row.began_at is None else micros(row.began_at),
        ended_at=None if row.ended_at is None else micros(row.ended_at),
        failures=row.failures,
        cuts=row.cuts,
    )


# A request is a row of a kind of its own, with the task's kind and name as its name.
_REQUEST = "request"


def all_requests(tx: Transaction) -> frozenset[tuple[str, str]]:
    """The tasks that a person asked for and that have not begun, by kind and name."""
    rows = raw_rows(tx, "SELECT name FROM tasks WHERE kind = ?", (_REQUEST,))
    return frozenset((kind, name) for kind, _, name in (row[0].partition("/") for row in rows))


def write_request(tx: Transaction, key: tuple[str, str]) -> None:
    """Record that a person asked for a task; no effect if that is recorded."""
    if key not in all_requests(tx):
        values = {"kind": _REQUEST, "name": "/".join(key), "known_since": 0, "state": TaskState.NEW}
        insert_row(tx, "tasks", **values, failures=0, cuts=0)


def end_request(tx: Transaction, key: tuple[str, str]) -> None:
    """Record that a requested task has begun, or that the request was cancelled."""
    changed(tx, "DELETE FROM tasks WHERE kind = ? AND name = ?", (_REQUEST, "/".join(key)))


def all_pauses(tx: Transaction) -> Mapping[JobName, Pause]:
    """The pauses of jobs, also those that are over."""
    rows = raw_rows(tx, "SELECT job, since, until FROM pauses", ())
    return {JobName(job): Pause(JobName(job), moment(since), moment(until)) for job, since, until in rows}


def write_pause(tx: Transaction, pause: Pause) -> None:
    """Pause a job, in place of another pause of it."""
    end_pause(tx, pause.job)
    insert_row(tx, "pauses", job=pause.job, since=micros(pause.since), until=micros(pause.until))


def end_pause(tx: Transaction, job: JobName) -> None:
    """End a job's pause; no effect without one."""
    changed(tx, "DELETE FROM pauses WHERE job = ?", (job,))


def newest_start(tx: Transaction) -> datetime | None:
    """When the run with the highest number began, whatever clocks said; None if nothing ever ran."""
    sql = "SELECT started_at FROM runs WHERE number = (SELECT max(number) FROM runs)"
    found = value_of(tx, sql, ())
    return None if found is None else moment(found)
