"""The page with the changes between two snapshots of a job."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from itertools import islice
from threading import Lock

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backup.app.status.unusual import unusual_in
from backup.inventory.content.entries import ROOT
from backup.inventory.content.entry_versions import Version
from backup.inventory.content.entry_versions import changes as differences
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.pages.snapshot_pages import kept_of
from backup.inventory.questions import changes as queries
from backup.inventory.questions.changes import Between, Counts
from backup.inventory.records.runs import find_run
from backup.inventory.store.connections import Transaction
from backup.web.context import context_of
from backup.web.guard.faults import BadParameterError
from backup.web.pages.entries import Kind, Name, kind_of, mtime_of, the_snapshot
from backup.web.pages.html import framed
from backup.web.pages.parameters import Parameters, cursor, cursor_of, path_of

A_PAGE = 100


class Change(StrEnum):
    """The kind of a change of an entry between two snapshots."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class ChangeLine(Struct, frozen=True):
    """An entry that differs between two snapshots.

    `what` lists the differences of a changed entry: kind, content, mode, owner, times, attributes. A size is
    None in a snapshot without the entry, and 0 for a directory.
    """

    path: Name
    change: Change
    kind: Kind
    what: Sequence[str]
    size_before: int | None
    size_after: int | None
    mtime: datetime


class ChangeCounts(Struct, frozen=True):
    """How much differs in all, but directories whose times alone differ. `is_whole` is False if counting was
    ended early: then there is at least as much."""

    added: int
    removed: int
    changed: int
    bytes_added: int
    bytes_removed: int
    is_whole: bool


class ChangePage(Struct, frozen=True):
    """A page of changes from `older` to `newer` at and below `path`, sorted by path.

    `unusual` are sentences about the night of `newer`. `next_after` is the next page's cursor, None at the
    end. `earlier` and `later` are the ids of the snapshots before and after `newer`.
    """

    older: Snapshot | None
    newer: Snapshot
    path: Name
    counts: ChangeCounts
    changes: Sequence[ChangeLine]
    unusual: Sequence[str]
    is_first: bool
    next_after: str | None
    earlier: str | None
    later: str | None


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
    before, beyond = kept_of(tx, late.job_number).beside(late.number)
    early = the_snapshot(tx, older) if older else the_snapshot(tx, before.id) if before else None
    if early is not None and early.job_number != late.job_number:
        raise BadParameterError("these snapshots are of two jobs")
    if early is not None and early.number > late.number:
        early, late = late, early
    between = Between(late.job_number, early.number if early else 0, late.number, path)
    much = queries.is_much(tx, between)
    found = (
        pair for pair in queries.changed(tx, between, much=much, after=place) if not queries.is_touched(*pair)
    )
    pairs = list(islice(found, A_PAGE + 1))
    shown = [_line(*pair) for pair in pairs[:A_PAGE]]
    return ChangePage(
        older=early,
        newer=late,
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
    """A few of the counts made last: what differs between two snapshots never changes."""

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


async def show_changes(request: Request) -> Response:
    """Show the changes from one snapshot to another."""
    context, asked = context_of(request), Parameters(request)
    found = await context.reading.view(
        changes,
        asked.text("newer") or "",
        older=asked.text("older"),
        path=asked.path("path") or b"/",
        after=asked.text("after"),
    )
    return await framed(request, "changes.html", here="nights", it=found)


CHANGES = (Route("/changes", show_changes, name="changes"),)
