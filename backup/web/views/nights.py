"""The views of a job's snapshots, and of the changes between two of them."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from backup.app.status.unusual import unusual_in
from backup.inventory.content.entries import ROOT
from backup.inventory.content.entry_versions import Version
from backup.inventory.content.entry_versions import changes as differences
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.pages.snapshot_pages import KeptSnapshots, kept_by_job, snapshots_before, snapshots_of
from backup.inventory.questions import changes as queries
from backup.inventory.questions.changes import Between, Counts
from backup.inventory.records.runs import all_job_names, find_run
from backup.inventory.store.connections import Transaction
from backup.web.views.errors import BadParameterError
from backup.web.views.parameters import cursor, cursor_of, number_of, path_of
from backup.web.views.rows import kind_of, mtime_of, snapshot_line, the_job, the_snapshot
from backup.web.views.values.names import Name
from backup.web.views.values.nights import Change, ChangeCounts, ChangeLine, ChangePage, SnapshotPage

A_PAGE = 100
SNAPSHOTS_A_PAGE = 100


def snapshot_page(
    tx: Transaction, job: str, *, before: str | int | None = None, forgotten: bool = True
) -> SnapshotPage:
    """Return a page of a job's snapshots, newest first, numbered below `before`; `forgotten` ones, too."""
    of, below = the_job(tx, job), number_of(before, "before")
    every = snapshots_before(tx, of.number, before=below, limit=SNAPSHOTS_A_PAGE + 1)
    found = every if forgotten else _kept_before(tx, of.number, below)
    shown = found[:SNAPSHOTS_A_PAGE]
    return SnapshotPage(
        job=of.name,
        jobs=all_job_names(tx),
        snapshots=[snapshot_line(snapshot) for snapshot in shown],
        is_first=below is None,
        next_before=shown[-1].number if len(found) > len(shown) else None,
        has_forgotten=any(snapshot.forgotten_at for snapshot in every),
        shows_forgotten=forgotten,
    )


def _kept_before(tx: Transaction, job: int, below: int | None) -> list[Snapshot]:
    """The newest kept snapshots with lower numbers: a page of them, and one more."""
    kept = kept_by_job(tx, job).get(job, KeptSnapshots([])).having(0, below)[-SNAPSHOTS_A_PAGE - 1 :]
    rows = snapshots_of(tx, [snapshot.id for snapshot in kept])
    return [rows[snapshot.id] for snapshot in reversed(kept)]


def changes(
    tx: Transaction,
    newer: str,
    *,
    older: str | None = None,
    path: bytes = ROOT,
    after: str | None = None,
) -> ChangePage:
    """Return the changes from the snapshot `older` to `newer`; by default from the one before it."""
    path = path_of(path)
    place = _after(after)
    late = the_snapshot(tx, newer)
    kept = kept_by_job(tx, late.job_number).get(late.job_number, KeptSnapshots([]))
    before, beyond = kept.beside(late.number)
    early = the_snapshot(tx, older) if older else the_snapshot(tx, before.id) if before else None
    if early is not None and early.job_number != late.job_number:
        raise BadParameterError("these snapshots are of two jobs")
    if early is not None and early.number > late.number:
        early, late = late, early
    between = Between(late.job_number, early.number if early else 0, late.number, path)
    much = queries.is_much(tx, between)
    pairs = queries.changed_page(tx, between, after=place, limit=A_PAGE + 1, much=much)
    shown = [_line(*pair) for pair in pairs[:A_PAGE]]
    return ChangePage(
        older=snapshot_line(early) if early else None,
        newer=snapshot_line(late),
        path=Name(path),
        counts=_counts(tx, between, late, much=much),
        changes=shown,
        unusual=_unusual(tx, late),
        is_first=place is None,
        next_after=_cursor(*pairs[A_PAGE - 1]) if len(pairs) > A_PAGE else None,
        earlier=before.id if before else None,
        later=beyond.id if beyond else None,
    )


def _line(before: Version | None, after: Version | None) -> ChangeLine:
    version = after or before
    if version is None:
        raise ValueError("a pair has at least one version")
    change = Change.ADDED if before is None else Change.REMOVED if after is None else Change.CHANGED
    return ChangeLine(
        path=Name(version.path),
        change=change,
        kind=kind_of(version.kind),
        what=differences(before, after) if before and after else [],
        size_before=before.size if before else None,
        size_after=after.size if after else None,
        mtime=mtime_of(version.mtime_ns),
    )


def _cursor(before: Version | None, after: Version | None) -> str:
    version = after or before
    return cursor(version.directory, version.name) if version else ""


def _after(text: str | None) -> tuple[bytes, bytes] | None:
    match cursor_of(text, "bb"):
        case (bytes(directory), bytes(name)):
            return directory, name
        case _:
            return None


def _unusual(tx: Transaction, snapshot: Snapshot) -> list[str]:
    run = find_run(tx, snapshot.run) if snapshot.run is not None else None
    return unusual_in(tx, run) if run else []


class _CachedCounts:
    """What was counted last, a few of it: what differs between two snapshots never changes."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, Lock()
        self._known: OrderedDict[tuple[object, ...], Counts] = OrderedDict()

    def counts(self, tx: Transaction, between: Between, key: tuple[object, ...]) -> Counts:
        """Return the counts, from the cache if they are known."""
        with self._lock:
            if key in self._known:
                return self._known[key]
        found = queries.count_changes(tx, between)
        with self._lock:
            self._known[key] = found
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return found


_COUNTED = _CachedCounts(100)


def _counts(tx: Transaction, between: Between, late: Snapshot, *, much: bool) -> ChangeCounts:
    """The counts; where there is much, no more than that."""
    if much:
        least = queries.MOST_FOUND
        return ChangeCounts(least, 0, 0, 0, 0, is_whole=False)
    found = _COUNTED.counts(tx, between, (late.id, between.older, between.newer, between.path))
    return ChangeCounts(*found, is_whole=True)
