"""Tags, pins and acceptance of snapshots, changed under the lock and stored in catalogs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from datetime import datetime

from msgspec import Struct

from backup.app.backups.amending import amending_vault, amending_vaults_of
from backup.app.base.run_context import RunContext
from backup.catalogs.amend import Amended
from backup.errors import UsageError
from backup.format.marks import MOST_TAGS
from backup.format.records import MarksRecord
from backup.inventory.content import snapshots
from backup.inventory.content.shrunk import accepting
from backup.inventory.content.snapshots import Pin, Snapshot
from backup.inventory.records import runs
from backup.inventory.store.connections import Transaction
from backup.inventory.store.times import micros
from backup.kinds import RunKind
from backup.model import SnapshotId


class TagsAndPin(Struct, frozen=True):
    """A snapshot's tags, in order, and its pin."""

    tags: tuple[str, ...]
    pin: Pin | None

    def record(self, number: int) -> MarksRecord:
        """Return the record for a catalog."""
        pin = self.pin
        until = micros(pin.until) if pin is not None and pin.until is not None else None
        return MarksRecord(number, list(self.tags), pin is not None, pin.note if pin else "", until)


Change = Callable[[TagsAndPin], TagsAndPin]


def tagging(
    *, add: Collection[str] = (), remove: Collection[str] = (), instead: Collection[str] | None = None
) -> Change:
    """Return a change that adds, removes or replaces tags; `UsageError` if they become too many."""

    def change(before: TagsAndPin) -> TagsAndPin:
        tags = set(before.tags if instead is None else instead) - set(remove) | set(add)
        if len(tags) > MOST_TAGS:
            raise UsageError(f"a snapshot has {MOST_TAGS} tags at most, not {len(tags)}")
        return TagsAndPin(tuple(sorted(tags)), before.pin)

    return change


def pinning(note: str = "", until: datetime | None = None) -> Change:
    """Return a change that replaces the pin."""
    return lambda before: TagsAndPin(before.tags, Pin(note, until))


def unpinning(before: TagsAndPin) -> TagsAndPin:
    """Return the tags without a pin."""
    return TagsAndPin(before.tags, None)


def mark(at: RunContext, chosen: Collection[SnapshotId], change: Change) -> Iterator[Amended]:
    """Change tags and pins of snapshots, job by job; a job in which nothing changes is skipped."""
    with at.inventory.reading() as tx:
        jobs = {snapshot.job_number for snapshot in _chosen(tx, chosen)}
    for amender, rows in amending_vaults_of(at, jobs):
        with at.inventory.reading() as tx:
            every = _chosen(tx, chosen)
        for row in rows:
            own = [snapshot for snapshot in every if snapshot.job_number == row.number]
            pairs = [(snapshot, change(_tags_and_pin(snapshot))) for snapshot in own]
            changed = [(snapshot, after) for snapshot, after in pairs if after != _tags_and_pin(snapshot)]
            if changed:
                records = [after.record(snapshot.number) for snapshot, after in changed]
                report = {"marked": [snapshot.id for snapshot, _ in changed]}
                yield amender.amend(RunKind.MARK, row, records, report)


def accept(at: RunContext, snapshot: Snapshot) -> Amended | None:
    """Accept a snapshot that has shrunk, and all before it; None if none of them waits for that."""
    if not waiting_up_to(at, snapshot):
        return None
    with at.inventory.reading() as tx:
        vault = runs.vault_of_job(tx, snapshot.job_number)
        row = runs.find_job(tx, snapshot.job)
    if row is None:
        raise UsageError(f"there is no job {snapshot.job} any more")
    with amending_vault(at, vault) as amender:
        return amender.amend(RunKind.MARK, row, [accepting(snapshot.number)], {"accepted": snapshot.id})


def waiting_up_to(at: RunContext, snapshot: Snapshot) -> list[Snapshot]:
    """Return a job's snapshots, up to this one, that wait to be accepted."""
    with at.inventory.reading() as tx:
        every = snapshots.list_snapshots(tx, job=snapshot.job, also_forgotten=True)
    return [loss for loss in every if loss.waits and loss.number <= snapshot.number]


def _chosen(tx: Transaction, chosen: Collection[SnapshotId]) -> list[Snapshot]:
    return [snapshot for snapshot in snapshots.list_snapshots(tx) if snapshot.id in chosen]


def _tags_and_pin(snapshot: Snapshot) -> TagsAndPin:
    return TagsAndPin(snapshot.tags, snapshot.pin)
