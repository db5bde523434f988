"""Queries for pages about runs: backups by nights, without whole reports; and the archives a run stored."""

from __future__ import annotations

from typing import NamedTuple

from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import raw_rows, row_of

_MOST_BACKUPS = 10_000

_STORED = """
SELECT number, kind, state, size, archive_id, stored_at FROM archives WHERE run = ?
ORDER BY number LIMIT ?"""
_STORED_SUM = "SELECT count(*), coalesce(sum(size), 0) FROM archives WHERE run = ?"
_BESIDE = """
SELECT (SELECT max(number) FROM runs WHERE job IS ? AND kind = ? AND number < ?),
       (SELECT min(number) FROM runs WHERE job IS ? AND kind = ? AND number > ?)"""
_NEWEST = "SELECT max(number), max(started_at), max(finished_at) FROM runs"

_NIGHTS = """
SELECT r.number, j.name, r.outcome, r.started_at, json_extract(r.report, '$.files_read'),
       json_extract(r.report, '$.bytes_uploaded'), json_extract(r.report, '$.bytes_new')
FROM runs r JOIN jobs j ON j.number = r.job
WHERE r.kind = 'backup' AND r.started_at >= ?
ORDER BY r.number DESC LIMIT ?"""
_MARKS = """
SELECT (SELECT count(*) FROM snapshots), (SELECT count(*) FROM snapshots WHERE forgotten_at IS NULL),
       (SELECT count(*) FROM restores WHERE state = 'open')"""


class BackupRow(NamedTuple):
    """A backup with the figures by which nights are judged; None where its report lacks them."""

    number: int
    job: str
    outcome: str
    started_at: int
    files_read: int | None
    bytes_uploaded: int | None
    bytes_new: int | None


class StoredRow(NamedTuple):
    """An archive that a run stored."""

    number: int
    kind: int
    state: str
    size: int
    archive_id: str | None
    stored_at: int | None


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


def backups_since(tx: Transaction, since: int) -> list[BackupRow]:
    """Backups that began since then (microseconds), by number; the newest ten thousand."""
    return [BackupRow._make(row) for row in raw_rows(tx, _NIGHTS, (since, _MOST_BACKUPS))][::-1]
