"""`nightvault runs`: the runs and their outcomes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.snapshot_arguments import job_option
from backup.model import JobName

if TYPE_CHECKING:
    from backup.inventory.runs import Run


@click.command()
@job_option
@click.option(
    "--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True, help="The most runs to show."
)
@pass_cli
def runs(cli: Cli, job: str | None, limit: int) -> None:
    """List runs, newest first.

    One that is `dead` was cut off, by a power cut or a kill: the next backup settles it, and what it stored
    is not lost. A check that is `running` may wait for its vault.
    """
    from rich.console import Group

    from backup.app.opened import opened
    from backup.cli.support.render import duration, local_time, printable, size, table
    from backup.cli.support.tables import Column
    from backup.inventory.holders import held_locks, is_dead
    from backup.inventory.runs import list_runs

    config = cli.config()
    before = held_locks(config.state_dir)  # a run that ends, or begins, while we look is not dead
    with closing(opened(config)) as inventory, inventory.reading() as tx:
        found = list_runs(tx, limit=limit, job=JobName(job) if job else None)
    after = held_locks(config.state_dir)
    held = None if before is None or after is None else before | after
    documents: list[dict[str, Any]] = []
    rows: list[tuple[object, ...]] = []
    for one in found:
        took = (one.finished_at - one.started_at).total_seconds() if one.finished_at else None
        documents.append(
            {
                "run": one.number,
                "kind": one.kind,
                "job": one.job,
                "outcome": str(one.outcome),
                "dead": is_dead(one, held),
                "started_at": one.started_at,
                "finished_at": one.finished_at,
                "report": one.report,
            }
        )
        sent = one.report.get("bytes_uploaded")
        rows.append(
            (
                one.number,
                one.kind,
                one.job,
                "dead" if is_dead(one, held) else str(one.outcome),
                local_time(one.started_at),
                duration(took) if took is not None else None,
                one.report.get("files"),
                size(sent) if sent is not None else None,
            )
        )
    numbers = [Column(title, right=True, rank=1) for title in ("took", "files", "uploaded")]
    named = [Column("run", right=True), "kind", Column("job", least=8), "outcome", "began"]
    columns: list[object] = [*named, *numbers]
    errors = [f"run {one.number}: {one.report['error']}" for one in found if "error" in one.report]
    text = Group(table(columns, rows), *(printable(line) for line in [*errors, *_current_warnings(found)]))
    cli.show(documents, text if rows else "nothing was run yet")


def _current_warnings(found: Sequence[Run]) -> Iterator[str]:
    """The warnings of each job's newest backup; those of older ones may no longer hold."""
    from backup.inventory.runs import RunKind

    seen: set[JobName | None] = set()
    for one in found:
        if one.kind is RunKind.BACKUP and one.job not in seen and "warnings" in one.report:
            seen.add(one.job)
            yield from (f"run {one.number}: warning: {text}" for text in one.report["warnings"])
