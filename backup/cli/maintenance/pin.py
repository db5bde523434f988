"""`nightvault pin`: keep snapshots whatever the policy says."""

from __future__ import annotations

import click

from backup.cli.maintenance.marks_output import checked_note, mark_snapshots
from backup.cli.options.snapshot_arguments import job_option
from backup.cli.support.context import Cli, pass_cli
from backup.errors import UsageError

EXAMPLES = {
    "pin": ("nightvault pin latest --note 'before the move'", "nightvault pin 9d4e6f01 --until 2030-12-31")
}


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="SNAPSHOT...")
@click.option("--note", metavar="TEXT", default="", help="Why; one line.")
@click.option("--until", metavar="TIME", help="The pin ends then: a day, a time, or a span such as 30d.")
@job_option
@pass_cli
def pin(cli: Cli, words: tuple[str, ...], note: str, until: str | None, job: str | None) -> None:
    """Keep snapshots: no policy forgets them, and `forget` refuses them.

    A pin replaces the one before. Its note is stored in the vault, sealed.
    """
    from backup.app.retention.marking import pinning
    from backup.cli.options.moments import parse_until

    ends = None if until is None else parse_until(until, cli.clock.now(), cli.say)
    if ends is not None and ends <= cli.clock.now():
        raise UsageError(f"--until {until} is past, so it would keep nothing")
    mark_snapshots(cli, words, pinning(checked_note(note), ends), job=job)
