"""The archives that a restore could not have: its report names them, even if all came from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backup.inventory import archives, retrievals
from backup.inventory.archives import Archive, ArchiveState
from backup.inventory.connections import Transaction
from backup.inventory.database import Inventory
from backup.inventory.restore_state import RestoreState, read_progress
from backup.inventory.retrievals import Restore, Retrieval
from backup.inventory.stages import RetrievalStage
from backup.restorer.asking import GONE


def given_up(tx: Transaction, restore: Restore) -> Mapping[int, str]:
    """The archives that could not be had, by number, and why: now, or before the restore was begun anew."""
    known = retrievals.retrievals_of(tx, restore.number)
    kept = read_progress(tx, restore.number) or RestoreState()
    asked = {one.archive for one in known}
    before = {number: why for number, why in kept.elsewhere.items() if number not in asked}
    return before | {one.archive: _why(one, kept) for one in known if one.state is RetrievalStage.FAILED}


def warnings_of(inventory: Inventory, restore: Restore, *, is_whole: bool) -> Sequence[str]:
    """A sentence for each such archive; `is_whole`: everything that was in it came from others."""
    with inventory.reading() as tx:
        found = given_up(tx, restore)
        rows = archives.get_archives(tx, sorted(found), inventory.id)
    taken = (
        "what is needed of it was taken from another one"
        if is_whole
        else "what lies in another one, too, was taken from there"
    )
    return [
        _told(rows[number], why, taken, restore) for number, why in sorted(found.items()) if number in rows
    ]


def _why(one: Retrieval, kept: RestoreState) -> str:
    failure = kept.failures.get(one.number)
    return failure.why if failure else GONE


def _told(archive: Archive, why: str, taken: str, restore: Restore) -> str:
    named = f"archive {archive.archive_id}"
    if archive.state is ArchiveState.LOST:
        told = f"vault {restore.vault} has lost {named}: {taken}"
        return f"{told}; the next backup stores again what is still on this machine"
    return f"{named} of vault {restore.vault} could not be had ({why}): {taken}"
