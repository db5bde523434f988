"""The facts that the keeper needs of a rebuilt state, read once; then the state's file can be deleted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime

from msgspec import Struct

from backup.inventory.content import identities, pruning, shrunk, snapshots
from backup.inventory.content.pruning import StoredArchive
from backup.inventory.content.shrunk import Wait
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.store.database import open_inventory
from backup.model import ArchiveId, Generation, InventoryId, VaultName
from backup.pruner.needed import needed_archives
from backup.rebuilder.report import RebuildReport


class State(Struct, frozen=True):
    """The content of a state.

    `needed` are numbers of archives that its snapshots need, also forgotten ones. `applied`: its catalogs,
    each with the id of its job; `bases`: those with which the jobs begin; `writers`: inventory and signer of
    archives, as the headers say that the catalogs record. `waits`: jobs of which nothing is deleted before a
    person accepts a loss.
    """

    report: RebuildReport
    archives: Mapping[ArchiveId, StoredArchive]
    needed: frozenset[int]
    packs: frozenset[bytes]
    jobs: Mapping[bytes, str]
    applied: Mapping[ArchiveId, bytes]
    bases: Mapping[bytes, ArchiveId]
    writers: Mapping[ArchiveId, tuple[InventoryId, bytes]]
    snapshots: Sequence[Snapshot]
    waits: Sequence[Wait] = ()

    @property
    def inventory_id(self) -> InventoryId:
        """The id of the inventory whose state it is."""
        return self.report.predecessor or InventoryId(b"")


def read_state(
    url: str, folder: str, vault: VaultName, report: RebuildReport, forgotten_since: datetime | None = None
) -> State:
    """Read the state from the inventory at `url`, which a rebuild has just made.

    With `forgotten_since` snapshots that were forgotten before then need nothing.
    """
    with closing(open_inventory(url, lock_directory=folder)) as inventory, inventory.reading() as tx:
        every = snapshots.list_snapshots(tx, also_forgotten=True)
        held: dict[int, list[int]] = {}
        for snapshot in sorted(every, key=lambda snapshot: snapshot.number):
            at = snapshot.forgotten_at
            if forgotten_since is None or at is None or at > forgotten_since:
                held.setdefault(snapshot.job_number, []).append(snapshot.number)
        catalogs = identities.catalogs_of_jobs(tx)
        return State(
            report=report,
            archives={archive.archive_id: archive for archive in pruning.stored_archives(tx, vault)},
            needed=frozenset(needed_archives(tx, vault, held)),
            packs=frozenset(identities.all_pack_ids(tx)),
            jobs=identities.job_names_by_id(tx),
            applied={archive: job for archive, job, _ in catalogs},
            bases={job: archive for archive, job, generation in catalogs if generation == Generation.FULL},
            writers=identities.writers(tx),
            snapshots=every,
            waits=shrunk.waits(tx),
        )
