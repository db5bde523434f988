"""`nightvault runs`: the runs and their outcomes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from backup.cli.options.snapshot_arguments import chosen_job, job_option
from backup.cli.support.context import Cli, pass_cli

if TYPE_CHECKING:
    from backup.cli.render.tables import Sheet
    from backup.inventory.records.runs import Run
    from backup.inventory.store.connections import Transaction
    from backup.model import JobName, Problem

    Problems = Mapping[int, Sequence[Problem]]

EXAMPLES = {"runs": ("nightvault runs", "nightvault runs --job etc --limit 5")}

_LINES = 10
"""So many lines below the table tell of problems, of all partial runs together."""
_LINES_OF_A_RUN = 5


@click.command()
@job_option
@click.option(
    "--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True, help="The most runs to show."
)
@pass_cli
def runs(cli: Cli, job: str | None, limit: int) -> None:
    """List runs, newest first.

    A run that is `dead` was killed, or ended by a power cut: the next backup records that, and what the run
    stored is not lost. A check that is `running` may wait for its vault.
    """
    from rich.console import Group

    from backup.app.base.opened import opened
    from backup.cli.render.render import printable
    from backup.inventory.records.ended_runs import is_dead
    from backup.inventory.records.runs import list_runs
    from backup.inventory.store.holders import held_locks

    config = cli.config()
    before = held_locks(config.state_dir)  # a run that ends, or begins, while we look is not dead
    with closing(opened(config)) as inventory, inventory.reading() as tx:
        found = list_runs(tx, limit=limit, job=chosen_job(config, tx, job))
        partial = _partial_backups(found)
        told = found if cli.json else partial[:_LINES]
        problems = _problems(tx, told)
    after = held_locks(config.state_dir)
    held = None if before is None or after is None else before | after
    dead = {run.number for run in found if is_dead(run, held)}
    if cli.json:
        cli.show([_document(run, dead, problems) for run in found])
        return
    errors = [f"run {run.number}: {run.error}" for run in found if run.error is not None]
    lines = [*errors, *_problem_lines(partial, problems), *_current_warnings(found)]
    cli.show(None, Group(_table(found, dead), *map(printable, lines)) if found else "nothing was run yet")


def _problems(tx: Transaction, told: Sequence[Run]) -> Problems:
    if not told:
        return {}
    from backup.inventory.content.snapshots import problems_of_runs

    return problems_of_runs(tx, [run.number for run in told])


def _document(run: Run, dead: set[int], problems: Problems) -> dict[str, Any]:
    from backup.cli.render.problems import problem_document

    return {
        "run": run.number,
        "kind": run.kind,
        "job": run.job,
        "outcome": str(run.outcome),
        "dead": run.number in dead,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "report": run.report,
        "problems": [problem_document(problem) for problem in problems.get(run.number, ())],
    }


def _table(found: Sequence[Run], dead: set[int]) -> Sheet:
    from backup.cli.render.render import duration, local_time, size, table
    from backup.cli.render.tables import Column

    rows: list[tuple[object, ...]] = []
    for run in found:
        sent = run.figures.bytes_uploaded
        took = (run.finished_at - run.started_at).total_seconds() if run.finished_at else None
        rows.append(
            (
                run.number,
                run.kind,
                run.job,
                "dead" if run.number in dead else str(run.outcome),
                local_time(run.started_at),
                duration(took) if took is not None else None,
                run.figures.files,
                size(sent) if sent is not None else None,
            )
        )
    numbers = [Column(title, right=True, rank=1) for title in ("took", "files", "uploaded")]
    named = [Column("run", right=True), "kind", Column("job", least=8), "outcome", "began"]
    return table([*named, *numbers], rows)


def _partial_backups(found: Sequence[Run]) -> list[Run]:
    from backup.kinds import Outcome, RunKind

    return [run for run in found if run.kind is RunKind.BACKUP and run.outcome is Outcome.PARTIAL]


def _problem_lines(partial: Sequence[Run], problems: Problems) -> Iterator[str]:
    """Lines with what the newest partial backups could not save, a few each, and how many are left out."""
    from backup.cli.render.problems import problem_lines
    from backup.cli.render.render import counted

    left = _LINES
    for place, run in enumerate(partial):
        if left <= 0 or place == _LINES:
            untold = counted(len(partial) - place, "older partial backup")
            yield f"… and {untold}; --json has what they could not save"
            return
        unsaved = [problem for problem in problems.get(run.number, ()) if not problem.is_warning]
        lines = problem_lines(
            sorted(unsaved, key=lambda problem: problem.path), most=min(left, _LINES_OF_A_RUN)
        )
        yield from (f"run {run.number}: {line}" for line in lines)
        left -= len(lines)


def _current_warnings(found: Sequence[Run]) -> Iterator[str]:
    """The warnings of each job's newest backup; those of older ones may no longer hold."""
    from backup.kinds import RunKind

    seen: set[JobName | None] = set()
    for run in found:
        if run.kind is RunKind.BACKUP and run.job not in seen and "warnings" in run.report:
            seen.add(run.job)
            yield from (f"run {run.number}: warning: {text}" for text in run.warnings)
