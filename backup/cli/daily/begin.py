"""`nightvault begin`: asks what to back up and where to, writes the config, makes the first backup."""

from __future__ import annotations

import click

from backup.cli.support.context import Cli, pass_cli

EXAMPLES = {
    "begin": (
        "nightvault begin",
        "nightvault begin --answers answers.toml --dry-run  # what would be written",
    )
}


@click.command()
@click.option("--answers", "answers_file", metavar="FILE", help="Ask nothing: answers by name, in TOML.")
@click.option("--dry-run", is_flag=True, help="Print the config that follows; write and run nothing.")
@click.pass_context
@pass_cli
def begin(cli: Cli, context: click.Context, answers_file: str | None, *, dry_run: bool) -> int:
    """Write a first config by questions: what, where to, when, how long, and whom to tell.

    Each question has a default (Enter), help (?) and a way back (<). At the end the config and the commands
    are shown; only then it is written, and they are run: `init`, the first backup, a restore of one file.
    For AWS it says which commands follow on which machine, or runs `setup aws` where an admin's
    credentials are.

    A config that is there is never written over.
    """
    from backup.cli.begin.conduct import begin as conduct

    return conduct(cli, context.find_root().command, answers_file, dry_run=dry_run)
