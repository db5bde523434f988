"""Takes forgotten snapshots back, as long as no archive that only they needed was deleted.

Condemned archives that they need are undeleted first: each job whose catalogs condemned them stores a catalog
that takes that back. Only then do the snapshots come back. Of a vault with copies it is the same: what was
forgotten there comes back there, by catalogs there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from backup.app.backups.amending import amending_vault, amending_vaults_of
from backup.app.base.run_context import RunContext
from backup.catalogs.amend import Amended, Amender
from backup.errors import UsageError
from backup.format.records import TakenBackRecord, TakenUpRecord
from backup.inventory.content import copied, copied_pruning, need, snapshots
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.records import runs
from backup.inventory.records.runs import JobRow
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.kinds import RunKind
from backup.model import SnapshotId, VaultName


class Return(Struct, frozen=True):
    """The snapshots of a job that come back, and those that cannot: archives that they need were deleted."""

    comes: tuple[Snapshot, ...]
    lost: tuple[Snapshot, ...]


def known_snapshots(tx: Transaction, vault: VaultName | None) -> list[Snapshot]:
    """All snapshots, or those that a vault has copies of, as it has them: forgotten there, or not."""
    if vault is None:
        return snapshots.list_snapshots(tx, also_forgotten=True)
    there = copied.vault_number(tx, vault)
    at = {job: copied.forgotten_there(tx, there, job) for job in copied.jobs_copied_to(tx, there)}
    told = {
        (job, number)
        for job in at
        for number, state in copied.kept_there(tx, there, job).items()
        if state in copied.TOLD
    }
    return [
        replace(snapshot, forgotten_at=at[snapshot.job_number].get(snapshot.number))
        for snapshot in snapshots.list_snapshots(tx, also_forgotten=True, also_alone=True)
        if (snapshot.job_number, snapshot.number) in told
    ]


def returns(tx: Transaction, forgotten: Sequence[Snapshot], vault: VaultName | None = None) -> Return:
    """Return which of a job's forgotten snapshots can come back; in a `vault` with copies, if it is given."""
    if vault is not None:
        beyond = copied_pruning.beyond_recall(tx, copied.vault_number(tx, vault), (), also_read=True)
        gone = [snapshot for snapshot in forgotten if snapshot.number in beyond.get(snapshot.job_number, ())]
        return Return(tuple(snapshot for snapshot in forgotten if snapshot not in gone), tuple(gone))
    held = need.chunks_held(tx, _by_job(forgotten))
    if not need.gone_with_deletions(tx, held):
        return Return(tuple(forgotten), ())
    lost = [
        snapshot
        for snapshot in forgotten
        if need.gone_with_deletions(tx, need.chunks_held(tx, _by_job([snapshot])))
    ]
    return Return(tuple(snapshot for snapshot in forgotten if snapshot not in lost), tuple(lost))


def undo_forget(
    at: RunContext, chosen: Collection[SnapshotId], *, if_all: bool, vault: VaultName | None = None
) -> Iterator[Amended]:
    """Take snapshots back, job by job; those that are back already are skipped.

    `if_all`: `UsageError` for a job of which one cannot come back; else the others come. With a `vault` it is
    its copies that come back.
    """
    with at.inventory.reading() as tx:
        jobs = {snapshot.job_number for snapshot in _forgotten(tx, chosen, vault)}
        names = runs.job_names_by_number(tx)
        found = [runs.find_job(tx, names[job]) for job in copied.jobs_copied_to(tx, _number(tx, vault))]
    if vault is not None:
        guests = [row for row in found if row is not None]
        with amending_vault(at, vault) as amender:
            for row in guests:
                if row.number in jobs:
                    yield from undo_of_job(at.inventory, amender, guests, row, chosen, if_all=if_all)
        return
    for amender, rows in amending_vaults_of(at, jobs):
        for row in rows:
            yield from undo_of_job(at.inventory, amender, rows, row, chosen, if_all=if_all)


def undo_of_job(
    inventory: Inventory,
    amender: Amender,
    rows: Sequence[JobRow],
    row: JobRow,
    chosen: Collection[SnapshotId],
    *,
    if_all: bool,
) -> Iterator[Amended]:
    """Take the snapshots of one job back; `rows` are all jobs of its vault, or that have copies there."""
    amender.look_before_taking_back()
    with inventory.reading() as tx:
        there = _number(tx, amender.vault.name)
        vault = None if row.vault == there else amender.vault.name
        of_job = [item for item in _forgotten(tx, chosen, vault) if item.job_number == row.number]
        found = returns(tx, of_job, vault)
        if found.lost and if_all:
            raise cannot_come_back(found.lost)
        chunks = need.chunks_held(tx, _by_job(found.comes))
        if vault is None:
            need.mark_copies(tx, chunks)
            condemned = need.condemned_with(tx, chunks) if found.comes else {}
        else:
            condemned = copied_pruning.condemned_with(tx, there, chunks)
    if not found.comes:
        return
    for other in rows:
        if other.number != row.number and other.number in condemned:
            taken_up = TakenUpRecord(condemned[other.number])
            yield amender.amend(RunKind.FORGET, other, [taken_up], {"taken_up": len(taken_up.packs)})
    own = [TakenUpRecord(condemned[row.number])] if row.number in condemned else []
    back = TakenBackRecord([snapshot.number for snapshot in found.comes])
    yield amender.amend(
        RunKind.FORGET, row, [*own, back], {"taken_back": [snapshot.id for snapshot in found.comes]}
    )


def cannot_come_back(lost: Sequence[Snapshot]) -> UsageError:
    """Return the error for snapshots that need archives which were deleted."""
    named = ", ".join(f"{snapshot.id[:8]} of job {snapshot.job}" for snapshot in lost)
    return UsageError(
        f"archives that only they needed were deleted, or will be, since it was forgotten: {named}",
        advice="it cannot come back; leave it out",
    )


def _number(tx: Transaction, vault: VaultName | None) -> int:
    return 0 if vault is None else copied.vault_number(tx, vault)


def _forgotten(tx: Transaction, chosen: Collection[SnapshotId], vault: VaultName | None) -> list[Snapshot]:
    every = known_snapshots(tx, vault)
    return [snapshot for snapshot in every if snapshot.forgotten_at is not None and snapshot.id in chosen]


def _by_job(some: Collection[Snapshot]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for snapshot in sorted(some, key=lambda snapshot: snapshot.number):
        found.setdefault(snapshot.job_number, []).append(snapshot.number)
    return found
