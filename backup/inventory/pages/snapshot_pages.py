"""Queries for pages about snapshots: their sizes, and the numbers of all kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from backup.inventory.content.entry_versions import Series
from backup.inventory.content.snapshots import SNAPSHOTS, Snapshot, row_to_snapshot
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import marks, raw_rows, records
from backup.inventory.store.times import moment
from backup.model import JobName, SnapshotId

_KEPT = """
SELECT job, number, id, started_at FROM snapshots
WHERE forgotten_at IS NULL {only} ORDER BY job, number"""

_SIZES = """
SELECT j.name, s.started_at, s.bytes, s.files, s.id, s.number
FROM snapshots s JOIN jobs j ON j.number = s.job
WHERE s.forgotten_at IS NULL AND (s.started_at >= ? OR s.number = (
    SELECT max(number) FROM snapshots n WHERE n.job = s.job AND n.forgotten_at IS NULL))
ORDER BY j.name, s.number"""

_COUNTS = """
SELECT j.name, count(*) FROM snapshots s JOIN jobs j ON j.number = s.job
WHERE s.forgotten_at IS NULL GROUP BY j.name"""


class KeptSnapshot(NamedTuple):
    """A kept snapshot: no more than its number, its id and when it began."""

    number: int
    id: SnapshotId
    started_at: datetime


class SnapshotSize(NamedTuple):
    """The size of a kept snapshot."""

    started_at: datetime
    bytes: int
    files: int
    id: SnapshotId
    number: int


def kept_by_job(tx: Transaction, job: int | None = None) -> dict[int, Series[KeptSnapshot]]:
    """The kept snapshots of a job, or of each that has any, by the job's number."""
    sql = _KEPT.replace("{only}", "" if job is None else "AND job = ?")
    found: dict[int, list[KeptSnapshot]] = {}
    for of, number, snapshot, began in raw_rows(tx, sql, () if job is None else (job,)):
        found.setdefault(of, []).append(KeptSnapshot(number, SnapshotId(snapshot), moment(began)))
    return {of: Series(of_job) for of, of_job in found.items()}


def kept_of(tx: Transaction, job: int) -> Series[KeptSnapshot]:
    """The kept snapshots of a job; an empty series if there is none."""
    return kept_by_job(tx, job).get(job, Series())


def snapshots_of(tx: Transaction, ids: Sequence[SnapshotId]) -> dict[SnapshotId, Snapshot]:
    """The snapshots with these whole ids, as far as they exist; for at most some hundred."""
    rows = records(tx, f"{SNAPSHOTS} WHERE s.id IN ({marks(ids)})", tuple(ids))
    return {snapshot.id: snapshot for snapshot in map(row_to_snapshot, rows)}


def snapshots_of_prefix(tx: Transaction, prefix: str, *, limit: int = 2) -> list[Snapshot]:
    """Snapshots whose ids begin with these hex digits, forgotten ones among them."""
    sql = f"{SNAPSHOTS} WHERE s.id >= ? AND s.id < ? LIMIT ?"
    return [row_to_snapshot(row) for row in records(tx, sql, (prefix, prefix + "g", limit))]


def sizes_since(tx: Transaction, since: int) -> dict[JobName, list[SnapshotSize]]:
    """The sizes of each job's kept snapshots since a time (microseconds), and of its newest, oldest first."""
    found: dict[JobName, list[SnapshotSize]] = {}
    for job, began, *sums, snapshot, number in raw_rows(tx, _SIZES, (since,)):
        size = SnapshotSize(moment(began), sums[0], sums[1], SnapshotId(snapshot), number)
        found.setdefault(JobName(job), []).append(size)
    return found


def counts_by_job(tx: Transaction) -> dict[JobName, int]:
    """Return the number of kept snapshots of each job."""
    return {JobName(job): count for job, count in raw_rows(tx, _COUNTS, ())}
