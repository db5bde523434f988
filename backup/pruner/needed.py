"""Finds the archives of a vault that snapshots need: data, and the catalogs of a rebuild."""

from __future__ import annotations

from backup.inventory.content import pruning
from backup.inventory.content.need import Kept, archive_uses, has_copies, needed_chunks, stored_elsewhere
from backup.inventory.store.connections import Transaction
from backup.model import VaultName


def needed_archives(tx: Transaction, vault: VaultName, kept: Kept) -> set[int]:
    """Return the numbers of archives that these snapshots, live entries, copies or a rebuild need.

    An archive that is not built upon is needed only for chunks that no other archive has
    (`stored_elsewhere`); one without known chunks may hold anything, so it is needed.
    """
    chunks = needed_chunks(tx, kept)
    elsewhere = stored_elsewhere(tx, chunks)
    needed = {
        use.number
        for use in archive_uses(tx, chunks, vault)
        if use.chunks == 0 or use.needed > elsewhere[use.number]
    }
    needed |= pruning.needed_catalogs(tx)
    if not has_copies(tx):
        return needed
    from backup.pruner.copies_needed import held_for_copies_of, needed_copies  # few have copies

    return needed | held_for_copies_of(tx) | needed_copies(tx, vault)
