"""The view of a directory of a snapshot, in pages."""

from __future__ import annotations

import os
from datetime import datetime

from backup.config import Config
from backup.inventory.content.entries import ROOT, owners_by_number
from backup.inventory.content.entry_versions import Version
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.pages.snapshot_pages import KeptSnapshots, kept_by_job
from backup.inventory.questions import browsing as queries
from backup.inventory.store.connections import Transaction
from backup.model import EntryKind, Owner
from backup.source.streams import TOP
from backup.web.views.errors import NotThereError
from backup.web.views.parameters import cursor, cursor_of, path_of
from backup.web.views.places import places_of
from backup.web.views.rows import entry_line, snapshot_line, steps_of, the_snapshot
from backup.web.views.values.browse import DirectoryPage, EntryLine
from backup.web.views.values.names import Name

A_PAGE = 200
_MOST_COUNTED = 10_000


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
    itself = None if path == ROOT else queries.version_at(tx, of.job_number, path, of.number)
    if path != ROOT and itself is None:
        raise NotThereError("this snapshot has no such path")
    is_directory = itself is None or itself.kind == EntryKind.DIRECTORY
    rows = _page(tx, of, path, name or b"") if is_directory else []
    shown = rows[:A_PAGE]
    lists = queries.chunk_lists(
        tx, [entry.number for entry in ([itself] if not is_directory else shown) if entry]
    )
    beside = kept_by_job(tx, of.job_number).get(of.job_number, KeptSnapshots([])).beside(of.number)
    older, newer = (kept.id if kept else None for kept in beside)
    return DirectoryPage(
        snapshot=snapshot_line(of),
        path=Name(path),
        steps=steps_of(path),
        itself=_line(itself, owners),
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
    has_streams = queries.version_at(tx, of.job_number, TOP, of.number) is not None
    path = os.path.commonpath(of.tops) if of.tops and not has_streams else ROOT
    while path != ROOT:
        found = queries.version_at(tx, of.job_number, path, of.number)
        if found is not None and found.kind == EntryKind.DIRECTORY:
            break
        path = os.path.dirname(path)
    return path


def _line(itself: Version | None, owners: dict[int, Owner]) -> EntryLine | None:
    return None if itself is None else entry_line(itself, owners)


def _page(tx: Transaction, of: Snapshot, path: bytes, after: bytes) -> list[Version]:
    return queries.directory_page(tx, of.job_number, path, of.number, after=after, limit=A_PAGE + 1)


def _after(text: str | None) -> bytes | None:
    """The name after which the page begins."""
    place = cursor_of(text, "b")
    return place[0] if place is not None and isinstance(place[0], bytes) else None
