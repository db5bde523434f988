"""The page that browses a snapshot: a directory, a page at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backup.config import Config
from backup.inventory.content.entries import ROOT, owners_by_number
from backup.inventory.content.entry_versions import version_at, versions_in
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.pages.snapshot_pages import kept_of
from backup.inventory.questions import browsing as queries
from backup.inventory.store.connections import Transaction
from backup.model import EntryKind, SnapshotId
from backup.source.streams import TOP
from backup.web.context import context_of
from backup.web.guard.faults import NotThereError
from backup.web.pages.entries import (
    EntryLine,
    Name,
    Place,
    Step,
    entry_line,
    places_of,
    steps_of,
    the_snapshot,
)
from backup.web.pages.html import framed
from backup.web.pages.nights import newest_of_jobs
from backup.web.pages.parameters import Parameters, cursor, cursor_of, path_of

A_PAGE = 200
_MOST_COUNTED = 10_000


class DirectoryPage(Struct, frozen=True):
    """A page of a directory of a snapshot, by name; `next_after` is the next page's cursor, None at the end.

    `count` is the number of all entries, None if there are too many to count. `places` are those of the
    contents of this page's entries. `sources` are the job's, on the first page of a snapshot.
    """

    snapshot: Snapshot
    path: Name
    steps: Sequence[Step]
    itself: EntryLine | None
    entries: Sequence[EntryLine]
    count: int | None
    is_first: bool
    next_after: str | None
    places: Sequence[Place]
    older: SnapshotId | None
    newer: SnapshotId | None
    sources: Sequence[Name] = ()


def directory(
    tx: Transaction,
    config: Config,
    now: datetime,
    snapshot: str,
    path: bytes | None = ROOT,
    *,
    after: str | None = None,
) -> DirectoryPage:
    """Return a page of a directory of a snapshot; for a path that is no directory, that entry alone.

    The default path is the deepest directory that contains all sources.
    """
    name = _after(after)
    of = the_snapshot(tx, snapshot)
    begins = path is None
    path = _above_sources(tx, of) if path is None else path_of(path)
    owners = owners_by_number(tx)
    itself = None if path == ROOT else version_at(tx, of.job_number, path, of.number)
    if path != ROOT and itself is None:
        raise NotThereError("this snapshot has no such path")
    is_directory = itself is None or itself.kind == EntryKind.DIRECTORY
    listed = versions_in(tx, of.job_number, path, of.number, after=name or b"", limit=A_PAGE + 1)
    rows = list(listed) if is_directory else []
    shown = rows[:A_PAGE]
    lists = queries.chunk_lists(
        tx, [entry.number for entry in ([itself] if not is_directory else shown) if entry]
    )
    beside = kept_of(tx, of.job_number).beside(of.number)
    older, newer = (kept.id if kept else None for kept in beside)
    return DirectoryPage(
        snapshot=of,
        path=Name(path),
        steps=steps_of(path),
        itself=None if itself is None else entry_line(itself, owners),
        entries=[entry_line(version, owners) for version in shown],
        count=queries.count_directory(tx, of.job_number, path, of.number, most=_MOST_COUNTED),
        is_first=name is None,
        next_after=cursor(shown[-1].name) if len(rows) > A_PAGE else None,
        places=places_of(tx, config, now, lists.values()),
        older=older,
        newer=newer,
        sources=[Name(top) for top in of.tops if top != path] if begins else [],
    )


def _above_sources(tx: Transaction, of: Snapshot) -> bytes:
    """The deepest directory of a snapshot that holds all that was saved: sources, and streams."""
    has_streams = version_at(tx, of.job_number, TOP, of.number) is not None
    path = os.path.commonpath(of.tops) if of.tops and not has_streams else ROOT
    while path != ROOT:
        found = version_at(tx, of.job_number, path, of.number)
        if found is not None and found.kind == EntryKind.DIRECTORY:
            break
        path = os.path.dirname(path)
    return path


def _after(text: str | None) -> bytes | None:
    """The name after which the page begins."""
    place = cursor_of(text, "b")
    return place[0] if place is not None and isinstance(place[0], bytes) else None


async def show_directory(request: Request) -> Response:
    """Show a directory of a snapshot; without a snapshot, the list of jobs."""
    context, asked = context_of(request), Parameters(request)
    snapshot = asked.text("snapshot")
    if snapshot is None:
        jobs = await context.reading.view(newest_of_jobs, context.config)
        return await framed(request, "browse_start.html", here="browse", jobs=jobs)
    found = await context.reading.view(
        directory,
        context.config,
        context.clock.now(),
        snapshot,
        asked.path("path"),
        after=asked.text("after"),
    )
    return await framed(request, "browse.html", here="browse", it=found)


BROWSE = (Route("/browse", show_directory, name="browse"),)
