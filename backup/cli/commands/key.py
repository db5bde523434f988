"""`nightvault key`: recovery keys, and enrolling this server's signer."""

from __future__ import annotations

import json
import os
from contextlib import closing

import click

from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.keyfiles import read_key, read_passphrase_file, write_key_file
from backup.errors import UsageError

_MOST_CHARACTERS = 64 * 1024  # of what `key request` and `key enroll` print

passphrase_option = click.option(
    "--passphrase-file", metavar="FILE", help="The file with the key file's passphrase."
)


@click.group()
def key() -> None:
    """Recovery keys, and enrolling this server's signer.

    The recovery key opens every backup and is kept off the servers. Enrolment lets it tell genuine catalogs
    from forged ones: `key request` on the server, `key enroll` where the key is, `key accept` on the server.
    """


@key.command()
@click.option("--out", required=True, metavar="FILE", help="The key file (0600); never written over.")
@passphrase_option
@pass_cli
def generate(cli: Cli, out: str, passphrase_file: str | None) -> None:
    """Make a recovery key; do this off the server, and give the server the recipient."""
    from backup.format.keys import RecoveryKey

    made = RecoveryKey.from_seed(os.urandom(32))
    write_key_file(out, made, read_passphrase_file(passphrase_file))
    recipient = made.recipient
    document = {"key_file": out, "id": recipient.id.hex(), "recipient": recipient.to_text()}
    cli.show(document, recipient.to_text())
    cli.say(f"the recovery key is in {out}; keep it in two places, off the servers")
    cli.say("the line above is its recipient: put it into [encryption] recipients of the server's config")


@key.command()
@click.argument("file", metavar="FILE")
@passphrase_option
@pass_cli
def show(cli: Cli, file: str, passphrase_file: str | None) -> None:
    """Print the recipient of a recovery key; the key itself is not shown."""
    recipient = read_key(file, passphrase_file).recipient
    cli.show({"id": recipient.id.hex(), "recipient": recipient.to_text()}, recipient.to_text())
    cli.say(f"id {recipient.id.hex()}")


@key.command()
@pass_cli
def request(cli: Cli) -> None:
    """Print what `key enroll` needs; it holds no secret."""
    from backup.app.opened import opened
    from backup.app.setup import enrolment_request

    config = cli.config()
    with closing(opened(config)) as inventory:
        document = enrolment_request(config, inventory)
    cli.show(document, json.dumps(document))
    cli.say("next: save the line, and run `nightvault key enroll FILE --key KEYFILE` where the key is")


@key.command()
@click.argument("file", metavar="REQUEST")
@click.option("--key", "key_file", metavar="FILE|-", help="The recovery key.")
@passphrase_option
@pass_cli
def enroll(cli: Cli, file: str, key_file: str | None, passphrase_file: str | None) -> None:
    """Enrol a server's signer; prints what `key accept` needs, which holds no secret."""
    from backup.app.setup import enrol

    document = enrol(_read(file), read_key(key_file, passphrase_file))
    cli.show(document, json.dumps(document))
    cli.say("next: save the line, and run `nightvault key accept FILE` on the server")


@key.command()
@click.argument("file", metavar="ENROLMENT")
@pass_cli
def accept(cli: Cli, file: str) -> None:
    """Keep an enrolment by a recovery key; every catalog carries it from now on."""
    from backup.app.opened import opened
    from backup.app.setup import accept as keep

    config = cli.config()
    with closing(opened(config)) as inventory:
        recipient = keep(_read(file), config, inventory)
    cli.show({"recipient": recipient.hex()}, f"recipient {recipient.hex()} vouches for this signer")


@key.command()
@pass_cli
def status(cli: Cli) -> None:
    """Show the recipients, which of them have enrolled this signer, and packs that need other keys."""
    from backup.app.opened import opened
    from backup.app.runs import read_keys
    from backup.cli.support.render import counted, size, table
    from backup.inventory.domains import older_packs

    config = cli.config()
    with closing(opened(config)) as inventory:
        keys = read_keys(config, inventory)
        enrolled = dict(keys.enrolments)
        with inventory.reading() as tx:
            older = older_packs(tx, {one.id for one in keys.recipients})
        rows = [(one.id.hex(), one.id in enrolled) for one in keys.recipients]
        document = {
            "inventory": inventory.id.hex(),
            "signer": keys.signer.fingerprint.hex(),
            "recipients": [{"id": name, "enrolled": known} for name, known in rows],
            "older_packs": [
                {
                    "sealed_for": sorted(each.hex() for each in one.recipients),
                    "packs": one.packs,
                    "bytes": one.bytes,
                }
                for one in older
            ],
        }
    cli.show(
        document, table(["recipient", "enrolled"], [(name, "yes" if known else "no") for name, known in rows])
    )
    cli.say(f"inventory {document['inventory']}\nsigner    {document['signer']}")
    for one in older:
        whom = " or ".join(sorted(each.hex() for each in one.recipients))
        packs = f"{counted(one.packs, 'older pack')}, {size(one.bytes)}"
        cli.say(f"{packs}: not sealed for all of today's recipients; they need the recovery key of {whom}")


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_MOST_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text"
        raise UsageError(f"cannot read {path}: {reason}") from error
    if len(text) > _MOST_CHARACTERS:
        raise UsageError(f"{path} is far too large", advice="give the file as nightvault printed it")
    return text
