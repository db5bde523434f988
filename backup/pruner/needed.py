"""The archives of a vault that the snapshots of an inventory need: data, and the catalogs of a rebuild."""

from __future__ import annotations

from backup.inventory.content import pruning
from backup.inventory.content.need import Kept, archive_uses, needed_chunks, stored_elsewhere
from backup.inventory.store.connections import Transaction
from backup.model import VaultName


def needed_archives(tx: Transaction, vault: VaultName, kept: Kept) -> set[int]:
    """The numbers of archives that these snapshots, live entries or a rebuild need.

    One that is not built upon is needed for chunks that no other archive keeps (`stored_elsewhere`);
    one of which no chunk is known may hold anything.
    """
    chunks = needed_chunks(tx, kept)
    elsewhere = stored_elsewhere(tx, chunks)
    needed = {
        use.number
        for use in archive_uses(tx, chunks, vault)
        if use.chunks == 0 or use.needed > elsewhere[use.number]
    }
    return needed | pruning.needed_catalogs(tx)
