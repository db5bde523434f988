"""Queries for the ends of runs: the newest that ended, and those that died before they recorded one."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final

from backup.inventory.records.runs import COMMITTING, RUNS, Run, finish_run, run_of, running_restores
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import record_of, records
from backup.inventory.store.holders import RESTORE, held_locks
from backup.kinds import Outcome, RunKind
from backup.model import JobName, VaultName

# Of what is of a vault those of each vault, of drills those of each name and grade; of checks each sort by
# itself, so that none hides another's end. One that was stopped hides none either: it says nothing.
NEWEST_ENDED: Final = """
    SELECT max(number) FROM runs
    WHERE kind IN ('backup', 'forget') AND outcome NOT IN ('running', 'interrupted')
    GROUP BY kind, job
    UNION ALL
    SELECT max(number) FROM runs WHERE kind = 'backup' AND outcome = 'interrupted' GROUP BY job
    UNION ALL
    SELECT max(number) FROM runs
    WHERE kind NOT IN ('backup', 'forget', 'restore', 'mark')
      AND outcome NOT IN ('running', 'interrupted') AND json_type(report, '$.over') IS NULL
    GROUP BY kind, job, json_extract(report, '$.vault'), json_extract(report, '$.drill'),
             json_extract(report, '$.grade'), json_type(report, '$.read'),
             json_type(report, '$.compared'), json_type(report, '$.laws')"""
"""The numbers of the runs whose end is shown: by job also the newest that was stopped."""


def settle_dead_restores(tx: Transaction, directory: str, now: datetime, *, but: str = "") -> None:
    """Record the end of restores' runs without a process; `but` is the caller's lock.

    While another restore is at work its run cannot be told from dead ones: a later call settles them.
    """
    open_runs = running_restores(tx)
    held = held_locks(directory) if open_runs else None
    if held is not None and not any(name.startswith(RESTORE) and name != but for name in held):
        for number in open_runs:
            finish_run(tx, number, Outcome.INTERRUPTED, {"error": "the process died"}, now)


def is_dead(run: Run, held: Collection[str] | None) -> bool:
    """Whether a run without a recorded end has no process any more.

    False for checks and drills: one that waits for its vault is open without a process.
    """
    if run.outcome is not Outcome.RUNNING or held is None:
        return False
    if run.kind in COMMITTING:
        return "backup" not in held
    return run.kind is RunKind.RESTORE and not any(name.startswith(RESTORE) for name in held)


def last_copy(tx: Transaction, job: JobName, vault: VaultName) -> Run | None:
    """The newest copy of a job into a vault that ended, with any outcome."""
    sql = f"""{RUNS} WHERE r.kind = ? AND j.name = ? AND json_extract(r.report, '$.vault') = ?
              ORDER BY r.number DESC LIMIT 1"""
    row = record_of(tx, sql, (RunKind.COPY, job, vault))
    return run_of(row) if row else None


def open_copies(tx: Transaction) -> list[tuple[Run, int]]:
    """Copies without a recorded end, each with the number of the vault that gets them."""
    sql = f"{RUNS} WHERE r.kind = ? AND r.outcome = ? ORDER BY r.number"
    return [(run_of(row), row["copied_to"]) for row in records(tx, sql, (RunKind.COPY, Outcome.RUNNING))]
