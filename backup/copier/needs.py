"""The needs of snapshots, as decisions on copies take them: for each chunk the archives that hold it."""

from __future__ import annotations

from backup.inventory.content import copied
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.need import Kept, archives_with, chunks_held, holders_of
from backup.inventory.store.connections import Transaction
from backup.retention.copies import ArchiveThere, Needs


def needs_of(tx: Transaction, snapshots: Kept) -> Needs:
    """The archives in which the chunks of these snapshots lie; chunks of the same ones count once.

    A chunk in a stored archive is taken from there; of any other the archives that hold it, too, will do.
    """
    held = chunks_held(tx, snapshots)
    needs: dict[frozenset[int], None] = {}
    for archive, state in archives_with(tx, held):
        if state is ArchiveState.STORED:
            needs[frozenset((archive,))] = None
            continue
        for number, among in holders_of(tx, archive).items():
            if held[number]:
                needs[frozenset(among)] = None
    return [sorted(among) for among in needs]


def archives_there(tx: Transaction, vault: int) -> list[ArchiveThere]:
    """The copies in a vault, as the decisions take them."""
    return [
        ArchiveThere(copy.archive, copy.archive, copy.state, copy.since, copy.is_said)
        for copy in copied.list_copies(tx, vault)
    ]
