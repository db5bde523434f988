"""`nightvault tag`: give snapshots tags, or take them away."""

from __future__ import annotations

import click

from backup.cli.maintenance.marks_output import mark_snapshots
from backup.cli.options.keep_options import tags_of
from backup.cli.options.snapshot_arguments import job_option
from backup.cli.support.context import Cli, pass_cli
from backup.errors import UsageError

EXAMPLES = {"tag": ("nightvault tag latest --add release", "nightvault tag 9d4e6f01 --remove release,draft")}


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="SNAPSHOT...")
@click.option("--add", metavar="TAG[,TAG]", multiple=True, help="Add these.")
@click.option("--remove", metavar="TAG[,TAG]", multiple=True, help="Take these away.")
@click.option("--set", "instead", metavar="TAG[,TAG]", multiple=True, help="These and no others; '': none.")
@job_option
@pass_cli
def tag(
    cli: Cli,
    words: tuple[str, ...],
    add: tuple[str, ...],
    remove: tuple[str, ...],
    instead: tuple[str, ...],
    job: str | None,
) -> None:
    """Change the tags of snapshots; `snapshots --tag` and other commands choose by them.

    A policy can keep tagged snapshots (keep_tags). Tags are stored in the vault, sealed.
    """
    from backup.app.retention.marking import tagging

    if bool(instead) == bool(add or remove):
        raise UsageError("--set, or --add and --remove: which of the two?", advice="say one of them")
    change = tagging(
        add=_read("--add", add),
        remove=_read("--remove", remove),
        instead=_read("--set", instead) if instead else None,
    )
    mark_snapshots(cli, words, change, job=job)


def _read(option: str, values: tuple[str, ...]) -> list[str]:
    return [tag for value in values if value.strip() for tag in tags_of(option, value)]
