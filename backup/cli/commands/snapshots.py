"""`nightvault snapshots`: the list of snapshots, from the inventory alone."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.problems import problem_document
from backup.cli.support.snapshot_arguments import job_option
from backup.model import JobName

if TYPE_CHECKING:
    from backup.inventory.snapshots import Snapshot


@click.command()
@job_option
@pass_cli
def snapshots(cli: Cli, job: str | None) -> None:
    """List snapshots, oldest first."""
    from backup.app.runs import opened
    from backup.cli.support.render import local_time, shown_id, size, table
    from backup.cli.support.tables import Column
    from backup.inventory.snapshots import list_snapshots

    with closing(opened(cli.config())) as inventory, inventory.reading() as tx:
        found = list_snapshots(tx, job=JobName(job) if job else None)
    job_column, host = Column("job", least=12), Column("host", rank=1, least=8)
    right = [Column(title, right=True) for title in ("files", "size", "problems")]
    rows = [
        (
            shown_id(one.id),
            one.job,
            local_time(one.started_at),
            one.files,
            size(one.bytes),
            len(one.problems) or None,
            one.host,
        )
        for one in found
    ]
    text = table(["snapshot", job_column, "time", *right, host], rows) if found else "no snapshots yet"
    cli.show([snapshot_document(one) for one in found], text)


def snapshot_document(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as JSON."""
    from backup.cli.support.render import path_document

    problems = [problem_document(one) for one in snapshot.problems]
    return {
        "id": snapshot.id,
        "job": snapshot.job,
        "started_at": snapshot.started_at,
        "finished_at": snapshot.finished_at,
        "host": snapshot.host,
        "sources": [path_document(source) for source in snapshot.sources],
        "files": snapshot.files,
        "bytes": snapshot.bytes,
        "problems": problems,
    }
