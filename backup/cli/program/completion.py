"""`nightvault completion`: the script that lets a shell complete commands, jobs, snapshots and paths."""

from __future__ import annotations

import click

from backup.cli.support.context import Cli, pass_cli

EXAMPLES = {
    "completion": (
        "nightvault completion bash > /etc/bash_completion.d/nightvault",
        "nightvault completion zsh > ~/.zfunc/_nightvault",
    )
}


@click.command()
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
@pass_cli
def completion(cli: Cli, shell: str) -> None:
    """Print the script that lets SHELL (bash, zsh or fish) complete words.

    It completes commands, options and files, and from the config and the inventory jobs, vaults, snapshots
    and the paths in them. It only reads, and completes nothing where it may not.
    """
    from backup.cli.support.shells import script_for

    script = script_for(shell)
    cli.show({"shell": shell, "script": script}, script.rstrip("\n"))
