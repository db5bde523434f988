"""The pages of runs, newest first, and of one run with its report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backup.app.status.unusual import unusual_in
from backup.inventory.content.snapshots import Snapshot, of_run
from backup.inventory.pages import run_pages as queries
from backup.inventory.pages.run_pages import StoredRow
from backup.inventory.pages.snapshot_pages import kept_of
from backup.inventory.records.runs import Run, find_job, find_run, list_runs
from backup.inventory.store.connections import Transaction
from backup.inventory.store.times import moment
from backup.kinds import Outcome, RunKind
from backup.model import JobName, PackKind, Problem, VaultName
from backup.web.context import context_of
from backup.web.guard.faults import NotThereError
from backup.web.pages.entries import Name, the_job
from backup.web.pages.html import framed
from backup.web.pages.parameters import Parameters, choice_of, number_of
from backup.wording import duration, size

A_PAGE = 50
_MOST_PROBLEMS, _MOST_STORED = 1_000, 200
_TOLD_ELSEWHERE = frozenset({"problems", "error", "outcome", "job", "vault", "unusual", "run", "kind"})


class ProblemLine(Struct, frozen=True):
    """A problem with an entry: `kind` is of `model.ProblemKind`; an entry with a warning was still saved."""

    path: Name
    kind: str
    detail: str
    is_warning: bool


class RunLine(Struct, frozen=True):
    """A run in a list. `seconds` is its duration, None while it runs; `problems` counts those of its report.

    `error` is the message of a failed run. Figures are 0 if its kind has none.
    """

    number: int
    kind: RunKind
    job: JobName | None
    vault: VaultName | None
    outcome: Outcome
    started_at: datetime
    finished_at: datetime | None
    seconds: float | None
    error: str | None
    files_read: int
    bytes_read: int
    bytes_uploaded: int
    problems: int


class RunPage(Struct, frozen=True):
    """A page of runs, newest first; `next_before` is the next page's cursor, None at the end."""

    runs: Sequence[RunLine]
    job: JobName | None
    kind: RunKind | None
    outcome: Outcome | None
    is_first: bool
    next_before: int | None


class StoredLine(Struct, frozen=True):
    """An archive that a run stored: `kind` is data or catalog, `state` is of `archives.ArchiveState`."""

    number: int
    kind: str
    state: str
    size: int
    archive_id: str | None
    stored_at: datetime | None


class RunDetail(Struct, frozen=True):
    """A run with all details.

    `report` is its report as it was recorded; its fields depend on the kind (docs/json.md). `problems` are
    at most 1,000, sorted by path, of `problem_count`. `stored` are at most 200 of `stored_count` archives.
    `log_command` shows its log lines, which are in the journal. `earlier` and `later` are the runs of the
    same job before and after it.
    """

    line: RunLine
    report: Mapping[str, Any]
    unusual: Sequence[str]
    problems: Sequence[ProblemLine]
    problem_count: int
    snapshot: Snapshot | None
    previous_snapshot: str | None
    stored: Sequence[StoredLine]
    stored_count: int
    stored_bytes: int
    log_command: str
    earlier: int | None
    later: int | None


def run_page(
    tx: Transaction,
    *,
    job: str | None = None,
    kind: str | None = None,
    outcome: str | None = None,
    before: str | int | None = None,
) -> RunPage:
    """Return a page of runs, newest first, with numbers below `before`."""
    of = the_job(tx, job) if job else None
    one_kind = choice_of(kind, RunKind, "kind")
    one_outcome = choice_of(outcome, Outcome, "outcome")
    below = number_of(before, "before")
    found = list_runs(
        tx,
        job=of.name if of else None,
        kinds=[one_kind] if one_kind else (),
        outcome=one_outcome,
        before=below,
        limit=A_PAGE + 1,
    )
    shown = [run_line(run) for run in found[:A_PAGE]]
    return RunPage(
        runs=shown,
        job=of.name if of else None,
        kind=one_kind,
        outcome=one_outcome,
        is_first=below is None,
        next_before=shown[-1].number if len(found) > A_PAGE else None,
    )


def run_line(run: Run) -> RunLine:
    """Return a run as a line of a list."""
    began, ended, figures = run.started_at, run.finished_at, run.figures
    return RunLine(
        number=run.number,
        kind=run.kind,
        job=run.job,
        vault=run.vault,
        outcome=run.outcome,
        started_at=began,
        finished_at=ended,
        seconds=None if ended is None else max(0.0, (ended - began).total_seconds()),
        error=run.error,
        files_read=figures.files_read or 0,
        bytes_read=figures.bytes_read or 0,
        bytes_uploaded=figures.bytes_uploaded or 0,
        problems=figures.problems or 0,
    )


def one_run(tx: Transaction, number: str | int) -> RunDetail:
    """Return a run with its report, its problems and the archives that it stored. `NotThereError`."""
    wanted = number_of(number, "the number of a run")
    run = None if wanted is None else find_run(tx, wanted)
    if run is None:
        raise NotThereError("there is no such run")
    snapshot = of_run(tx, run.number)
    problems = sorted(snapshot.problems, key=lambda problem: problem.path) if snapshot else []
    of = find_job(tx, run.job) if run.job else None
    earlier, later = queries.runs_beside(tx, run.number, of.number if of else None, run.kind)
    count, total = queries.sum_stored_by(tx, run.number)
    return RunDetail(
        line=run_line(run),
        report=run.report,
        unusual=unusual_in(tx, run),
        problems=[_problem(problem) for problem in problems[:_MOST_PROBLEMS]],
        problem_count=len(problems),
        snapshot=snapshot,
        previous_snapshot=_before(tx, snapshot),
        stored=[_stored(archive) for archive in queries.stored_by(tx, run.number, limit=_MOST_STORED)],
        stored_count=count,
        stored_bytes=total,
        log_command=f"journalctl NIGHTVAULT_RUN={run.number}",
        earlier=earlier,
        later=later,
    )


def _before(tx: Transaction, snapshot: Snapshot | None) -> str | None:
    """The id of the snapshot before one."""
    if snapshot is None:
        return None
    older, _ = kept_of(tx, snapshot.job_number).beside(snapshot.number)
    return older.id if older else None


def _problem(problem: Problem) -> ProblemLine:
    return ProblemLine(Name(problem.path), str(problem.kind), problem.detail, problem.is_warning)


def _stored(row: StoredRow) -> StoredLine:
    return StoredLine(
        number=row.number,
        kind=PackKind(row.kind).name.lower(),
        state=row.state,
        size=row.size,
        archive_id=row.archive_id,
        stored_at=None if row.stored_at is None else moment(row.stored_at),
    )


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


async def show_runs(request: Request) -> Response:
    """Show runs, newest first, filtered by job, kind and outcome."""
    context, asked = context_of(request), Parameters(request)
    found = await context.reading.view(
        run_page,
        job=asked.text("job"),
        kind=asked.text("kind"),
        outcome=asked.text("outcome"),
        before=asked.text("before"),
    )
    return await framed(
        request,
        "runs.html",
        here="runs",
        it=found,
        jobs=[job.name for job in context.config.jobs],
        kinds=list(RunKind),
        outcomes=list(Outcome),
    )


async def show_run(request: Request) -> Response:
    """Show one run with all details."""
    context = context_of(request)
    found = await context.reading.view(one_run, str(request.path_params["number"]))
    return await framed(request, "run.html", here="runs", it=found, report=list(report_rows(found.report)))


RUNS = (Route("/runs", show_runs, name="runs"), Route("/runs/{number}", show_run, name="run"))
