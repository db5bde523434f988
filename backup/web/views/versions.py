"""The view of the versions of a file, in all kept snapshots of a job."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from backup.config import Config
from backup.format.rows import unpack_u32
from backup.inventory.content.entries import owners_by_number
from backup.inventory.content.entry_versions import Version, changes
from backup.inventory.pages.snapshot_pages import KeptSnapshot, KeptSnapshots, kept_by_job, snapshots_of
from backup.inventory.questions import browsing as queries
from backup.inventory.store.connections import Transaction
from backup.web.views.errors import NotThereError
from backup.web.views.parameters import path_of
from backup.web.views.places import MOST_BYTES, numbers_in, readable, summed
from backup.web.views.rows import entry_line, snapshot_line, steps_of, the_job
from backup.web.views.values.browse import VersionLine, VersionPage
from backup.web.views.values.names import Name

MOST = 100


def versions_of_path(tx: Transaction, config: Config, now: datetime, job: str, path: bytes) -> VersionPage:
    """Return the newest 100 versions of a path, newest first. `NotThereError` if it has none."""
    path = path_of(path)
    of = the_job(tx, job)
    rows = queries.newest_versions(tx, of.number, path, limit=MOST + 1)
    if not rows:
        raise NotThereError("no snapshot of this job has such a path")
    kept = kept_by_job(tx, of.number).get(of.number, KeptSnapshots([]))
    having = [(version, kept.having(version.added_in, version.removed_in)) for version in rows[:MOST]]
    lines = _lines(tx, config, now, rows, [pair for pair in having if pair[1]])
    newest = kept.newest
    return VersionPage(
        job=of.name,
        path=Name(path),
        steps=steps_of(path),
        versions=lines,
        is_gone=not lines or newest is None or lines[0].last.number != newest.number,
        is_cut=len(rows) > MOST,
    )


def _lines(
    tx: Transaction,
    config: Config,
    now: datetime,
    rows: Sequence[Version],
    having: Sequence[tuple[Version, Sequence[KeptSnapshot]]],
) -> list[VersionLine]:
    owners = owners_by_number(tx)
    ends = snapshots_of(tx, [snapshot.id for _, kept in having for snapshot in (kept[0], kept[-1])])
    differ = {newer.number: changes(older, newer) for newer, older in pairwise(rows)}
    newest = rows[0].number
    lists = queries.chunk_lists(tx, [version.number for version, _ in having])
    numbers = {entry: set(unpack_u32(packed[:MOST_BYTES])) for entry, packed in lists.items()}
    held = queries.held_chunks(tx, numbers_in(lists.values()))
    ready = readable(tx, now, held)
    return [
        VersionLine(
            entry=entry_line(version, owners),
            first=snapshot_line(ends[kept[0].id]),
            last=snapshot_line(ends[kept[-1].id]),
            snapshots=len(kept),
            is_newest=version.number == newest,
            what=differ.get(version.number, []),
            places=summed(
                config, [chunk for chunk in held if chunk.number in numbers.get(version.number, ())], ready
            ),
        )
        for version, kept in having
    ]
