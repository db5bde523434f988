"""What the inventory remembers of tasks and pauses; it is open only while it is asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime

from msgspec import Struct

from backup.app.base.opened import opened
from backup.app.tasks.tasks import KINDS, Task, TaskKey, TaskKind, noted_keys
from backup.app.tasks.times import LastRun
from backup.config import Config
from backup.inventory.questions.status import created_at
from backup.inventory.records import drills, runs
from backup.inventory.records import tasks as rows
from backup.inventory.records.tasks import Pause, TaskRow
from backup.inventory.store.connections import Transaction
from backup.model import JobName, VaultName

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Seen(Struct, frozen=True):
    """One look: rows and newest runs by task, pauses by job, and when the newest run of all began.

    Where nothing ever ran that is when the inventory was made: no clock that is set shows an earlier time.
    `rebuilt_since`: when the rebuild began of an inventory that knows no task yet.
    """

    rows: Mapping[TaskKey, TaskRow]
    last: Mapping[TaskKey, LastRun]
    pauses: Mapping[JobName, Pause]
    newest_start: datetime | None = None
    requests: frozenset[TaskKey] = frozenset()  # asked for by a person, and not begun
    rebuilt_since: datetime | None = None


class InventoryBook(Struct, frozen=True):
    """The memory of tasks in the inventory of a config."""

    config: Config

    def read(self, tasks: Sequence[Task]) -> Seen:
        """What is known of these tasks."""
        with closing(opened(self.config)) as inventory, inventory.reading() as tx:
            return read_tasks(tx, tasks)

    def write(
        self, *changed: TaskRow, asked: Collection[TaskKey] = (), answered: Collection[TaskKey] = ()
    ) -> None:
        """Record tasks durably, with what a person asked for, and what was begun or taken back."""
        with closing(opened(self.config)) as inventory, inventory.writing() as tx:
            for row in changed:
                rows.write_task(tx, row)
            for key in asked:
                rows.write_request(tx, key)
            for key in answered:
                rows.end_request(tx, key)

    def pause(self, pause: Pause) -> None:
        """Record a pause, durably, in place of another of the job."""
        with closing(opened(self.config)) as inventory, inventory.writing() as tx:
            rows.write_pause(tx, pause)

    def resume(self, job: JobName) -> Pause | None:
        """Take back a job's pause; the one that there was."""
        with closing(opened(self.config)) as inventory, inventory.writing() as tx:
            found = rows.all_pauses(tx).get(job)
            rows.end_pause(tx, job)
        return found


def read_tasks(tx: Transaction, tasks: Sequence[Task]) -> Seen:
    """What the inventory knows of these tasks."""
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
    """Record since when all is known that has a schedule, where no daemon does: it counts from then."""
    known, rebuilt = rows.all_tasks(tx), rows.rebuilt_since(tx)
    for key in noted_keys(config):
        if key not in known:
            rows.write_task(tx, TaskRow(*key, known_since=min(rebuilt or since, since)))


def last_run_of(tx: Transaction, task: Task) -> LastRun | None:
    """The newest run that did what the task does."""
    run = _last(tx, task)
    return None if run is None else LastRun(run.started_at, run.outcome)


def _last(tx: Transaction, task: Task) -> runs.Run | None:
    kind = KINDS[task.kind].run
    if kind is None:
        return None
    if task.kind is TaskKind.FORGET:
        return runs.last_policy_run(tx, JobName(task.name))
    if task.kind is TaskKind.DRILL:
        return drills.newest_of(tx, task.name)
    if task.of_job is not None:
        return runs.newest_of_kind(tx, JobName(task.name), kind)
    return runs.last_of_vault(tx, kind, VaultName(task.name))
