"""Queries for failed attempts: scheduled checks and drills that broke off without a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from backup.inventory.records.runs import RUNS, run_of
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import changed, marks, records
from backup.kinds import Outcome, RunKind
from backup.model import JobName

_SAME: Final = ("vault", "drill", "grade")


def tells_of_failure(
    tx: Transaction, kind: RunKind, report: Mapping[str, Any], job: JobName | None, *, after: int
) -> bool:
    """Whether a run after number `after`, of that job or of the vault in the report, did not end well."""
    sql = f"""{RUNS} WHERE r.number > ? AND r.kind = ? AND r.outcome IN (?, ?)"""
    found = records(tx, sql, (after, kind, Outcome.FAILED, Outcome.INTERRUPTED))
    vault = report.get("vault")
    return any(run.job == job if job is not None else run.vault == vault for run in map(run_of, found))


def failed_attempts(tx: Transaction, kind: RunKind, report: Mapping[str, Any]) -> list[int]:
    """Failed checks or drills of the vault, drill and grade in `report`, which a success settles."""
    sql = f"""{RUNS} WHERE r.kind = ? AND r.outcome = ? AND json_type(r.report, '$.findings') IS NULL
              AND json_type(r.report, '$.over') IS NULL"""
    reads = report.get("read") is not None
    return [
        run.number
        for run in map(run_of, records(tx, sql, (kind, Outcome.FAILED)))
        if all(run.report.get(key) == report.get(key) for key in _SAME) and run.reads_back == reads
    ]


def end_attempts(tx: Transaction, numbers: Sequence[int]) -> None:
    """Record that a later run succeeded, so that these attempts are no concern any more."""
    sql = f"UPDATE runs SET report = json_set(report, '$.over', 1) WHERE number IN ({marks(numbers)})"
    changed(tx, sql, tuple(numbers))
