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
@click.option(
    "--legal-hold",
    is_flag=True,
    help="Nobody deletes what they need, until `unpin --legal-hold`; in a bucket.",
)
@job_option
@pass_cli
def pin(
    cli: Cli, words: tuple[str, ...], note: str, until: str | None, legal_hold: bool, job: str | None
) -> None:
    """Keep snapshots: no policy forgets them, and `forget` refuses them.

    A pin replaces the one before. Its note is stored in the vault, sealed.

    With --legal-hold S3 deletes what restoring them needs for nobody, without an end: their packs, the newest
    catalogs that tell of them, the vault's identity. That goes with your own AWS keys (in the environment, or
    ~/.aws), never with a role of the config: `nightvault aws policy --only legal-hold` prints what they need.
    """
    from backup.app.retention.marking import pinning
    from backup.cli.options.moments import parse_until

    ends = None if until is None else parse_until(until, cli.clock.now(), cli.say)
    if ends is not None and ends <= cli.clock.now():
        raise UsageError(f"--until {until} is past, so it would keep nothing")
    if ends is not None and legal_hold:
        raise UsageError("--until ends a pin, and a legal hold has no end: a person ends it")
    holds = True if legal_hold else None
    mark_snapshots(cli, words, pinning(checked_note(note), ends), job=job, holds=holds)
