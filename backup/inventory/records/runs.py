"""Queries for jobs and their runs, with times, outcomes and reports."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import datetime
from sqlite3 import Row
from typing import Any, Final

from msgspec import Struct

from backup.errors import InterruptedRunError
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import (
    changed,
    insert_row,
    marks,
    needed,
    number_of,
    raw_rows,
    record_of,
    records,
    row_of,
    value_of,
)
from backup.inventory.store.times import micros, moment
from backup.kinds import Outcome, RunKind
from backup.log_context import run_began
from backup.model import InventoryId, JobName, VaultName

LONGEST_RUN: Final = 366 * 24 * 3600 * 1_000_000
"""Microseconds: a run that took longer had a clock that was set."""
COMMITTING: Final = (RunKind.BACKUP, RunKind.FORGET, RunKind.MARK, RunKind.PRUNE, RunKind.COMPACT)
"""Runs that become true once their catalog is stored."""
_MADE: Final = (Outcome.DONE, Outcome.PARTIAL)  # backups that made a snapshot
RUNS: Final = """SELECT r.*, j.name AS job_name, j.id AS job_id, j.vault
                 FROM runs r LEFT JOIN jobs j ON j.number = r.job"""


class JobRow(Struct, frozen=True):
    """A job in the inventory; `id` are 16 bytes that stand for it in clear headers.

    The id follows from the inventory that made it and a nonce; None for both if an older version made it.
    """

    number: int
    id: bytes
    name: JobName
    vault: int
    made_by: InventoryId | None = None
    nonce: bytes | None = None


class RunFigures(Struct, frozen=True):
    """Figures of a run's report; None where its kind has no such figure, or lists what is counted."""

    files: int | None
    files_read: int | None
    bytes_read: int | None
    bytes_uploaded: int | None
    problems: int | None


class Run(Struct, frozen=True):
    """One run; `snapshot_number` was allotted to it whether or not it was ever committed."""

    number: int
    kind: RunKind
    job: JobName | None
    outcome: Outcome
    started_at: datetime
    finished_at: datetime | None
    snapshot_number: int | None
    report: Mapping[str, Any]

    @property
    def vault(self) -> VaultName | None:
        """The vault that its report names; that of a backup or forget may be its job's alone."""
        vault = self._text("vault")
        return VaultName(vault) if vault else None

    @property
    def drill(self) -> str | None:
        """The drill that its report names."""
        return self._text("drill")

    @property
    def grade(self) -> str:
        """The grade of a drill, in words; empty for any other run."""
        return self._text("grade") or ""

    @property
    def error(self) -> str | None:
        """The message that it failed by."""
        return self._text("error")

    @property
    def warnings(self) -> list[str]:
        """Sentences for people to act on."""
        return [str(warning) for warning in self.report.get("warnings") or ()]

    @property
    def figures(self) -> RunFigures:
        """Its figures that lists show."""
        return RunFigures(*(self._whole(name) for name in RunFigures.__struct_fields__))

    def _text(self, key: str) -> str | None:
        found = self.report.get(key)
        return None if found is None else str(found)

    def _whole(self, key: str) -> int | None:
        found = self.report.get(key)
        return found if isinstance(found, int) else None

    @property
    def reads_back(self) -> bool:
        """Whether it is a check that read archives back, and not one that compared lists."""
        return self.kind is RunKind.CHECK and self.report.get("read") is not None

    @property
    def found_damage(self) -> bool:
        """Whether it is a check or drill that found something missing or damaged; not one that broke off."""
        looked = self.kind in {RunKind.CHECK, RunKind.DRILL} and "findings" in self.report
        return looked and self.outcome is Outcome.FAILED


def find_job(tx: Transaction, name: JobName) -> JobRow | None:
    """The job of that name; None if it never ran."""
    row = row_of(tx, "SELECT number, id, name, vault, made_by, nonce FROM jobs WHERE name = ?", (name,))
    return JobRow(*row) if row else None


def list_jobs(tx: Transaction, vault: VaultName) -> list[JobRow]:
    """The jobs that were backed up into a vault, by number."""
    sql = """SELECT j.number, j.id, j.name, j.vault, j.made_by, j.nonce
             FROM jobs j JOIN vaults v ON v.number = j.vault
             WHERE v.name = ? ORDER BY j.number"""
    return [JobRow(*row) for row in raw_rows(tx, sql, (vault,))]


def all_job_names(tx: Transaction) -> list[JobName]:
    """The names of all jobs that were ever backed up, in order."""
    return [JobName(name) for (name,) in raw_rows(tx, "SELECT name FROM jobs ORDER BY name", ())]


def job_names_by_number(tx: Transaction) -> dict[int, JobName]:
    """The names of all jobs that were ever backed up."""
    rows = raw_rows(tx, "SELECT number, name FROM jobs", ())
    return {number: JobName(name) for number, name in rows}


def vault_of_job(tx: Transaction, job: int) -> VaultName:
    """The vault that holds a job's snapshots, whatever the config now says."""
    sql = "SELECT v.name FROM jobs j JOIN vaults v ON v.number = j.vault WHERE j.number = ?"
    return VaultName(needed(tx, sql, (job,)))


def get_or_create_job(
    tx: Transaction,
    name: JobName,
    vault: int,
    new_id: bytes,
    *,
    made_by: InventoryId | None = None,
    nonce: bytes | None = None,
) -> JobRow:
    """The job of that name; a new one gets `new_id` and belongs to `vault` for good.

    `made_by` and `nonce` are what the new id follows from (`format.enrolment.job_id_of`).
    """
    found = find_job(tx, name)
    if found is not None:
        return found
    first = {"next_snapshot": 1, "next_catalog": 1, "made_by": made_by, "nonce": nonce}
    number = insert_row(tx, "jobs", id=new_id, name=name, vault=vault, **first)
    return JobRow(number, new_id, name, vault, made_by, nonce)


def open_backup(tx: Transaction, job: JobRow, now: datetime) -> Run:
    """Record the begin of a backup, and give it the job's next snapshot number."""
    number = number_of(tx, "SELECT next_snapshot FROM jobs WHERE number = ?", (job.number,))
    changed(tx, "UPDATE jobs SET next_snapshot = ? WHERE number = ?", (number + 1, job.number))
    return _open(tx, RunKind.BACKUP, job, now, number)


def open_amendment(
    tx: Transaction,
    kind: RunKind,
    job: JobRow,
    now: datetime,
    prepared: bytes,
    *,
    copied_to: int | None = None,
) -> Run:
    """Record the begin of a change of what was saved before, with all that it will change.

    `copied_to`: the other vault whose catalogs it changes.
    """
    run = _open(tx, kind, job, now, None)
    changed(tx, "UPDATE runs SET copied_to = ? WHERE number = ?", (copied_to, run.number))
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
    record_attempt(tx, kind, None, outcome, report, began, ended)


def record_attempt(
    tx: Transaction,
    kind: RunKind,
    job: JobRow | None,
    outcome: Outcome,
    report: Mapping[str, Any],
    began: datetime,
    ended: datetime,
) -> None:
    """Record a run that has ended, of a job or of the vault or drill that the report names."""
    finish_run(tx, _open(tx, kind, job, began, None).number, outcome, report, ended)


def newest_number(tx: Transaction) -> int:
    """The number of the newest run; 0 if there is none."""
    return number_of(tx, "SELECT coalesce(max(number), 0) FROM runs", ())


def last_of_vault(tx: Transaction, kind: RunKind, vault: VaultName) -> Run | None:
    """The newest run of a kind of a whole vault that ended, with any outcome."""
    sql = f"""{RUNS} WHERE r.kind = ? AND r.job IS NULL AND json_extract(r.report, '$.vault') = ?
              ORDER BY r.number DESC LIMIT 1"""
    row = record_of(tx, sql, (kind, vault))
    return run_of(row) if row else None


def _open(
    tx: Transaction, kind: RunKind, job: JobRow | None, now: datetime, snapshot_number: int | None
) -> Run:
    number = insert_row(
        tx,
        "runs",
        kind=kind,
        job=job.number if job else None,
        outcome=Outcome.RUNNING,
        started_at=micros(now),
        snapshot_number=snapshot_number,
    )
    run_began(number)
    return Run(number, kind, job.name if job else None, Outcome.RUNNING, now, None, snapshot_number, {})


def allot_catalog(tx: Transaction, job: JobRow) -> int:
    """The job's next catalog number; committed before it is used, so gaps are normal."""
    number = number_of(tx, "SELECT next_catalog FROM jobs WHERE number = ?", (job.number,))
    changed(tx, "UPDATE jobs SET next_catalog = ? WHERE number = ?", (number + 1, job.number))
    return number


def finish_run(
    tx: Transaction, number: int, outcome: Outcome, report: Mapping[str, Any], now: datetime
) -> None:
    """Record the end of a run, for which no message is made yet; a later call replaces an earlier one's."""
    sql = """UPDATE runs SET outcome = ?, finished_at = ?, report = ?, noticed = NULL
             WHERE number = ?"""
    changed(tx, sql, (outcome, micros(now), json.dumps(report), number))


def running_restores(tx: Transaction) -> list[int]:
    """The numbers of restores' runs without a recorded end."""
    sql = "SELECT number FROM runs WHERE kind = ? AND outcome = ? ORDER BY number"
    return [number for (number,) in raw_rows(tx, sql, (RunKind.RESTORE, Outcome.RUNNING))]


def mark_all_noticed(tx: Transaction) -> None:
    """Mark every run that has ended as noticed, if there is no channel for messages."""
    changed(tx, "UPDATE runs SET noticed = 1 WHERE noticed IS NULL AND outcome != ?", (Outcome.RUNNING,))


def outcome_of(error: BaseException) -> Outcome:
    """The outcome of a run that an error ended."""
    stopped = isinstance(error, (InterruptedRunError, KeyboardInterrupt))
    return Outcome.INTERRUPTED if stopped else Outcome.FAILED


def find_run(tx: Transaction, number: int) -> Run | None:
    """The run of that number; None if there is none."""
    row = record_of(tx, f"{RUNS} WHERE r.number = ?", (number,))
    return run_of(row) if row else None


def reports_before(tx: Transaction, job: JobName, number: int, *, limit: int) -> list[dict[str, Any]]:
    """The reports of the job's newest backups before run `number` that made a snapshot, oldest first."""
    sql = """SELECT r.report FROM runs r JOIN jobs j ON j.number = r.job
             WHERE r.kind = ? AND j.name = ? AND r.outcome IN (?, ?) AND r.number < ?
             ORDER BY r.number DESC LIMIT ?"""
    found = raw_rows(tx, sql, (RunKind.BACKUP, job, *_MADE, number, limit))
    return [dict(json.loads(report)) for (report,) in found if report][::-1]


def list_runs(
    tx: Transaction,
    *,
    job: JobName | None = None,
    kinds: Collection[RunKind] = (),
    outcome: Outcome | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[Run]:
    """The newest runs, newest first: of that job, one of these kinds, that outcome, and below `before`."""
    of_job = "r.job = (SELECT number FROM jobs WHERE name = ?)"
    given = {of_job: job, "r.outcome = ?": outcome, "r.number < ?": before}
    where = [f"r.kind IN ({marks(kinds)})"] if kinds else ["1"]
    where += [condition for condition, value in given.items() if value is not None]
    values = (*kinds, *(value for value in given.values() if value is not None), limit)
    sql = f"{RUNS} WHERE {' AND '.join(where)} ORDER BY r.number DESC LIMIT ?"
    return [run_of(row) for row in records(tx, sql, values)]


def prepare(tx: Transaction, run: int, record: bytes) -> None:
    """Record the changes that a run commits once its catalog is stored, in case this process dies."""
    changed(tx, "UPDATE runs SET prepared = ? WHERE number = ?", (record, run))


def last_backup(tx: Transaction, job: JobName) -> Run | None:
    """The job's newest backup, with any outcome."""
    return newest_of_kind(tx, job, RunKind.BACKUP)


def newest_of_kind(tx: Transaction, job: JobName, kind: RunKind) -> Run | None:
    """The job's newest run of a kind, with any outcome."""
    sql = f"{RUNS} WHERE r.kind = ? AND j.name = ? ORDER BY r.number DESC LIMIT 1"
    row = record_of(tx, sql, (kind, job))
    return run_of(row) if row else None


def last_policy_run(tx: Transaction, job: JobName) -> Run | None:
    """The newest run that applied the job's policy, with any outcome; not one by name, nor an undo."""
    sql = f"""{RUNS} WHERE r.kind = ? AND j.name = ? AND coalesce(r.report, '') NOT LIKE ?
              AND coalesce(r.report, '') NOT LIKE ? ORDER BY r.number DESC LIMIT 1"""
    row = record_of(tx, sql, (RunKind.FORGET, job, '%"taken_%', '%"policy": null%'))
    return run_of(row) if row else None


def last_report(tx: Transaction, job: JobRow, *, before: int) -> Mapping[str, Any]:
    """The report of the job's newest backup before run `before` that made a snapshot; empty for none."""
    sql = """SELECT report FROM runs WHERE kind = ? AND job = ? AND outcome IN (?, ?) AND number < ?
             ORDER BY number DESC LIMIT 1"""
    report = value_of(tx, sql, (RunKind.BACKUP, job.number, *_MADE, before))
    return dict(json.loads(report)) if report else {}


def longest_run(tx: Transaction) -> int:
    """The seconds that the longest backup took, of those that ended well and whose clock was not set."""
    sql = """SELECT max(finished_at - started_at) FROM runs
             WHERE kind = ? AND finished_at - started_at < ? AND outcome IN (?, ?)"""
    longest = value_of(tx, sql, (RunKind.BACKUP, LONGEST_RUN, *_MADE))
    return int((longest or 0) / 1_000_000)


def run_of(row: Row) -> Run:
    """A run from a row of `RUNS`."""
    return Run(
        row["number"],
        RunKind(row["kind"]),
        JobName(row["job_name"]) if row["job_name"] else None,
        Outcome(row["outcome"]),
        moment(row["started_at"]),
        moment(row["finished_at"]) if row["finished_at"] else None,
        row["snapshot_number"],
        json.loads(row["report"]) if row["report"] else {},
    )
