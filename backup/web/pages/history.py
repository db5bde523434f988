"""The pages of runs, of one run, of the nights of a job, and of changes between two snapshots."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backup.inventory.records.runs import Outcome, RunKind
from backup.web.context import context_of
from backup.web.pages.frame import answered, framed
from backup.web.pages.links import PageParameters
from backup.web.pages.reading import job_names, newest_job
from backup.web.views.nights import changes, snapshot_page
from backup.web.views.run_pages import one_run, run_page
from backup.wording import duration, size

_TOLD_ELSEWHERE = frozenset({"problems", "error", "outcome", "job", "vault", "unusual", "run", "kind"})


def report_rows(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Return a report as names and values in words, without empty values and those shown elsewhere."""
    for name, value in report.items():
        if name not in _TOLD_ELSEWHERE and value not in (None, "", [], {}):
            yield name.replace("_", " "), _in_words(name, value)


def _in_words(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and name.startswith("bytes"):
        return size(int(value))
    if isinstance(value, int | float) and name.endswith("seconds"):
        return duration(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return "\n".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)


@answered
async def show_runs(request: Request) -> Response:
    """Show runs, newest first, filtered by job, kind and outcome."""
    context, asked = context_of(request), PageParameters(request.scope["query_string"])
    found = await context.reading.view(
        run_page,
        job=asked.text("job"),
        kind=asked.text("kind"),
        outcome=asked.text("outcome"),
        before=asked.number("before"),
    )
    return await framed(
        request,
        "runs.html",
        here="runs",
        it=found,
        jobs=job_names(context.config),
        kinds=list(RunKind),
        outcomes=list(Outcome),
    )


@answered
async def show_run(request: Request) -> Response:
    """Show one run with all details."""
    context = context_of(request)
    found = await context.reading.view(one_run, str(request.path_params["number"]))
    return await framed(request, "run.html", here="runs", it=found, report=list(report_rows(found.report)))


@answered
async def show_nights(request: Request) -> Response:
    """Show the snapshots of the job in the URL, or of the job that was backed up last."""
    context, asked = context_of(request), PageParameters(request.scope["query_string"])
    job = asked.text("job") or await context.reading.view(newest_job, context.config)
    if job is None:
        return await framed(request, "nights.html", here="nights", it=None)
    forgotten = asked.text("forgotten") is not None
    found = await context.reading.view(snapshot_page, job, before=asked.number("before"), forgotten=forgotten)
    return await framed(request, "nights.html", here="nights", it=found)


@answered
async def show_changes(request: Request) -> Response:
    """Show the changes from one snapshot to another."""
    context, asked = context_of(request), PageParameters(request.scope["query_string"])
    found = await context.reading.view(
        changes,
        asked.text("newer") or "",
        older=asked.text("older"),
        path=asked.path("path") or b"/",
        after=asked.text("after"),
    )
    return await framed(request, "changes.html", here="nights", it=found)


HISTORY = (
    Route("/runs", show_runs, name="runs"),
    Route("/runs/{number}", show_run, name="run"),
    Route("/nights", show_nights, name="nights"),
    Route("/changes", show_changes, name="changes"),
)
