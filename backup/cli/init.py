"""`nightvault init`: everything a server needs before its first backup."""

from __future__ import annotations

import os
import sys

import click

from backup.cli.context import Cli, pass_cli
from backup.cli.keyfiles import read_passphrase_file, write_key_file
from backup.errors import UsageError


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
@click.option("--no-vaults", is_flag=True, help="Do not make the vaults; they are there or come later.")
@pass_cli
def init(
    cli: Cli,
    recipients: tuple[str, ...],
    key_file: str | None,
    passphrase_file: str | None,
    non_interactive: bool,
    no_vaults: bool,
) -> None:
    """Make state directory, inventory, chunk secret, signer and vaults; run it again at will.

    A recovery key is made unless the config or --recipient names a recipient. It alone opens what is backed
    up: it is written to --key-file or shown once, and kept nowhere on this server.
    """
    from backup.app.runs import recipients_of
    from backup.app.setup import create_vaults, initialise
    from backup.format.keys import Recipient, RecoveryKey

    config = cli.config()
    key = None
    given = tuple(Recipient.from_text(text) for text in recipients)
    if not given and not recipients_of(config):
        if key_file is None and (non_interactive or cli.json):
            raise UsageError(
                "where is the new recovery key to go?", advice="give --key-file FILE, or --recipient nvr1…"
            )
        key = RecoveryKey.from_seed(os.urandom(32))
        given = (key.recipient,)
        if key_file is not None:
            write_key_file(key_file, key, read_passphrase_file(passphrase_file))
    made = initialise(config, given, key, cli.clock)
    if key is not None and key_file is None:
        _show_once(cli, key.to_text())
    vaults = [] if no_vaults else create_vaults(config, cli.clock)
    document = {
        "created": made.created,
        "inventory": made.inventory_id.hex(),
        "signer": made.signer_fingerprint,
        "recipients": [one.id.hex() for one in made.recipients],
        "enrolled": made.enrolled,
        "vaults": vaults,
        "key_file": key_file if key is not None else None,
    }
    lines = [
        f"inventory {made.inventory_id.hex()} {'made' if made.created else 'found'} in {config.state_dir}",
        f"signer {made.signer_fingerprint}, enrolled by {made.enrolled} of {len(made.recipients)} recipients",
    ]
    if key is not None and key_file is not None:
        lines.append(f"the recovery key is in {key_file}: take it off this server, and keep it in two places")
    if vaults:
        lines.append(f"vaults ready: {', '.join(vaults)}")
    cli.show(document, "\n".join(lines))
    if made.enrolled < len(made.recipients):
        cli.say("next: `nightvault key request` here, `nightvault key enroll` where the recovery key is")
    else:
        cli.say("next: `nightvault backup`")


def _show_once(cli: Cli, text: str) -> None:
    cli.show(None, "\nThe recovery key. It is shown this once, and without it nothing can be restored:\n")
    cli.show(None, f"    {text}\n")
    if sys.stdin.isatty():
        while not cli.confirm("Did you write it down, in two places off this server?"):
            cli.warn("take your time")
