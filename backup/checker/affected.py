"""Finds files and snapshots that need lost chunks: one pass over entries, in constant memory."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from backup.checker.report import Affected, AffectedSnapshot
from backup.inventory.content import entries, snapshots
from backup.inventory.content.lost import LostChunks
from backup.inventory.content.need import is_kept, kept_snapshots
from backup.inventory.store.connections import Transaction

MOST_PATHS = 20


def find_affected(tx: Transaction, lost: LostChunks) -> Affected:
    """Every version of a file that needs a lost chunk, counted by snapshot; live paths first.

    Versions that only forgotten snapshots hold are left out: no prune could ever end such a finding.
    """
    if not lost.archives:
        return Affected()
    files = size = live = 0
    live_paths: list[bytes] = []
    old_paths: list[bytes] = []
    steps: dict[int, Counter[int]] = defaultdict(Counter)  # job: snapshot number: files that begin or end
    kept = kept_snapshots(tx)
    for row in entries.content_rows(tx):
        if not lost.spoil(row.chunks) or not is_kept(kept, row.job, row.added_in, row.removed_in):
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
    paths = list(dict.fromkeys([*live_paths, *old_paths]))[:MOST_PATHS]
    return Affected(files, size, live, tuple(_by_snapshot(tx, steps)), tuple(paths))


def _by_snapshot(tx: Transaction, steps: dict[int, Counter[int]]) -> Iterator[AffectedSnapshot]:
    for snapshot in snapshots.list_snapshots(tx):
        changes = steps[snapshot.job_number]
        count = sum(step for number, step in changes.items() if number <= snapshot.number)
        if count:
            yield AffectedSnapshot(snapshot.id, snapshot.job, count)
