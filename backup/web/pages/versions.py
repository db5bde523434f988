"""The page with the versions of a file, in all kept snapshots of a job."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backup.config import Config
from backup.format.rows import unpack_u32
from backup.inventory.content.entries import owners_by_number
from backup.inventory.content.entry_versions import Version, changes, versions_of
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.pages.snapshot_pages import KeptSnapshot, kept_of, snapshots_of
from backup.inventory.questions import browsing as queries
from backup.inventory.store.connections import Transaction
from backup.model import JobName
from backup.web.context import context_of
from backup.web.guard.faults import NotThereError
from backup.web.pages.entries import (
    MOST_BYTES,
    EntryLine,
    Name,
    Place,
    Step,
    entry_line,
    numbers_in,
    readable,
    steps_of,
    summed,
    the_job,
)
from backup.web.pages.html import framed
from backup.web.pages.parameters import Parameters, path_of

MOST = 100


class VersionLine(Struct, frozen=True):
    """A version of an entry, which is in `snapshots` kept snapshots from `first` to `last`."""

    entry: EntryLine
    first: Snapshot
    last: Snapshot
    snapshots: int
    is_newest: bool
    what: Sequence[str]  # how it differs from the version before it
    places: Sequence[Place]  # of no more than ten thousand chunks of all versions


class VersionPage(Struct, frozen=True):
    """The newest 100 versions of a path, newest first; without those that no kept snapshot has.

    `is_gone`: the job's newest snapshot no longer has it.
    """

    job: JobName
    path: Name
    steps: Sequence[Step]
    versions: Sequence[VersionLine]
    is_gone: bool
    is_cut: bool


def versions_of_path(tx: Transaction, config: Config, now: datetime, job: str, path: bytes) -> VersionPage:
    """Return the newest 100 versions of a path, newest first. `NotThereError` if it has none."""
    path = path_of(path)
    of = the_job(tx, job)
    rows = versions_of(tx, of.number, path, limit=MOST + 1)
    if not rows:
        raise NotThereError("no snapshot of this job has such a path")
    kept = kept_of(tx, of.number)
    having = [(version, kept.of(version)) for version in rows[:MOST]]
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
            first=ends[kept[0].id],
            last=ends[kept[-1].id],
            snapshots=len(kept),
            is_newest=version.number == newest,
            what=differ.get(version.number, []),
            places=summed(
                config, [chunk for chunk in held if chunk.number in numbers.get(version.number, ())], ready
            ),
        )
        for version, kept in having
    ]


async def show_versions(request: Request) -> Response:
    """Show the versions of a path."""
    context, asked = context_of(request), Parameters(request)
    found = await context.reading.view(
        versions_of_path,
        context.config,
        context.clock.now(),
        asked.text("job") or "",
        asked.path("path") or b"",
    )
    return await framed(request, "versions.html", here="browse", it=found)


VERSIONS = (Route("/versions", show_versions, name="versions"),)
