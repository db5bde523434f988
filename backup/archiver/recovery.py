"""What a dead process left behind: its uploads are finished, and so is a run whose catalog arrives."""

from __future__ import annotations

from backup.archiver.commit import make_true, outcome_of
from backup.archiver.packing import Spool
from backup.errors import InventoryDamagedError
from backup.format.catalog import SnapshotRecord, decode_record
from backup.inventory import archives, entries, runs
from backup.inventory.archives import ArchiveState
from backup.inventory.database import Inventory, Transaction
from backup.inventory.runs import JobRow, Outcome, Run
from backup.model import Problem, ProblemKind
from backup.protocols import Clock, Vault
from backup.transfer.upload import Uploader


def recover(
    uploader: Uploader,
    spool: Spool,
    *,
    inventory: Inventory,
    vault: Vault,
    vault_number: int,
    clock: Clock,
    before: int,
) -> None:
    """Make one vault's books whole again, of all runs before the caller's own.

    The caller holds the backup lock, so no other run is alive.

    A pack that was never submitted is thrown away: nothing of it was recorded or sent.
    """
    with inventory.reading() as tx:
        pending = archives.pending_uploads(tx, inventory.id)
    spool.sweep(frozenset(one.spool_file for one in pending))
    uploader.resume([one for one in pending if one.archive.vault == vault.name])
    with inventory.writing() as tx:
        for run, job, prepared in runs.unfinished_backups(tx, vault_number, before=before):
            _settle(tx, run, job, prepared, clock)


def _settle(tx: Transaction, run: Run, job: JobRow, prepared: bytes | None, clock: Clock) -> None:
    """A run is true if its delta catalog is stored, else it never was."""
    catalog = archives.catalog_of_run(tx, run.number)
    if catalog is not None and catalog[1] is ArchiveState.STORED and prepared is not None:
        record = decode_record(prepared)
        if not isinstance(record, SnapshotRecord):
            raise InventoryDamagedError(f"run {run.number} prepared no snapshot")
        problems = [Problem(path, ProblemKind(kind), detail) for path, kind, detail in record.problems]
        make_true(tx, run.number, job, record)
        report = {"snapshot": record.id, "recovered": True, "files": record.files, "bytes": record.bytes}
        runs.finish_run(tx, run.number, outcome_of(problems), report, clock.now())
        return
    entries.discard_staged(tx, run.number)
    report = {"error": "the process died before its catalog was stored"}
    runs.finish_run(tx, run.number, Outcome.INTERRUPTED, report, clock.now())
