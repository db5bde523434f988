"""`nightvault unpin`: let the policy decide on snapshots again."""

from __future__ import annotations

import click

from backup.cli.maintenance.marks_output import mark_snapshots
from backup.cli.options.snapshot_arguments import job_option
from backup.cli.support.context import Cli, pass_cli

EXAMPLES = {"unpin": ("nightvault unpin latest", "nightvault unpin 9d4e6f01 3b71c85a")}


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="SNAPSHOT...")
@click.option("--legal-hold", is_flag=True, help="End the legal hold of what they need, too.")
@job_option
@pass_cli
def unpin(cli: Cli, words: tuple[str, ...], legal_hold: bool, job: str | None) -> None:
    """Let the policy decide on snapshots again.

    A legal hold stays without --legal-hold, which goes with your own AWS keys, as `pin --legal-hold` does.
    What is held for another snapshot, too, stays held.
    """
    from backup.app.retention.marking import unpinning

    mark_snapshots(cli, words, unpinning, job=job, holds=False if legal_hold else None)
