"""Reports archives that a restore could not fetch, even if copies replaced them, and gaps of its snapshot.

Its report names them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from backup.inventory.content import archives, snapshots
from backup.inventory.content.archives import Archive, ArchiveState
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.records import retrievals
from backup.inventory.records.restore_state import RestoreState, read_progress
from backup.inventory.records.retrievals import Restore, Retrieval
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.inventory.store.states import RetrievalStage
from backup.restorer.asking import GONE
from backup.restorer.selection.choice import Choice, is_below
from backup.wording import counted, shown_path

_SHOWN = 3


def given_up(tx: Transaction, restore: Restore) -> Mapping[int, str]:
    """Return the archives that could not be fetched, now or earlier, by number, with the reason."""
    known = retrievals.retrievals_of(tx, restore.number)
    kept = read_progress(tx, restore.number) or RestoreState()
    asked = {retrieval.archive for retrieval in known}
    before = {number: why for number, why in kept.elsewhere.items() if number not in asked}
    return before | {
        retrieval.archive: _why(retrieval, kept)
        for retrieval in known
        if retrieval.state is RetrievalStage.FAILED
    }


def warnings_of(inventory: Inventory, restore: Restore, *, is_whole: bool) -> Sequence[str]:
    """Return a sentence for each such archive, and one for what the snapshot lacks.

    `is_whole`: everything in these archives was taken from others.
    """
    with inventory.reading() as tx:
        snapshot = snapshots.get_snapshot(tx, restore.snapshot)
        found = given_up(tx, restore)
        rows = archives.get_archives(tx, sorted(found), inventory.id)
    taken = (
        "what is needed of it was taken from another one"
        if is_whole
        else "what lies in another one, too, was taken from there"
    )
    gone = [
        _given_up_text(rows[number], why, taken, restore)
        for number, why in sorted(found.items())
        if number in rows
    ]
    return [*gone, *lacks(snapshot, restore.path, Choice.decode(restore.choice))]


def lacks(snapshot: Snapshot, base: bytes, choice: Choice) -> Iterator[str]:
    """Yield a sentence if the snapshot is partial: which of the restored paths were not saved."""
    wanted = choice.paths if choice.paths and not choice.globs else (choice.stem(base),)
    missing = [
        problem
        for problem in snapshot.problems
        if not problem.is_warning
        and any(is_below(problem.path, path) or is_below(path, problem.path) for path in wanted)
    ]
    if missing:
        shown = "; ".join(f"{shown_path(problem.path)}: {problem.detail}" for problem in missing[:_SHOWN])
        more = f"; and {len(missing) - _SHOWN:,} more" if len(missing) > _SHOWN else ""
        yield (
            f"snapshot {snapshot.id[:8]} is partial, and so is this restore: when it was made, "
            f"{counted(len(missing), 'path')} could not be saved: {shown}{more}"
        )


def _why(retrieval: Retrieval, kept: RestoreState) -> str:
    failure = kept.failures.get(retrieval.number)
    return failure.why if failure else GONE


def _given_up_text(archive: Archive, why: str, taken: str, restore: Restore) -> str:
    named = f"archive {archive.archive_id}"
    if archive.state is ArchiveState.LOST:
        told = f"vault {restore.vault} has lost {named}: {taken}"
        return f"{told}; the next backup stores again what is still on this machine"
    return f"{named} of vault {restore.vault} could not be had ({why}): {taken}"
