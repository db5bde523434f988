"""The endpoints of the API: each with its parameters, and the type of its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from msgspec import Struct
from starlette.requests import Request

from backup.web.context import context_of
from backup.web.pages.archives import MoneyPage, money
from backup.web.pages.browse import DirectoryPage, directory
from backup.web.pages.changes import ChangePage, changes
from backup.web.pages.nights import SnapshotPage, snapshot_page
from backup.web.pages.overview import Overview, overview
from backup.web.pages.parameters import Parameters
from backup.web.pages.quote import QuotePage, quote
from backup.web.pages.runs import RunDetail, RunPage, one_run, run_page
from backup.web.pages.schedule import SchedulePage, schedule
from backup.web.pages.search import SearchPage, search
from backup.web.pages.versions import VersionPage, versions_of_path

Call = Callable[[Request, Parameters], Awaitable[object]]


class Parameter(Struct, frozen=True):
    """A query parameter; `is_list`: it may be repeated."""

    name: str
    about: str
    is_required: bool = False
    is_list: bool = False


class Endpoint(Struct, frozen=True):
    """A GET below /api/v1; names in braces are parts of its path."""

    path: str
    name: str
    about: str
    answer: type
    call: Call
    parameters: Sequence[Parameter] = ()


_JOB = Parameter("job", "only of this job")
_AFTER = Parameter("after", "what the page before gave as next_after")
_BEFORE = Parameter("before", "what the page before gave as next_before")
_PATH = Parameter("path", "an absolute path, percent-encoded byte by byte; / without it")


async def _view(request: Request, make: Callable[..., Any], *args: object, **named: object) -> object:
    return await context_of(request).reading.view(make, *args, **named)


async def _overview(request: Request, _: Parameters) -> object:
    context = context_of(request)
    return await _view(request, overview, context.config, context.clock.now(), await context.daemon.parsed())


async def _schedule(request: Request, _: Parameters) -> object:
    context = context_of(request)
    return await _view(request, schedule, context.config, context.clock.now(), await context.daemon.parsed())


async def _money(request: Request, _: Parameters) -> object:
    context = context_of(request)
    return await _view(request, money, context.config, context.clock.now())


async def _runs(request: Request, of: Parameters) -> object:
    given = {name: of.text(name) for name in ("job", "kind", "outcome", "before")}
    return await _view(request, run_page, **given)


async def _run(request: Request, _: Parameters) -> object:
    return await _view(request, one_run, request.path_params["number"])


async def _snapshots(request: Request, of: Parameters) -> object:
    return await _view(request, snapshot_page, request.path_params["job"], before=of.text("before"))


async def _changes(request: Request, of: Parameters) -> object:
    return await _view(
        request,
        changes,
        request.path_params["snapshot"],
        older=of.text("older"),
        path=of.path("path") or b"/",
        after=of.text("after"),
    )


async def _entries(request: Request, of: Parameters) -> object:
    context, snapshot = context_of(request), request.path_params["snapshot"]
    now = context.clock.now()
    return await _view(
        request, directory, context.config, now, snapshot, of.path("path") or b"/", after=of.text("after")
    )


async def _quote(request: Request, of: Parameters) -> object:
    context, snapshot = context_of(request), request.path_params["snapshot"]
    return await _view(request, quote, context.config, context.clock.now(), snapshot, of.paths())


async def _versions(request: Request, of: Parameters) -> object:
    context, job = context_of(request), request.path_params["job"]
    return await _view(
        request, versions_of_path, context.config, context.clock.now(), job, of.path("path") or b"/"
    )


async def _search(request: Request, of: Parameters) -> object:
    return await _view(request, search, of.text("q") or "", job=of.text("job"), after=of.text("after"))


ENDPOINTS: Sequence[Endpoint] = (
    Endpoint("/overview", "overview", "The overview: status of all jobs and vaults.", Overview, _overview),
    Endpoint(
        "/runs",
        "runs",
        "Runs, newest first.",
        RunPage,
        _runs,
        (
            _JOB,
            Parameter("kind", "only of this kind"),
            Parameter("outcome", "only with this outcome"),
            _BEFORE,
        ),
    ),
    Endpoint("/runs/{number}", "run", "A run with its report.", RunDetail, _run),
    Endpoint(
        "/jobs/{job}/snapshots",
        "snapshots",
        "A job's snapshots, newest first.",
        SnapshotPage,
        _snapshots,
        (_BEFORE,),
    ),
    Endpoint("/jobs/{job}/versions", "versions", "The versions of a path.", VersionPage, _versions, (_PATH,)),
    Endpoint(
        "/snapshots/{snapshot}/entries",
        "entries",
        "A directory of a snapshot.",
        DirectoryPage,
        _entries,
        (_PATH, _AFTER),
    ),
    Endpoint(
        "/snapshots/{snapshot}/changes",
        "changes",
        "What changed up to a snapshot.",
        ChangePage,
        _changes,
        (Parameter("older", "since this snapshot; without it since the one before"), _PATH, _AFTER),
    ),
    Endpoint(
        "/snapshots/{snapshot}/quote",
        "quote",
        "What a restore of these paths costs, and its command.",
        QuotePage,
        _quote,
        (Parameter("path", "an absolute path; may be repeated", is_required=True, is_list=True),),
    ),
    Endpoint(
        "/search",
        "search",
        "Names in all snapshots.",
        SearchPage,
        _search,
        (Parameter("q", "a part of a name, or a pattern with * and ?"), _JOB, _AFTER),
    ),
    Endpoint("/money", "money", "Archives, and what they cost.", MoneyPage, _money),
    Endpoint("/schedule", "schedule", "The next two weeks.", SchedulePage, _schedule),
)
