"""The page that searches for names in all snapshots of all jobs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backup.inventory.content.entry_versions import NamePlace, Series
from backup.inventory.pages.snapshot_pages import KeptSnapshot, kept_by_job
from backup.inventory.questions.searching import START, FoundName, search_names
from backup.inventory.records.runs import all_job_names, job_names_by_number
from backup.inventory.store.connections import Transaction
from backup.model import JobName, SnapshotId
from backup.web.context import context_of
from backup.web.guard.faults import BadParameterError
from backup.web.pages.entries import Kind, Name, kind_of, mtime_of, the_job
from backup.web.pages.html import framed
from backup.web.pages.parameters import Parameters, cursor, cursor_of, words_of

A_PAGE = 50
_MOST_WILDCARDS = 4


class Hit(Struct, frozen=True):
    """A result of a search: a path with its newest version in a kept snapshot.

    `last` is the newest snapshot with it; `is_gone`: the job's newest snapshot no longer has it.
    """

    job: JobName
    path: Name
    kind: Kind
    size: int
    mtime: datetime
    last: SnapshotId
    last_at: datetime
    is_gone: bool
    versions: int


class SearchPage(Struct, frozen=True):
    """The results of a search for `words` in names; `next_after` is the next page's cursor, None at the end.

    `is_cut`: the search stopped at its limit, and there may be more results after `next_after`.
    """

    words: str
    job: JobName | None
    jobs: Sequence[JobName]
    hits: Sequence[Hit]
    is_first: bool
    next_after: str | None
    is_cut: bool


def search(tx: Transaction, words: str, *, job: str | None = None, after: str | None = None) -> SearchPage:
    """Return paths whose names contain the words, ignoring case; * and ? are wildcards.

    With a slash, the part before the last slash must match the end of the directory's path. Without words,
    nothing is searched.
    """
    words = words_of(words)
    start = _after(after)
    of = the_job(tx, job) if job else None
    found: list[FoundName] = []
    goes_on = None
    if words:
        folder, slash, name = words.rpartition("/")
        found, goes_on = search_names(
            tx,
            _pattern(name),
            folders="%" + _escaped(folder) if slash else None,
            job=of.number if of else None,
            after=start or START,
            limit=A_PAGE,
        )
    names, kept = job_names_by_number(tx), kept_by_job(tx)
    hits = [_hit(names[hit.place.job], kept.get(hit.place.job, Series()), hit) for hit in found]
    return SearchPage(
        words=words,
        job=of.name if of else None,
        jobs=all_job_names(tx),
        hits=[hit for hit in hits if hit is not None],
        is_first=start is None,
        next_after=None if goes_on is None else cursor(*goes_on),
        is_cut=goes_on is not None and len(found) < A_PAGE,
    )


def _hit(job: JobName, kept: Series[KeptSnapshot], found: FoundName) -> Hit | None:
    """A hit; None if no kept snapshot has its newest version, as after a forget."""
    version = found.newest
    having = kept.of(version)
    if not having:
        return None
    return Hit(
        job=job,
        path=Name(version.path),
        kind=kind_of(version.kind),
        size=version.size,
        mtime=mtime_of(version.mtime_ns),
        last=having[-1].id,
        last_at=having[-1].started_at,
        is_gone=having[-1] is not kept.newest,
        versions=found.versions,
    )


def _pattern(words: str) -> str:
    """A pattern for LIKE: a part of a name, or all of it where there are wildcards."""
    stars = sum(words.count(character) for character in "*?")
    if stars > _MOST_WILDCARDS:
        raise BadParameterError(f"at most {_MOST_WILDCARDS} wildcards at a time")
    escaped = _escaped(words)
    return escaped.replace("*", "%").replace("?", "_") if stars else f"%{escaped}%"


def _escaped(words: str) -> str:
    return words.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")


def _after(text: str | None) -> NamePlace | None:
    match cursor_of(text, "nbb"):
        case (int(job), bytes(directory), bytes(name)):
            return NamePlace(job, directory, name)
        case _:
            return None


async def show_search(request: Request) -> Response:
    """Show the paths whose names match the words of the search."""
    context, asked = context_of(request), Parameters(request)
    words = asked.text("q")
    found = None
    if words is not None and words.strip():
        found = await context.reading.view(search, words, job=asked.text("job"), after=asked.text("after"))
    return await framed(
        request, "search.html", here="search", it=found, jobs=[job.name for job in context.config.jobs]
    )


SEARCH = (Route("/search", show_search, name="search"),)
