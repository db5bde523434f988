"""The views of runs, in pages, and of one run with all details."""

from __future__ import annotations

from backup.app.status.unusual import unusual_in
from backup.inventory.content.snapshots import Snapshot, of_run
from backup.inventory.pages import run_pages as queries
from backup.inventory.pages.run_pages import RunRow, StoredRow
from backup.inventory.pages.snapshot_pages import KeptSnapshots, kept_by_job
from backup.inventory.records.runs import Outcome, RunKind, find_job, find_run
from backup.inventory.store.connections import Transaction
from backup.inventory.store.times import moment
from backup.model import JobName, PackKind, Problem, VaultName
from backup.web.views.errors import NotThereError
from backup.web.views.parameters import choice_of, number_of
from backup.web.views.rows import snapshot_line, the_job
from backup.web.views.values.names import Name
from backup.web.views.values.runs import ProblemLine, RunDetail, RunLine, RunPage, StoredLine

A_PAGE = 50
_MOST_PROBLEMS, _MOST_STORED = 1_000, 200


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
    rows = queries.run_rows(
        tx,
        job=of.number if of else None,
        kind=one_kind,
        outcome=one_outcome,
        before=below,
        limit=A_PAGE + 1,
    )
    shown = [run_line(row) for row in rows[:A_PAGE]]
    return RunPage(
        runs=shown,
        job=of.name if of else None,
        kind=one_kind,
        outcome=one_outcome,
        is_first=below is None,
        next_before=shown[-1].number if len(rows) > A_PAGE else None,
    )


def run_line(row: RunRow) -> RunLine:
    """Return a run as a line of a list."""
    began = moment(row.started_at)
    ended = None if row.finished_at is None else moment(row.finished_at)
    return RunLine(
        number=row.number,
        kind=RunKind(row.kind),
        job=JobName(row.job) if row.job else None,
        vault=VaultName(row.vault) if isinstance(row.vault, str) else None,
        outcome=Outcome(row.outcome),
        started_at=began,
        finished_at=ended,
        seconds=None if ended is None else max(0.0, (ended - began).total_seconds()),
        error=row.error if isinstance(row.error, str) else None,
        files_read=_whole(row.files_read),
        bytes_read=_whole(row.bytes_read),
        bytes_uploaded=_whole(row.bytes_uploaded),
        problems=_whole(row.problems),
    )


def _whole(value: object) -> int:
    """A figure of a report, which may lack it; of a list of problems (as text) it is not known."""
    return value if isinstance(value, int) else 0


def one_run(tx: Transaction, number: str | int) -> RunDetail:
    """Return a run with its report, its problems and the archives that it stored. `NotThereError`."""
    wanted = number_of(number, "the number of a run")
    run = None if wanted is None else find_run(tx, wanted)
    row = None if wanted is None else queries.one_row(tx, wanted)
    if run is None or row is None:
        raise NotThereError("there is no such run")
    snapshot = of_run(tx, run.number)
    problems = sorted(snapshot.problems, key=lambda problem: problem.path) if snapshot else []
    of = find_job(tx, run.job) if run.job else None
    earlier, later = queries.runs_beside(tx, run.number, of.number if of else None, run.kind)
    count, total = queries.sum_stored_by(tx, run.number)
    return RunDetail(
        line=run_line(row),
        report=run.report,
        unusual=unusual_in(tx, run),
        problems=[_problem(problem) for problem in problems[:_MOST_PROBLEMS]],
        problem_count=len(problems),
        snapshot=snapshot_line(snapshot) if snapshot else None,
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
    older, _ = (
        kept_by_job(tx, snapshot.job_number)
        .get(snapshot.job_number, KeptSnapshots([]))
        .beside(snapshot.number)
    )
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
