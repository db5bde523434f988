"""The pages that browse a snapshot, search names, and list versions of a file."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backup.web.context import context_of
from backup.web.pages.frame import answered, framed
from backup.web.pages.links import PageParameters
from backup.web.pages.reading import job_names, newest_of_jobs
from backup.web.views.browsing import directory
from backup.web.views.searching import search
from backup.web.views.versions import versions_of_path


@answered
async def show_directory(request: Request) -> Response:
    """Show a directory of a snapshot; without a snapshot, the list of jobs."""
    context, asked = context_of(request), PageParameters(request.scope["query_string"])
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


@answered
async def show_search(request: Request) -> Response:
    """Show the paths whose names match the words of the search."""
    context, asked = context_of(request), PageParameters(request.scope["query_string"])
    words = asked.text("q")
    found = None
    if words is not None and words.strip():
        found = await context.reading.view(search, words, job=asked.text("job"), after=asked.text("after"))
    return await framed(request, "search.html", here="search", it=found, jobs=job_names(context.config))


@answered
async def show_versions(request: Request) -> Response:
    """Show the versions of a path."""
    context, asked = context_of(request), PageParameters(request.scope["query_string"])
    found = await context.reading.view(
        versions_of_path,
        context.config,
        context.clock.now(),
        asked.text("job") or "",
        asked.path("path") or b"",
    )
    return await framed(request, "versions.html", here="browse", it=found)


LOOKING = (
    Route("/browse", show_directory, name="browse"),
    Route("/search", show_search, name="search"),
    Route("/versions", show_versions, name="versions"),
)
