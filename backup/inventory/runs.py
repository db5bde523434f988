"""Queries for jobs and their runs, with times, outcomes and reports."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Row, Select, func, insert, select, update

from backup.inventory.database import Transaction
from backup.inventory.schema import jobs, micros, moment, runs, vaults
from backup.log_context import run_began
from backup.model import KIB, MIB, JobName, VaultName

_SLOWEST, _FASTEST = 4 * KIB, 16 * KIB * MIB  # bytes a second of a link
LONGEST_RUN: Final = 366 * 24 * 3600 * 1_000_000
"""Microseconds: a run that took longer had a clock that was set."""
RESTORES_MEASURED: Final = 20
"""So many restores are looked at for how fast one is, the newest first."""


class RunKind(StrEnum):
    """The kind of a run; part of the JSON interface."""

    BACKUP = "backup"
    RESTORE = "restore"
    CHECK = "check"
    FORGET = "forget"
    MARK = "mark"
    PRUNE = "prune"
    COMPACT = "compact"
    REBUILD_DRILL = "rebuild-drill"
    DRILL = "drill"


COMMITTING: Final = (RunKind.BACKUP, RunKind.FORGET, RunKind.MARK, RunKind.PRUNE, RunKind.COMPACT)
"""Runs that become true once their catalog is stored."""


class Outcome(StrEnum):
    """The outcome of a run; part of the JSON interface."""

    RUNNING = "running"
    DONE = "done"
    PARTIAL = "partial"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


_OF_VAULTS: Final = 1_000  # the newest, of all vaults, among which that of one is looked for


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job in the inventory; `id` are 16 random bytes that stand for it in clear headers."""

    number: int
    id: bytes
    name: JobName
    vault: int


@dataclass(frozen=True, slots=True)
class Run:
    """One run; `snapshot_number` was allotted to it whether or not it was ever committed."""

    number: int
    kind: RunKind
    job: JobName | None
    outcome: Outcome
    started_at: datetime
    finished_at: datetime | None
    snapshot_number: int | None
    report: Mapping[str, Any]


def find_job(tx: Transaction, name: JobName) -> JobRow | None:
    """The job of that name; None if it never ran."""
    row = tx.execute(select(jobs).where(jobs.c.name == name)).first()
    return JobRow(row.number, row.id, JobName(row.name), row.vault) if row else None


def list_jobs(tx: Transaction, vault: VaultName) -> list[JobRow]:
    """The jobs that were backed up into a vault, by number."""
    query = select(jobs).join(vaults, vaults.c.number == jobs.c.vault).where(vaults.c.name == vault)
    rows = tx.execute(query.order_by(jobs.c.number))
    return [JobRow(row.number, row.id, JobName(row.name), row.vault) for row in rows]


def all_job_names(tx: Transaction) -> list[JobName]:
    """The names of all jobs that were ever backed up, in order."""
    return [JobName(row.name) for row in tx.execute(select(jobs.c.name).order_by(jobs.c.name))]


def job_names_by_number(tx: Transaction) -> dict[int, JobName]:
    """The names of all jobs that were ever backed up."""
    return {row.number: JobName(row.name) for row in tx.execute(select(jobs.c.number, jobs.c.name))}


def vault_of_job(tx: Transaction, job: int) -> VaultName:
    """The vault that holds a job's snapshots, whatever the config now says."""
    query = select(vaults.c.name).join(jobs, jobs.c.vault == vaults.c.number).where(jobs.c.number == job)
    return VaultName(tx.execute(query).scalar_one())


def get_or_create_job(tx: Transaction, name: JobName, vault: int, new_id: bytes) -> JobRow:
    """The job of that name; a new one gets `new_id` and belongs to `vault` for good."""
    found = find_job(tx, name)
    if found is not None:
        return found
    row = insert(jobs).values(id=new_id, name=name, vault=vault, next_snapshot=1, next_catalog=1)
    return JobRow(tx.execute(row.returning(jobs.c.number)).scalar_one(), new_id, name, vault)


def open_backup(tx: Transaction, job: JobRow, now: datetime) -> Run:
    """Record the begin of a backup, and give it the job's next snapshot number."""
    number = tx.execute(select(jobs.c.next_snapshot).where(jobs.c.number == job.number)).scalar_one()
    tx.execute(update(jobs).where(jobs.c.number == job.number).values(next_snapshot=number + 1))
    return _open(tx, RunKind.BACKUP, job, now, number)


def open_amendment(tx: Transaction, kind: RunKind, job: JobRow, now: datetime, prepared: bytes) -> Run:
    """Record the begin of a change of what was saved before, with all that it will change."""
    run = _open(tx, kind, job, now, None)
    prepare(tx, run.number, prepared)
    return run


def open_restore(tx: Transaction, job: JobRow | None, now: datetime) -> Run:
    """Record the begin of a restore."""
    return _open(tx, RunKind.RESTORE, job, now, None)


def open_check(tx: Transaction, now: datetime) -> Run:
    """Record the begin of a check."""
    return _open(tx, RunKind.CHECK, None, now, None)


def open_drill(tx: Transaction, now: datetime) -> Run:
    """Record the begin of a drill."""
    return _open(tx, RunKind.DRILL, None, now, None)


def record_of_vault(
    tx: Transaction,
    kind: RunKind,
    outcome: Outcome,
    report: Mapping[str, Any],
    began: datetime,
    ended: datetime,
) -> None:
    """Record a run of a whole vault that has ended, such as a prune; the report names the vault."""
    run = _open(tx, kind, None, began, None)
    finish_run(tx, run.number, outcome, report, ended)


def last_of_vault(tx: Transaction, kind: RunKind, vault: VaultName) -> Run | None:
    """The newest run of a kind of a whole vault that ended, with any outcome."""
    query = _query().where(runs.c.kind == kind, runs.c.job.is_(None), runs.c.report.is_not(None))
    for row in tx.execute(query.order_by(runs.c.number.desc()).limit(_OF_VAULTS)):
        run = _run(row)
        if run.report.get("vault") == vault:
            return run
    return None


def _open(
    tx: Transaction, kind: RunKind, job: JobRow | None, now: datetime, snapshot_number: int | None
) -> Run:
    query = insert(runs).values(
        kind=kind,
        job=job.number if job else None,
        outcome=Outcome.RUNNING,
        started_at=micros(now),
        snapshot_number=snapshot_number,
    )
    number = tx.execute(query.returning(runs.c.number)).scalar_one()
    run_began(number)
    return Run(number, kind, job.name if job else None, Outcome.RUNNING, now, None, snapshot_number, {})


def allot_catalog(tx: Transaction, job: JobRow) -> int:
    """The job's next catalog number; committed before it is used, so gaps are normal."""
    number = tx.execute(select(jobs.c.next_catalog).where(jobs.c.number == job.number)).scalar_one()
    tx.execute(update(jobs).where(jobs.c.number == job.number).values(next_catalog=number + 1))
    return int(number)


def finish_run(
    tx: Transaction, number: int, outcome: Outcome, report: Mapping[str, Any], now: datetime
) -> None:
    """Record the end of a run, of which nobody was told yet; a later call replaces an earlier one's."""
    values = {"outcome": outcome, "finished_at": micros(now), "report": json.dumps(report), "noticed": None}
    tx.execute(update(runs).where(runs.c.number == number).values(**values))


def unnoticed(tx: Transaction) -> Sequence[Run]:
    """Runs that have ended and that nobody has looked at in order to tell of them, oldest first."""
    query = _query().where(runs.c.noticed.is_(None), runs.c.outcome != Outcome.RUNNING)
    return [_run(row) for row in tx.execute(query.order_by(runs.c.number))]


def mark_noticed(tx: Transaction, number: int) -> None:
    """Record that a run was looked at; in the transaction in which its messages become rows."""
    tx.execute(update(runs).where(runs.c.number == number).values(noticed=1))


def mark_all_noticed(tx: Transaction) -> None:
    """Record that every run that has ended was looked at, where nobody is to be told."""
    tx.execute(
        update(runs).where(runs.c.noticed.is_(None), runs.c.outcome != Outcome.RUNNING).values(noticed=1)
    )


def find_run(tx: Transaction, number: int) -> Run | None:
    """The run of that number; None if there is none."""
    row = tx.execute(_query().where(runs.c.number == number)).first()
    return _run(row) if row else None


def reports_before(tx: Transaction, job: JobName, number: int, *, limit: int) -> list[dict[str, Any]]:
    """The reports of the job's newest backups before run `number` that made a snapshot, oldest first."""
    made = runs.c.outcome.in_([Outcome.DONE, Outcome.PARTIAL])
    query = select(runs.c.report).join(jobs, jobs.c.number == runs.c.job)
    query = query.where(runs.c.kind == RunKind.BACKUP, jobs.c.name == job, made, runs.c.number < number)
    found = tx.execute(query.order_by(runs.c.number.desc()).limit(limit)).scalars()
    return [dict(json.loads(one)) for one in found if one][::-1]


def _query() -> Select[Any]:
    return select(runs, jobs.c.name.label("job_name")).join_from(runs, jobs, isouter=True)


def list_runs(tx: Transaction, *, limit: int = 50, job: JobName | None = None) -> Sequence[Run]:
    """The newest runs, newest first."""
    query = _query().order_by(runs.c.number.desc()).limit(limit)
    if job is not None:
        query = query.where(jobs.c.name == job)
    return [_run(row) for row in tx.execute(query)]


def unfinished_commits(
    tx: Transaction, vault: int, *, before: int | None = None
) -> Sequence[tuple[Run, JobRow, bytes | None]]:
    """Runs that store catalogs in a vault, before run `before`, without a recorded end.

    With what each prepared: a backup its snapshot, any other its amendment.
    """
    query = (
        _query()
        .add_columns(jobs.c.id.label("job_id"), jobs.c.vault)
        .where(runs.c.kind.in_(COMMITTING), runs.c.outcome == Outcome.RUNNING, jobs.c.vault == vault)
        .order_by(runs.c.number)
    )
    if before is not None:
        query = query.where(runs.c.number < before)
    return [
        (_run(row), JobRow(row.job, row.job_id, JobName(row.job_name), row.vault), row.prepared)
        for row in tx.execute(query)
    ]


def prepare(tx: Transaction, run: int, record: bytes) -> None:
    """Record what becomes true once the run's catalog is stored, in case we die."""
    tx.execute(update(runs).where(runs.c.number == run).values(prepared=record))


def record_forget(
    tx: Transaction, job: JobRow, outcome: Outcome, report: Mapping[str, Any], began: datetime, now: datetime
) -> None:
    """Record that a job's policy was applied, or could not be, where nothing was changed."""
    finish_run(tx, _open(tx, RunKind.FORGET, job, began, None).number, outcome, report, now)


def last_backup(tx: Transaction, job: JobName) -> Run | None:
    """The job's newest backup, with any outcome."""
    return newest_of_kind(tx, job, RunKind.BACKUP)


def newest_of_kind(tx: Transaction, job: JobName, kind: RunKind) -> Run | None:
    """The job's newest run of a kind, with any outcome."""
    query = _query().where(runs.c.kind == kind, jobs.c.name == job).order_by(runs.c.number.desc()).limit(1)
    row = tx.execute(query).first()
    return _run(row) if row else None


def last_policy_run(tx: Transaction, job: JobName) -> Run | None:
    """The newest run that applied the job's policy, with any outcome: none by name, and no undo."""
    told = func.coalesce(runs.c.report, "")
    query = _query().where(runs.c.kind == RunKind.FORGET, jobs.c.name == job)
    query = query.where(told.not_like('%"taken_%'), told.not_like('%"policy": null%'))
    row = tx.execute(query.order_by(runs.c.number.desc()).limit(1)).first()
    return _run(row) if row else None


def last_report(tx: Transaction, job: JobRow, *, before: int) -> Mapping[str, Any]:
    """The report of the job's newest backup before run `before` that made a snapshot; empty for none."""
    made = runs.c.outcome.in_([Outcome.DONE, Outcome.PARTIAL])
    query = select(runs.c.report).where(runs.c.kind == RunKind.BACKUP, runs.c.job == job.number, made)
    query = query.where(runs.c.number < before)
    report = tx.execute(query.order_by(runs.c.number.desc()).limit(1)).scalar()
    return dict(json.loads(report)) if report else {}


def restore_speed(tx: Transaction, *, least: int) -> float | None:
    """Bytes a second of the newest restore that fetched `least` bytes; None if there was none.

    Impossible values are ignored: the clock was set during the run.
    """
    query = _query().where(runs.c.kind == RunKind.RESTORE, runs.c.report.is_not(None))
    for row in tx.execute(query.order_by(runs.c.number.desc()).limit(RESTORES_MEASURED)):
        report = json.loads(row.report)
        if report.get("fetched", 0) >= least and report.get("seconds", 0) > 0:
            speed = float(report["fetched"] / report["seconds"])
            if _SLOWEST <= speed <= _FASTEST:
                return speed
    return None


def longest_run(tx: Transaction) -> int:
    """The seconds that the longest backup took, of those that ended well and whose clock was not set."""
    took = runs.c.finished_at - runs.c.started_at
    query = select(func.max(took)).where(runs.c.kind == RunKind.BACKUP, took < LONGEST_RUN)
    longest = tx.execute(query.where(runs.c.outcome.in_([Outcome.DONE, Outcome.PARTIAL]))).scalar()
    return int((longest or 0) / 1_000_000)


def _run(row: Row[Any]) -> Run:
    return Run(
        row.number,
        RunKind(row.kind),
        JobName(row.job_name) if row.job_name else None,
        Outcome(row.outcome),
        moment(row.started_at),
        moment(row.finished_at) if row.finished_at else None,
        row.snapshot_number,
        json.loads(row.report) if row.report else {},
    )
