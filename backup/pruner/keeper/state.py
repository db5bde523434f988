"""What the keeper must know of a rebuilt state: read once, after which its file may go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing

from msgspec import Struct

from backup.inventory.content import pruning, shrunk, snapshots
from backup.inventory.content.pruning import StoredArchive
from backup.inventory.content.shrunk import Wait
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import open_inventory
from backup.inventory.store.driver import raw_rows
from backup.model import ArchiveId, Generation, InventoryId, VaultName
from backup.pruner.needed import needed_archives
from backup.rebuilder.report import RebuildReport


class State(Struct, frozen=True):
    """What a state holds. `needed` are numbers of archives that any of its snapshots needs, forgotten or not.

    `applied`: its catalogs, each with the id of its job; `bases`: those with which the jobs begin; `writers`:
    inventory and signer of archives, as the headers say that the catalogs record. `waits`: jobs of which
    nothing goes before somebody answers.
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
        """The inventory whose state it is."""
        return self.report.predecessor or InventoryId(b"")


def read_state(url: str, folder: str, vault: VaultName, report: RebuildReport) -> State:
    """The state in the inventory at `url`, which a rebuild has just made."""
    with closing(open_inventory(url, lock_directory=folder)) as inventory, inventory.reading() as tx:
        every = snapshots.list_snapshots(tx, also_forgotten=True)
        kept: dict[int, list[int]] = {}
        for one in every:
            kept.setdefault(one.job_number, []).append(one.number)
        held = {job: sorted(numbers) for job, numbers in kept.items()}
        catalogs = _catalogs(tx)
        return State(
            report=report,
            archives={one.archive_id: one for one in pruning.stored_archives(tx, vault)},
            needed=frozenset(needed_archives(tx, vault, held)),
            packs=frozenset(row[0] for row in raw_rows(tx, "SELECT pack_id FROM archives", ())),
            jobs={row[0]: row[1] for row in raw_rows(tx, "SELECT id, name FROM jobs", ())},
            applied={archive: job for archive, job, _ in catalogs},
            bases={job: archive for archive, job, generation in catalogs if generation == Generation.FULL},
            writers=_writers(tx),
            snapshots=every,
            waits=shrunk.waits(tx),
        )


def _writers(tx: Transaction) -> dict[ArchiveId, tuple[InventoryId, bytes]]:
    """Inventory and signer of each archive; a header has them at bytes 48 and 64 (docs/format.md, 2.1)."""
    sql = """SELECT archive_id, substr(header, 49, 16), substr(header, 65, 32) FROM archives
             WHERE archive_id IS NOT NULL AND length(header) >= 96"""
    return {ArchiveId(row[0]): (InventoryId(row[1]), row[2]) for row in raw_rows(tx, sql, ())}


def _catalogs(tx: Transaction) -> list[tuple[ArchiveId, bytes, int]]:
    """The catalogs that were applied: archive, job, generation; of each job one is full, its first."""
    sql = """SELECT a.archive_id, j.id, c.generation FROM catalogs c
             JOIN archives a ON a.number = c.archive JOIN jobs j ON j.number = c.job ORDER BY c.number"""
    return [(ArchiveId(row[0]), row[1], row[2]) for row in raw_rows(tx, sql, ())]
