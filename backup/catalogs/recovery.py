"""Finishes what a dead process left: its uploads, and its commit once its catalog is stored."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import MsgspecError

from backup.catalogs.catalogs import read_chain
from backup.catalogs.commit import make_true, outcome_of
from backup.catalogs.context import OpenVault
from backup.catalogs.full import full_due, lacks_full
from backup.errors import FormatError
from backup.format.catalog import ShrunkRecord, SnapshotRecord
from backup.inventory.content import archives, entries
from backup.inventory.content.archives import ArchiveState
from backup.inventory.records import amendments, runs
from backup.inventory.records.runs import JobRow, Run
from backup.inventory.store.connections import Transaction
from backup.kinds import Outcome, RunKind
from backup.model import Problem
from backup.protocols import Clock

_UNFIT: Final = (FormatError, MsgspecError, ArithmeticError, ValueError, LookupError, TypeError)
"""Errors of a prepared record that cannot be read or applied; a full disk raises others."""


def recover(at: OpenVault, *, before: int | None = None) -> None:
    """Finish or discard all runs of one vault before the caller's own, whose number is `before`.

    The caller holds the backup lock, so no other run is alive. Runs of restores that died are ended, too.

    A pack that was never submitted is deleted: nothing of it was recorded or sent.
    """
    inventory, clock = at.context.inventory, at.context.clock
    with inventory.reading() as tx:
        pending = archives.pending_uploads(tx, inventory.id)
    at.spool.sweep(frozenset(upload.spool_file for upload in pending))
    at.uploader.resume([upload for upload in pending if upload.archive.vault == at.context.vault.name])
    with inventory.reading() as tx:
        left = amendments.unfinished_commits(tx, at.vault, before=before)
        has_open_restores = bool(runs.running_restores(tx))
    if has_open_restores:
        from backup.inventory.records.ended_runs import settle_dead_restores  # rarely

        with inventory.writing() as tx:
            settle_dead_restores(tx, inventory.lock_directory, clock.now())
    for run, job, prepared in left:
        try:
            with inventory.writing() as tx:
                if _is_true(tx, run) and prepared is not None:
                    _FINISH.get(run.kind, _amend)(tx, at, run, job, prepared)
                elif run.kind is not RunKind.COPY:  # one that lives does not hold this lock while it sends
                    _discard(
                        tx, run, Outcome.INTERRUPTED, "the process died before its catalog was stored", clock
                    )
        except _UNFIT as error:
            with inventory.writing() as tx:
                _give_up(tx, run, error, clock)


def _discard(tx: Transaction, run: Run, outcome: Outcome, why: str, clock: Clock) -> None:
    entries.discard_staged(tx, run.number)
    runs.finish_run(tx, run.number, outcome, {"error": why}, clock.now())


def _give_up(tx: Transaction, run: Run, error: Exception, clock: Clock) -> None:
    """End a run that prepared what cannot be read or applied; no other run waits for it.

    Its catalog counts as damaged: a full one, which is due then, takes its place.
    """
    catalog = archives.catalog_of_run(tx, run.number)
    if catalog is not None:
        archives.mark_damaged(tx, catalog[0])
    why = f"what it wrote down to be finished with cannot be applied, so it is given up: {error}"
    _discard(tx, run, Outcome.FAILED, why, clock)


def _is_true(tx: Transaction, run: Run) -> bool:
    """Whether a run's delta catalog is stored, which is its commit."""
    catalog = archives.catalog_of_run(tx, run.number)
    return catalog is not None and catalog[1] is ArchiveState.STORED


def _make_true(tx: Transaction, at: OpenVault, run: Run, job: JobRow, prepared: bytes) -> None:
    """Record the snapshot that a run prepared; partial if the full catalog that was due is missing."""
    record, *marks = amendments.decode(prepared)
    if not isinstance(record, SnapshotRecord):
        raise FormatError(f"run {run.number} prepared no snapshot")
    make_true(tx, run.number, job, record, marks)
    outcome = outcome_of([Problem.of(path, kind, text) for path, kind, text in record.problems])
    report: dict[str, Any] = {
        "snapshot": record.id,
        "recovered": True,
        "files": record.files,
        "bytes": record.bytes,
    }
    if any(isinstance(mark, ShrunkRecord) for mark in marks):
        from backup.catalogs.shrinking import outcome_of_dead_run  # rarely

        outcome, told = outcome_of_dead_run(outcome, job.name, record.id, marks)
        report |= told
    due = full_due(read_chain(tx, job.number, at.vault, at.context.inventory), at.keys)
    if due is not None and due.is_pressing:
        outcome = Outcome.PARTIAL
        text = lacks_full(job.name, due, "the process died before it was stored")
        report["warnings"] = [*report.get("warnings", ()), text]
    runs.finish_run(tx, run.number, outcome, report, at.context.clock.now())


def _amend(tx: Transaction, at: OpenVault, run: Run, job: JobRow, prepared: bytes) -> None:
    """Apply what a run that saved nothing had written down; a full catalog that was due stays due."""
    from backup.inventory.records.copied_amendments import apply_in  # rarely

    apply_in(tx, at.vault, job, amendments.decode(prepared), at.context.clock.now())
    runs.finish_run(tx, run.number, Outcome.DONE, {"recovered": True}, at.context.clock.now())


def _copied(tx: Transaction, at: OpenVault, run: Run, job: JobRow, prepared: bytes) -> None:
    """Record what a dead copy's catalog says."""
    from backup.inventory.content import copied  # rarely
    from backup.inventory.records.copied_amendments import apply_in

    newer, older, amendment = msgspec.msgpack.decode(prepared, type=tuple[list[int], list[int], bytes])
    now = at.context.clock.now()
    copied.record_copied(tx, at.vault, job.number, newer)
    if copied.has_full_of(tx, run.number):
        copied.record_copied(tx, at.vault, job.number, older)
    apply_in(tx, at.vault, job, amendments.decode(amendment), now)
    told = {"vault": at.context.vault.name, "error": "the process died before it had an end"}
    runs.finish_run(tx, run.number, Outcome.INTERRUPTED, told, now)


_FINISH: Final = {RunKind.BACKUP: _make_true, RunKind.COPY: _copied}
