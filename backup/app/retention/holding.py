"""Legal holds of snapshots, and the lock of a Glacier vault: set by a person, with keys of their own."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from msgspec.structs import asdict

from backup.app.base.run_context import RunContext
from backup.app.base.vaults import Purpose
from backup.config import VaultSettings
from backup.errors import UsageError
from backup.inventory.content.snapshots import Snapshot, list_snapshots
from backup.inventory.records import runs
from backup.inventory.store.connections import Transaction
from backup.locker.hold import HoldReport, hold, lift
from backup.locker.vault_lock import LockingContext
from backup.model import SnapshotId, VaultName
from backup.protocols import LocksObjects
from backup.vault.glacier import GlacierVault


def require_holds(at: RunContext, chosen: Collection[SnapshotId]) -> None:
    """`UsageError` if one of these snapshots is in a vault that cannot hold anything."""
    with at.inventory.reading() as tx:
        vaults = {vault for _, vault in _chosen(tx, chosen)}
    for vault in vaults:
        if (fault := _fault(at.config.vault(vault))) is not None:
            raise fault


def hold_snapshots(at: RunContext, chosen: Collection[SnapshotId], *, is_on: bool) -> Iterator[HoldReport]:
    """Hold what restoring these snapshots needs, or end that. What `hold` and `lift` raise."""
    require_holds(at, chosen)
    with at.inventory.reading() as tx:
        pairs = list(_chosen(tx, chosen))
    for snapshot, vault in pairs:
        run = at.of_vault(vault, Purpose.PERSON)
        if isinstance(run.vault, LocksObjects):
            yield (hold if is_on else lift)(run, run.vault, snapshot)


def locking_context(at: RunContext, settings: VaultSettings) -> LockingContext:
    """The inputs of the lock of a Glacier vault: a person's own keys, and the roles of the nights."""
    name = VaultName(settings.name)
    own, backing_up, restoring, deleting = (
        at.of_vault(name, purpose)
        for purpose in (Purpose.PERSON, Purpose.BACKUP, Purpose.RESTORE, Purpose.PRUNE)
    )
    vaults = [run.vault for run in (own, backing_up, restoring, deleting)]
    glacier = [vault for vault in vaults if isinstance(vault, GlacierVault)]
    if len(glacier) < len(vaults):
        what = "a directory: it has no lock"
        if settings.kind == "s3":
            what = "a bucket: `lock` in its [[vault]] locks what is stored (docs/s3.md)"
        raise UsageError(f"vault {name} is {what}")
    return LockingContext(
        **asdict(own),
        own=glacier[0],
        backing_up=glacier[1],
        restoring=glacier[2],
        deleting=None if settings.deletes == "elsewhere" else glacier[3],
    )


def _chosen(tx: Transaction, chosen: Collection[SnapshotId]) -> Iterator[tuple[Snapshot, VaultName]]:
    for snapshot in list_snapshots(tx):
        if snapshot.id in chosen:
            yield snapshot, runs.vault_of_job(tx, snapshot.job_number)


def _fault(settings: VaultSettings) -> UsageError | None:
    if settings.kind == "s3" and settings.lock is not None:
        return None
    what = {
        "s3": "locks nothing, so nothing names the versions that a legal hold is for",
        "glacier": "is a Glacier vault: it has no legal holds",
    }.get(settings.kind, "is a directory: it has no legal holds")
    advice = "`lock` in its [[vault]] does that: docs/s3.md" if settings.kind == "s3" else ""
    return UsageError(f"vault {settings.name} {what}", advice=advice)
