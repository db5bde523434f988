"""Tasks and pauses as the inventory stores them; it is open only during each call."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime

from msgspec import Struct

from backup.app.base.opened import opened
from backup.app.tasks.tasks import Task, TaskKey, noted_keys
from backup.app.tasks.times import LastRun
from backup.config import Config
from backup.inventory.questions.status import created_at
from backup.inventory.records import drills, runs
from backup.inventory.records import tasks as rows
from backup.inventory.records.ended_runs import last_copy
from backup.inventory.records.tasks import Pause, TaskRow
from backup.inventory.store.connections import Transaction
from backup.kinds import TaskKind, run_of
from backup.model import JobName, VaultName

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Seen(Struct, frozen=True):
    """The stored state: rows and newest runs by task, pauses by job, and the start of the newest run of all.

    If nothing ever ran, it is the time at which the inventory was made: a correct clock never shows an
    earlier time. `rebuilt_since`: the start of the rebuild, in a rebuilt inventory that knows no task yet.
    """

    rows: Mapping[TaskKey, TaskRow]
    last: Mapping[TaskKey, LastRun]
    pauses: Mapping[JobName, Pause]
    newest_start: datetime | None = None
    requests: frozenset[TaskKey] = frozenset()  # asked for by a person, and not begun
    rebuilt_since: datetime | None = None


class InventoryBook(Struct, frozen=True):
    """The tasks and pauses in the inventory of a config."""

    config: Config

    def read(self, tasks: Sequence[Task]) -> Seen:
        """Return the stored state of these tasks."""
        with closing(opened(self.config)) as inventory, inventory.reading() as tx:
            return read_tasks(tx, tasks)

    def write(
        self, *changed: TaskRow, asked: Collection[TaskKey] = (), answered: Collection[TaskKey] = ()
    ) -> None:
        """Store tasks durably, with the requests of a person that were added, begun or withdrawn."""
        with closing(opened(self.config)) as inventory, inventory.writing() as tx:
            for row in changed:
                rows.write_task(tx, row)
            for key in asked:
                rows.write_request(tx, key)
            for key in answered:
                rows.end_request(tx, key)

    def pause(self, pause: Pause) -> None:
        """Store a pause, durably, in place of the job's earlier one."""
        with closing(opened(self.config)) as inventory, inventory.writing() as tx:
            rows.write_pause(tx, pause)

    def resume(self, job: JobName) -> Pause | None:
        """Remove a job's pause and return it."""
        with closing(opened(self.config)) as inventory, inventory.writing() as tx:
            found = rows.all_pauses(tx).get(job)
            rows.end_pause(tx, job)
        return found


def read_tasks(tx: Transaction, tasks: Sequence[Task]) -> Seen:
    """Return the stored state of these tasks."""
    found = ((task.key, last_run_of(tx, task)) for task in tasks)
    return Seen(
        rows=rows.all_tasks(tx),
        last={key: run for key, run in found if run is not None},
        pauses=rows.all_pauses(tx),
        newest_start=max(created_at(tx), rows.newest_start(tx) or _LONG_AGO),
        requests=rows.all_requests(tx),
        rebuilt_since=rows.rebuilt_since(tx),
    )


def note_tasks(tx: Transaction, config: Config, since: datetime) -> None:
    """Record each new scheduled task as known since that time, from which on it can be overdue."""
    known, rebuilt = rows.all_tasks(tx), rows.rebuilt_since(tx)
    for key in noted_keys(config):
        if key not in known:
            rows.write_task(tx, TaskRow(*key, known_since=min(rebuilt or since, since)))


def last_run_of(tx: Transaction, task: Task) -> LastRun | None:
    """Return the newest run that did what the task does."""
    run = _last(tx, task)
    return None if run is None else LastRun(run.started_at, run.outcome)


def _last(tx: Transaction, task: Task) -> runs.Run | None:
    kind = run_of(task.kind)
    if kind is None:
        return None
    if task.kind is TaskKind.FORGET:
        return runs.last_policy_run(tx, JobName(task.name))
    if task.kind is TaskKind.DRILL:
        return drills.newest_of(tx, task.name)
    if task.kind is TaskKind.COPY:
        return last_copy(tx, JobName(task.of_job or ""), task.vault or VaultName(""))
    if task.of_job is not None:
        return runs.newest_of_kind(tx, JobName(task.name), kind)
    return runs.last_of_vault(tx, kind, VaultName(task.name))
