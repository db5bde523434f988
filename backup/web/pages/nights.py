"""The page with the snapshots of a job; each job with its newest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backup.config import Config
from backup.inventory.content.snapshots import Snapshot, list_snapshots
from backup.inventory.records.runs import all_job_names
from backup.inventory.store.connections import Transaction
from backup.model import JobName
from backup.web.context import context_of
from backup.web.pages.entries import the_job
from backup.web.pages.html import framed
from backup.web.pages.parameters import Parameters, number_of

SNAPSHOTS_A_PAGE = 100


class SnapshotPage(Struct, frozen=True):
    """A page of a job's snapshots, newest first; `next_before` is the next page's cursor, None at the end.

    `has_forgotten`: there are forgotten snapshots in this range; `shows_forgotten`: the page includes them.
    """

    job: JobName
    jobs: Sequence[JobName]
    snapshots: Sequence[Snapshot]
    is_first: bool
    next_before: int | None
    has_forgotten: bool = False
    shows_forgotten: bool = True


class NewestOfJob(Struct, frozen=True):
    """A job with its newest snapshot, if it has one."""

    name: JobName
    newest_snapshot: str | None
    last_good: datetime | None
    files: int
    bytes: int
    snapshots: int


def newest_of_jobs(tx: Transaction, config: Config) -> Sequence[NewestOfJob]:
    """Return each configured job with its newest snapshot."""
    return [_newest(tx, name) for name in [job.name for job in config.jobs]]


def newest_job(tx: Transaction, config: Config) -> str | None:
    """Return the job with the newest snapshot; the first of the config if there is no snapshot."""
    jobs = newest_of_jobs(tx, config)
    known = [(job.last_good, job.name) for job in jobs if job.last_good is not None]
    return max(known)[1] if known else jobs[0].name if jobs else None


def _newest(tx: Transaction, name: JobName) -> NewestOfJob:
    kept = list_snapshots(tx, job=name)
    if not kept:
        return NewestOfJob(name, None, None, 0, 0, 0)
    newest = kept[-1]
    return NewestOfJob(name, newest.id, newest.started_at, newest.files, newest.bytes, len(kept))


def snapshot_page(
    tx: Transaction, job: str, *, before: str | int | None = None, forgotten: bool = True
) -> SnapshotPage:
    """Return a page of a job's snapshots, newest first, numbered below `before`; `forgotten` ones, too."""
    of, below = the_job(tx, job), number_of(before, "before")
    newest = partial(list_snapshots, tx, job=of.name, before=below, limit=SNAPSHOTS_A_PAGE + 1)
    every = newest(also_forgotten=True)[::-1]
    found = every if forgotten else newest()[::-1]
    shown = found[:SNAPSHOTS_A_PAGE]
    return SnapshotPage(
        job=of.name,
        jobs=all_job_names(tx),
        snapshots=shown,
        is_first=below is None,
        next_before=shown[-1].number if len(found) > len(shown) else None,
        has_forgotten=any(snapshot.forgotten_at for snapshot in every),
        shows_forgotten=forgotten,
    )


async def show_nights(request: Request) -> Response:
    """Show the snapshots of the job in the URL, or of the job that was backed up last."""
    context, asked = context_of(request), Parameters(request)
    job = asked.text("job") or await context.reading.view(newest_job, context.config)
    if job is None:
        return await framed(request, "nights.html", here="nights", it=None)
    forgotten = asked.text("forgotten") is not None
    found = await context.reading.view(snapshot_page, job, before=asked.text("before"), forgotten=forgotten)
    return await framed(request, "nights.html", here="nights", it=found)


NIGHTS = (Route("/nights", show_nights, name="nights"),)
