"""Snapshots, entries and empty inventories made up for tests of the inventory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from backup.inventory.content import archives
from backup.inventory.content.entries import StagedEntry
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.records import runs
from backup.inventory.records.runs import JobRow
from backup.inventory.store.database import Inventory, create_inventory
from backup.model import JobName, Problem, ProblemKind, SnapshotId, VaultName
from tests.support.backups import INVENTORY_ID
from tests.support.doubles import START


@dataclass
class Ledger:
    """An inventory with a job, and numbers for its rows."""

    inventory: Inventory
    job: runs.JobRow
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 10**6)))

    def run(self) -> runs.Run:
        with self.inventory.writing() as tx:
            return runs.open_backup(tx, self.job, START)

    def entry(self, directory: int, name: bytes, *, size: int = 0) -> StagedEntry:
        return StagedEntry(
            next(self.numbers), directory, name, 1, 0o644, 1, 5, size, None, None, None, 7, 8, 0
        )


def columns(rows: Iterable[StagedEntry]) -> list[list[Any]]:
    """Staged entries as `entries.stage` takes them."""
    every = list(rows)
    return [[row[place] for row in every] for place in range(len(StagedEntry._fields))]


def ledger_of(inventory: Inventory) -> Ledger:
    """An inventory with one job."""
    with inventory.writing() as tx:
        vault = archives.get_or_create_vault(tx, VaultName("v"))
        return Ledger(inventory, runs.get_or_create_job(tx, JobName("job"), vault, b"j" * 16))


@contextmanager
def fresh_ledger() -> Iterator[Ledger]:
    """An empty inventory in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        inventory = create_inventory(
            f"sqlite:///{Path(folder) / 'i.sqlite'}",
            inventory_id=INVENTORY_ID,
            signer_public=b"s" * 32,
            now=START,
            lock_directory=folder,
        )
        try:
            yield ledger_of(inventory)
        finally:
            inventory.close()


def snapshot(job: JobRow, number: int, snapshot_id: str) -> Snapshot:
    """A snapshot of that number."""
    return Snapshot(
        id=SnapshotId(snapshot_id),
        job=job.name,
        job_number=job.number,
        number=number,
        run=None,
        started_at=START + timedelta(days=number),
        finished_at=START + timedelta(days=number, hours=1),
        host="host",
        sources=(b"/s", b"/\xff"),
        problems=(Problem(b"/s/\xff", ProblemKind.UNREADABLE, "why"),),
        files=3,
        bytes=2**40,
    )
