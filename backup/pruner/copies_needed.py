"""Finds the archives that copies need: those that they still lack, and those of a vault with copies."""

from __future__ import annotations

from backup.inventory.content import archives, copied, copied_pruning
from backup.inventory.content.archives import REMAIN, ArchiveState
from backup.inventory.content.copied import KeptThere
from backup.inventory.content.need import chunks_held
from backup.inventory.store.connections import Transaction
from backup.model import VaultName
from backup.retention.copies import archives_there, held_for_copies, needed_there, packs_copied


def held_for_copies_of(tx: Transaction) -> set[int]:
    """The archives that copies in other vaults still lack; of what no catalog there says yet, all."""
    held: set[int] = set()
    for vault in copied.vaults_with_copies(tx):
        wanted = [
            (copied.needs_of(tx, kept), state is KeptThere.COPIED)
            for state in (KeptThere.COPIED, KeptThere.WANTED)
            if (kept := copied_pruning.kept_copies(tx, vault, state))
        ]
        there = packs_copied(archives_there(copied.list_copies(tx, vault)))
        held |= held_for_copies(wanted, there, archives.states(tx))
    return held


def needed_copies(tx: Transaction, vault: VaultName) -> set[int]:
    """The copies in a vault that its snapshots need, and those that are to be copied.

    Where the pack is not there in which a chunk lies by its number, another that holds the chunk is kept.
    """
    number = copied.vault_number(tx, vault)
    kept = copied_pruning.kept_copies(tx, number, KeptThere.COPIED, KeptThere.WANTED)
    there = archives_there(copied.list_copies(tx, number))
    if not there:
        return set()
    needed = needed_there([copied.needs_of(tx, kept)], there)
    stored = {archive.number for archive in there if archive.state is ArchiveState.STORED}
    left = [archive.number for archive in there if archive.state in REMAIN and archive.number not in needed]
    held = chunks_held(tx, kept) if left else bytearray()
    for archive in left:
        twins = copied_pruning.twins(tx, archive)
        if any(held[chunk] and other not in stored for chunk, other in twins):
            needed.add(archive)
    return needed
