"""`nightvault version`: prints the version alone, as AWS's helper does."""

from __future__ import annotations

import click

from backup import __version__
from backup.cli.support.context import Cli, pass_cli

EXAMPLES = {"version": ("nightvault version", "nightvault version --json")}


@click.command()
@pass_cli
def version(cli: Cli) -> None:
    """Print the version."""
    cli.show({"version": __version__}, __version__)
