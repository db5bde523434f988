"""Snapshots in which a source has lost nearly everything, and the jobs whose deletions wait for an answer.

Until a person accepts such a snapshot (or `may_shrink` of its job does), nothing of the job is forgotten,
condemned or deleted. Catalogs carry both, so a rebuild keeps the wait. Later snapshots do not end the wait.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

from backup.format.records import MOST, ShrunkRecord
from backup.inventory.content.snapshots import Lost, unpack_lost
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import raw_rows
from backup.inventory.store.times import moment
from backup.model import EntryKind, JobName, SnapshotId, VaultName
from backup.wording import counted, printable, size

_AT: Final = "e.added_in <= ? AND (e.removed_in IS NULL OR e.removed_in > ?)"
_IN_TREE: Final = "(d.path = ? OR (d.path >= ? AND d.path < ?))"


def lost_text(lost: Lost) -> str:
    """A sentence on what a source lost."""
    return (
        f"source {printable(os.fsdecode(lost.source))} has lost nearly everything: it holds "
        f"{counted(lost.files, 'file')} ({size(lost.length)}), and held "
        f"{counted(lost.files_before, 'file')} ({size(lost.length_before)})"
    )


class Wait(Struct, frozen=True):
    """A job that waits for an answer: the newest snapshot to be accepted, and what its sources lost."""

    job: JobName
    job_number: int
    job_id: bytes
    vault: VaultName
    snapshot: SnapshotId
    began_at: datetime
    lost: tuple[Lost, ...]

    @property
    def command(self) -> str:
        """The command that accepts the snapshot, if nothing is wrong."""
        return f"nightvault snapshots accept {self.snapshot[:8]}"

    def text(self) -> str:
        """A sentence on what was lost, and what is not done until an answer."""
        lost = "; ".join(map(lost_text, self.lost))
        return (
            f"job {self.job}: {lost} (snapshot {self.snapshot[:8]}); nothing of this job is forgotten, "
            "condemned or deleted until somebody says that this is right"
        )


def waits(tx: Transaction, *, may_shrink: Collection[JobName] = ()) -> list[Wait]:
    """The jobs that wait for an answer, but for those that `may_shrink`, with the newest such snapshot."""
    sql = """SELECT j.name, j.number, j.id, v.name, s.id, s.started_at, s.shrunk, max(s.number)
             FROM snapshots s JOIN jobs j ON j.number = s.job JOIN vaults v ON v.number = j.vault
             WHERE s.shrunk IS NOT NULL AND s.number > coalesce(j.usual_from, 0)
             GROUP BY j.number ORDER BY j.name"""
    return [
        Wait(JobName(job), number, id_, VaultName(vault), SnapshotId(snapshot), moment(at), unpack_lost(lost))
        for job, number, id_, vault, snapshot, at, lost, _ in raw_rows(tx, sql, ())
        if job not in may_shrink
    ]


def shrunk_records(tx: Transaction, job: int) -> list[ShrunkRecord]:
    """A job's shrunk snapshots, and the one that was accepted, as records for a full catalog."""
    sql = "SELECT number, shrunk FROM snapshots WHERE job = ? AND shrunk IS NOT NULL ORDER BY number"
    found = [record_of(number, unpack_lost(lost)) for number, lost in raw_rows(tx, sql, (job,))]
    ((accepted,),) = raw_rows(tx, "SELECT usual_from FROM jobs WHERE number = ?", (job,))
    return [*found, accepting(accepted)] if accepted is not None else found


def record_of(number: int, lost: Sequence[Lost]) -> ShrunkRecord:
    """A snapshot in which sources lost nearly everything, as a catalog carries it."""
    return ShrunkRecord(number, [msgspec.structs.astuple(loss) for loss in lost])


def accepting(number: int) -> ShrunkRecord:
    """The record that a snapshot, and all before it, are right."""
    return ShrunkRecord(number, [], accepted=True)


def lost_of(record: ShrunkRecord) -> tuple[Lost, ...]:
    """The sources in a record, with what each lost."""
    return tuple(Lost(*row) for row in record.lost)


def count_below(
    tx: Transaction, job: int, path: bytes, *, snapshot: int | None = None, staged_by: int | None = None
) -> tuple[int, int]:
    """Files and their bytes in the directory `path` and below it: of a snapshot, or of the one that is to be.

    `staged_by`: the run whose staged changes will make that.
    """
    run, directory = staged_by or 0, int(EntryKind.DIRECTORY)
    when = "e.removed_in IS NULL" if snapshot is None else _AT
    sql = f"""
    SELECT count(*), total(size) FROM (
      SELECT e.size FROM entries e JOIN directories d ON d.number = e.directory
      WHERE d.job = ? AND {_IN_TREE} AND e.kind != ? AND {when}
        AND e.number NOT IN (SELECT entry FROM staged_removals WHERE run = ?)
      UNION ALL SELECT e.size FROM staged_entries e JOIN directories d ON d.number = e.directory
      WHERE e.run = ? AND d.job = ? AND {_IN_TREE} AND e.kind != ?) AS all_of_them
    """
    tree = _tree(path)
    at = () if snapshot is None else (snapshot, snapshot)
    (row,) = raw_rows(tx, sql, (job, *tree, directory, *at, run, run, job, *tree, directory))
    return int(row[0]), min(int(row[1]), MOST)


def files_below(
    tx: Transaction, job: int, path: bytes, snapshot: int
) -> Iterator[tuple[bytes, bytes, int, int]]:
    """Directory, name, kind and size of all but directories that a snapshot has at or below `path`."""
    sql = f"""SELECT d.path, e.name, e.kind, e.size
              FROM entries e JOIN directories d ON d.number = e.directory
              WHERE d.job = ? AND {_IN_TREE} AND e.kind != ? AND {_AT}"""
    return raw_rows(tx, sql, (job, *_tree(path), int(EntryKind.DIRECTORY), snapshot, snapshot))


def file_size(tx: Transaction, job: int, path: bytes, snapshot: int) -> int:
    """The bytes of the file that a snapshot has at a path; 0 if it has none, or a directory."""
    directory, _, name = path.rpartition(b"/")
    sql = f"""SELECT e.size FROM entries e JOIN directories d ON d.number = e.directory
              WHERE d.job = ? AND d.path = ? AND e.name = ? AND {_AT}"""
    rows = raw_rows(tx, sql, (job, directory, name, snapshot, snapshot))
    return max((int(size) for (size,) in rows), default=0)


def _tree(path: bytes) -> tuple[bytes, bytes, bytes]:
    stem = path.rstrip(b"/")
    return path, stem + b"/", stem + b"0"
