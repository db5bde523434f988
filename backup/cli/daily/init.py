"""`nightvault init`: sets up everything that a server needs before its first backup."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.keyfiles import read_passphrase_file, write_key_file
from backup.errors import FormatError, UsageError

if TYPE_CHECKING:
    from backup.app.rebuilds.setup import Installation
    from backup.config import Config
    from backup.format.keys import Recipient, RecoveryKey

EXAMPLES = {
    "init": (
        "nightvault init --key-file recovery.key  # makes the recovery key, too",
        "nightvault init --recipient nvr1…  # the key was made on another machine",
    )
}


@click.command()
@click.option(
    "--recipient",
    "recipients",
    multiple=True,
    metavar="nvr1…",
    help="Seal for this recipient instead of making a key.",
)
@click.option(
    "--key-file", metavar="FILE", help="Write the new recovery key here (0600); take it off the server."
)
@click.option("--passphrase-file", metavar="FILE", help="Protect the key file with this passphrase.")
@click.option("--non-interactive", is_flag=True, help="Ask nothing; fail where an answer is needed.")
@click.option("--no-vaults", is_flag=True, help="Do not create the vaults.")
@click.option(
    "--new-history",
    is_flag=True,
    help="Begin a new history even where a vault holds backups, of this server or another.",
)
@pass_cli
def init(
    cli: Cli,
    recipients: tuple[str, ...],
    key_file: str | None,
    passphrase_file: str | None,
    non_interactive: bool,
    no_vaults: bool,
    new_history: bool,
) -> None:
    """Make state directory, inventory, chunk secret, signer and vaults; run it again at will.

    A recovery key is made unless the config or --recipient names a recipient. It alone opens what is backed
    up: it is written to --key-file or shown once, and kept nowhere on this server.

    Where a vault holds backups already, it stops: a server that lost its state runs `nightvault rebuild`.
    """
    from backup.app.rebuilds.occupied_vaults import has_inventory, refuse_occupied
    from backup.app.rebuilds.setup import initialise

    config = cli.config()
    is_there = has_inventory(config)
    given = _recipients(config, recipients)
    if passphrase_file is not None and key_file is None:
        raise UsageError("--passphrase-file protects a key file", advice="give --key-file FILE, too")
    if not given and key_file is None and not _a_person_reads(cli, asks=not non_interactive):
        raise UsageError(
            "where is the new recovery key to go?", advice="give --key-file FILE, or --recipient nvr1…"
        )
    if not (is_there or new_history):
        refuse_occupied(config, cli.clock, unknown=cli.warn if no_vaults else None)
    made = initialise(config, given, None, cli.clock)
    new_key = None if given else _new_key(cli, key_file, passphrase_file)
    created = made.created
    if new_key is not None:
        made = initialise(config, (new_key.recipient,), new_key, cli.clock)
    written = key_file if new_key is not None else None
    if not cli.json:
        _tell_installation(cli, config, made, created=created, written=written)
    if new_key is None and key_file is not None:
        cli.say("no recovery key was made: this server has its recipients already")
    vaults = [] if no_vaults else _make_vaults(cli, config)
    document = {
        "created": created,
        "inventory": made.inventory_id.hex(),
        "signer": made.signer_fingerprint,
        "recipients": [recipient.id.hex() for recipient in made.recipients],
        "enrolled": made.enrolled,
        "vaults": vaults,
        "key_file": written,
    }
    cli.report(document, f"vaults ready: {', '.join(vaults)}" if vaults else None, wraps=True)
    _propose_policy(cli, config)
    if made.enrolled < len(made.recipients):
        cli.say("next: `nightvault key request` here, `nightvault key enroll` where the recovery key is,")
        cli.say("      `nightvault key accept` here; backups can begin before that: `nightvault backup`")
    elif not all(map(config.not_set_up, config.vaults)):
        cli.say("next: `nightvault backup`")


def _make_vaults(cli: Cli, config: Config) -> list[str]:
    """Make the vaults that are set up; the names of these."""
    from backup.app.rebuilds.setup import create_vaults

    made = create_vaults(config, cli.clock)
    for settings in config.vaults:
        if told := config.not_set_up(settings):
            cli.warn(f"warning: {told}; give `nightvault init` again once it is")
    return made


def _propose_policy(cli: Cli, config: Config) -> None:
    """Propose a policy if no job has one: without, nothing is ever forgotten, and the bill grows."""
    from backup.config import proposed_lines

    if config.jobs and not any(job.policy for job in config.jobs):
        cli.say("no job has a policy, so all snapshots are kept; below a [[job]] this one is right for most:")
        cli.say("    [job.retention]\n    " + "\n    ".join(proposed_lines()))


def _recipients(config: Config, texts: tuple[str, ...]) -> tuple[Recipient, ...]:
    """The recipients to seal for: those chosen before, else those given now; may be empty. `UsageError`."""
    from backup.app.backups.contexts import recipients_of
    from backup.app.base.state import parse_recipients

    known = parse_recipients(recipients_of(config))
    try:
        given = parse_recipients(texts)
    except FormatError as error:
        raise UsageError(f"--recipient: {error}", advice=error.advice) from error
    if known and given and given != known:
        raise UsageError(
            "this server seals for other recipients already: "
            + ", ".join(recipient.id.hex() for recipient in known),
            advice=f"to change them, name all of them in [encryption] recipients of {config.path}",
        )
    return known or given


def _a_person_reads(cli: Cli, *, asks: bool) -> bool:
    """Whether a person sees the key when it is shown once, and no log keeps it."""
    return asks and not cli.json and sys.stdin.isatty() and sys.stdout.isatty()


def _new_key(cli: Cli, key_file: str | None, passphrase_file: str | None) -> RecoveryKey:
    """A new recovery key that somebody keeps, in its file or on paper: only then is it sealed for."""
    from backup.format.keys import RecoveryKey

    key = RecoveryKey.from_seed(os.urandom(32))
    if key_file is not None:
        write_key_file(key_file, key, read_passphrase_file(passphrase_file))
        return key
    cli.show(None, "The recovery key. It is shown this once, and without it nothing can be restored:\n")
    cli.show(None, f"    {key.to_text()}\n")
    while not cli.confirm("Did you write it down, in two places off this server?", option=None):
        cli.warn("take your time")
    return key


def _tell_installation(
    cli: Cli, config: Config, made: Installation, *, created: bool, written: str | None
) -> None:
    from backup.cli.render.render import counted

    inventory = f"inventory {made.inventory_id.hex()} {'made' if created else 'found'} in {config.state_dir}"
    enrolled = f"enrolled by {made.enrolled} of {counted(len(made.recipients), 'recipient')}"
    cli.report(None, f"{inventory}\nsigner {made.signer_fingerprint}, {enrolled}")
    if written is not None:
        cli.report(
            None, f"the recovery key is in {written}: take it off this server, and keep it in two places"
        )
