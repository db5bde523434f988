"""`nightvault unpin`: let the policy decide on snapshots again."""

from __future__ import annotations

import click

from backup.cli.maintenance.marks_output import mark_snapshots
from backup.cli.options.snapshot_arguments import job_option
from backup.cli.support.context import Cli, pass_cli

EXAMPLES = {"unpin": ("nightvault unpin latest", "nightvault unpin 9d4e6f01 3b71c85a")}


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="SNAPSHOT...")
@job_option
@pass_cli
def unpin(cli: Cli, words: tuple[str, ...], job: str | None) -> None:
    """Let the policy decide on snapshots again."""
    from backup.app.retention.marking import unpinning

    mark_snapshots(cli, words, unpinning, job=job)
