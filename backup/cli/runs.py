"""`nightvault runs`: what was run, and how it ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from backup.cli.context import Cli, pass_cli
from backup.cli.snapshots import job_option
from backup.model import JobName

if TYPE_CHECKING:
    from backup.inventory.runs import Run


@click.command()
@job_option
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@pass_cli
def runs(cli: Cli, job: str | None, limit: int) -> None:
    """List runs, newest first. One that is `running` and is not was cut off: the next backup settles it."""
    from rich.console import Group

    from backup.app.runs import opened
    from backup.cli.render import Column, duration, local_time, printable, size, table
    from backup.inventory.runs import list_runs

    with closing(opened(cli.config())) as inventory, inventory.reading() as tx:
        found = list_runs(tx, limit=limit, job=JobName(job) if job else None)
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
                str(one.outcome),
                local_time(one.started_at),
                duration(took) if took is not None else None,
                one.report.get("files"),
                size(sent) if sent is not None else None,
            )
        )
    numbers = [Column(title, right=True) for title in ("took", "files", "uploaded")]
    columns: list[Column | str] = [Column("run", right=True), "kind", "job", "outcome", "began", *numbers]
    errors = [f"run {one.number}: {one.report['error']}" for one in found if "error" in one.report]
    text = Group(table(columns, rows), *(printable(line) for line in [*errors, *_standing(found)]))
    cli.show(documents, text if rows else "nothing was run yet")


def _standing(found: Sequence[Run]) -> Iterator[str]:
    """The warnings of each job's newest backup: what was true of older ones may be mended."""
    seen: set[JobName | None] = set()
    for one in found:
        if one.kind == "backup" and one.job not in seen and "warnings" in one.report:
            seen.add(one.job)
            yield from (f"run {one.number}: warning: {text}" for text in one.report["warnings"])
