"""Queries for pages about runs: a page at a time, without whole reports; and the archives a run stored."""

from __future__ import annotations

from typing import Any, NamedTuple

from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import raw_rows, row_of

_FIGURES = ("vault", "error", "files_read", "bytes_read", "bytes_uploaded", "problems", "bytes_new")
_MOST_BACKUPS = 10_000
_TOLD = ", ".join(f"json_extract(r.report, '$.{name}')" for name in _FIGURES)

_PAGE = f"""
SELECT r.number, r.kind, j.name, r.outcome, r.started_at, r.finished_at, {_TOLD}
FROM runs r LEFT JOIN jobs j ON j.number = r.job
WHERE {{where}} ORDER BY r.number DESC LIMIT ?"""

_STORED = """
SELECT number, kind, state, size, archive_id, stored_at FROM archives WHERE run = ?
ORDER BY number LIMIT ?"""
_STORED_SUM = "SELECT count(*), coalesce(sum(size), 0) FROM archives WHERE run = ?"
_BESIDE = """
SELECT (SELECT max(number) FROM runs WHERE job IS ? AND kind = ? AND number < ?),
       (SELECT min(number) FROM runs WHERE job IS ? AND kind = ? AND number > ?)"""
_NEWEST = "SELECT max(number), max(started_at), max(finished_at) FROM runs"

_NIGHTS = f"""
SELECT r.number, r.kind, j.name, r.outcome, r.started_at, r.finished_at, {_TOLD}
FROM runs r JOIN jobs j ON j.number = r.job
WHERE r.kind = 'backup' AND r.started_at >= ?
ORDER BY r.number DESC LIMIT ?"""
_MARKS = """
SELECT (SELECT count(*) FROM snapshots), (SELECT count(*) FROM snapshots WHERE forgotten_at IS NULL),
       (SELECT count(*) FROM restores WHERE state = 'open')"""


class RunRow(NamedTuple):
    """A run with the figures of its report that a list shows; None where its kind has none."""

    number: int
    kind: str
    job: str | None
    outcome: str
    started_at: int
    finished_at: int | None
    vault: Any
    error: Any
    files_read: Any
    bytes_read: Any
    bytes_uploaded: Any
    problems: Any
    bytes_new: Any


class StoredRow(NamedTuple):
    """An archive that a run stored."""

    number: int
    kind: int
    state: str
    size: int
    archive_id: str | None
    stored_at: int | None


def run_rows(
    tx: Transaction,
    *,
    job: int | None = None,
    kind: str | None = None,
    outcome: str | None = None,
    before: int | None = None,
    limit: int,
) -> list[RunRow]:
    """Runs with numbers below `before`, newest first, of that job, kind and outcome if they are given."""
    given = {"r.job = ?": job, "r.kind = ?": kind, "r.outcome = ?": outcome, "r.number < ?": before}
    chosen = {condition: value for condition, value in given.items() if value is not None}
    sql = _PAGE.replace("{where}", " AND ".join(chosen) or "1 = 1")
    return [RunRow._make(row) for row in raw_rows(tx, sql, (*chosen.values(), limit))]


def one_row(tx: Transaction, number: int) -> RunRow | None:
    """One run."""
    row = row_of(tx, _PAGE.replace("{where}", "r.number = ?"), (number, 1))
    return RunRow._make(row) if row else None


def stored_by(tx: Transaction, run: int, *, limit: int) -> list[StoredRow]:
    """The archives that a run stored, the first of them."""
    return [StoredRow._make(row) for row in raw_rows(tx, _STORED, (run, limit))]


def sum_stored_by(tx: Transaction, run: int) -> tuple[int, int]:
    """Return the number of archives that a run stored, and their bytes."""
    count, total = row_of(tx, _STORED_SUM, (run,))
    return count, total


def runs_beside(tx: Transaction, number: int, job: int | None, kind: str) -> tuple[int | None, int | None]:
    """The numbers of the runs of the same job and kind before and after one."""
    earlier, later = row_of(tx, _BESIDE, (job, kind, number, job, kind, number))
    return earlier, later


def newest(tx: Transaction) -> tuple[int, int]:
    """The number of the newest run, and when a run last began or ended (microseconds); 0 for none."""
    number, began, ended = row_of(tx, _NEWEST, ())
    return number or 0, max(began or 0, ended or 0)


def counts_of_marks(tx: Transaction) -> tuple[int, ...]:
    """Counts that change with events that no run records: snapshots forgotten, restores begun or ended."""
    row = row_of(tx, _MARKS, ())
    return tuple(row)


def proving_runs(tx: Transaction, *, limit: int) -> list[RunRow]:
    """The newest checks and drills of every kind, newest first."""
    sql = _PAGE.replace("{where}", "r.kind IN ('check', 'drill', 'rebuild-drill')")
    return [RunRow._make(row) for row in raw_rows(tx, sql, (limit,))]


def backups_since(tx: Transaction, since: int) -> list[RunRow]:
    """Backups that began since then (microseconds), by number; the newest ten thousand."""
    return [RunRow._make(row) for row in raw_rows(tx, _NIGHTS, (since, _MOST_BACKUPS))][::-1]
