"""Finds files and snapshots that need lost chunks: one pass over entries, in constant memory."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from backup.checker.report import Affected, AffectedSnapshot
from backup.inventory.content import copied, entries, snapshots
from backup.inventory.content.copied_pruning import kept_copies
from backup.inventory.content.lost import LostChunks, lacking_in, lost_copies
from backup.inventory.content.need import Kept, is_kept, kept_snapshots
from backup.inventory.records.runs import vault_of_job
from backup.inventory.store.connections import Transaction
from backup.model import VaultName

MOST_PATHS = 20


def affected_by(tx: Transaction, lost: LostChunks, vault: VaultName | None) -> Affected:
    """The files that need what a vault (or any) `lost` of its own jobs, and what it lost of its copies."""
    own = find_affected(tx, lost, vault)
    lost_there = LostChunks() if vault is None else lost_copies(tx, vault)
    there = Affected() if vault is None else find_affected(tx, lost_there, vault, is_copy=True)
    if not (own.files and there.files):
        return own if own.files else there
    return Affected(
        own.files + there.files,
        own.size + there.size,
        own.live_files + there.live_files,
        [*own.snapshots, *there.snapshots],
        list(dict.fromkeys([*own.paths, *there.paths]))[:MOST_PATHS],
        [name for name in own.whole_in if name in there.whole_in],
    )


def find_affected(
    tx: Transaction, lost: LostChunks, vault: VaultName | None, *, is_copy: bool = False
) -> Affected:
    """Every version of a file that needs a lost chunk, counted by snapshot; live paths first.

    Versions that only forgotten snapshots hold are left out: no prune could ever end such a finding. Of a
    copy only those count that the vault has.
    """
    if not lost.archives:
        return Affected()
    files = size = live = 0
    live_paths: list[bytes] = []
    old_paths: list[bytes] = []
    steps: dict[int, Counter[int]] = defaultdict(Counter)  # job: snapshot number: files that begin or end
    there = (
        kept_copies(tx, copied.vault_number(tx, vault), copied.KeptThere.COPIED) if vault and is_copy else {}
    )
    kept = there if is_copy else kept_snapshots(tx)
    lacking = {name: lacking_in(tx, name, lost) for name in copied.places_beside(tx, vault)}
    whole, again = set(lacking), is_copy
    homes: dict[int, VaultName] = {}
    for row in entries.content_rows(tx):
        if not lost.spoil(row.chunks) or not is_kept(kept, row.job, row.added_in, row.removed_in):
            continue
        if is_copy and not _is_in(kept, row.job, row.added_in):
            continue
        files, size = files + 1, size + row.size
        paths = live_paths if row.removed_in is None else old_paths
        if len(paths) < MOST_PATHS:
            paths.append(row.path)
        steps[row.job][row.added_in] += 1
        if row.removed_in is None:
            live += 1
        else:
            steps[row.job][row.removed_in] -= 1
        lacks = {name for name, chunks in lacking.items() if chunks.spoil(row.chunks)}
        whole -= lacks
        if row.job not in homes:
            homes[row.job] = vault_of_job(tx, row.job)
        again = again and homes[row.job] in lacking and homes[row.job] not in lacks
    paths = list(dict.fromkeys([*live_paths, *old_paths]))[:MOST_PATHS]
    listed = tuple(_by_snapshot(tx, steps, there if is_copy else None))
    return Affected(
        files, size, live, listed, tuple(paths), sorted(whole) if files else (), again and files > 0
    )


def _is_in(kept: Kept, job: int, added_in: int) -> bool:
    """Whether a version that is live, or in a kept snapshot, is in one."""
    numbers = kept.get(job, ())
    return bisect_left(numbers, added_in) < len(numbers)


def _by_snapshot(
    tx: Transaction, steps: Mapping[int, Counter[int]], there: Kept | None
) -> Iterator[AffectedSnapshot]:
    """The listed snapshots, or those that a vault has `there`, with how many of their files are affected."""
    is_copy = there is not None
    for snapshot in snapshots.list_snapshots(tx, also_forgotten=is_copy, also_alone=is_copy):
        if there is not None and snapshot.number not in there.get(snapshot.job_number, ()):
            continue
        changes = steps.get(snapshot.job_number, Counter())
        count = sum(step for number, step in changes.items() if number <= snapshot.number)
        if count:
            yield AffectedSnapshot(snapshot.id, snapshot.job, count)
