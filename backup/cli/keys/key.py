"""`nightvault key`: recovery keys, and enrolling this server's signer."""

from __future__ import annotations

import json
import os
from contextlib import closing
from typing import TYPE_CHECKING

import click

from backup.cli.keys.enrolling import (
    MANY,
    ONE,
    confirm_key,
    read_text,
    require_heir,
    require_yes,
    show_request,
    whose_lines,
    write_enrolments,
)
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.keyfiles import read_key, read_passphrase_file, write_key_file
from backup.errors import UsageError

if TYPE_CHECKING:
    from backup.app.rebuilds.enrolling import Enrolment
    from backup.format.enrolment import EnrolmentKey
    from backup.inventory.content.domains import OlderPacks

EXAMPLES = {
    "key generate": (
        "nightvault key generate --out recovery.key",
        "nightvault key generate --out recovery.key --passphrase-file words.txt",
    ),
    "key show": ("nightvault key show recovery.key", "nightvault key show recovery.key --json"),
    "key request": ("nightvault key request > request.txt", "nightvault key request --json"),
    "key enroll": (
        "nightvault key enroll request.txt --key recovery.key > enrolment.txt",
        "nightvault key enroll --requests all.txt --out out.txt --key recovery.key",
    ),
    "key accept": ("nightvault key accept enrolment.txt", "nightvault key accept -"),
    "key status": ("nightvault key status", "nightvault key status --json"),
}

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
    """Print the recipient of a recovery key, and what verifies its enrolments; the key is not shown."""
    from backup.format.enrolment import enrolment_key

    read = read_key(file, passphrase_file)
    recipient, verifies = read.recipient, enrolment_key(read)
    document = {"id": recipient.id.hex(), "recipient": recipient.to_text(), **_of_key(verifies)}
    cli.show(document, recipient.to_text())
    cli.say(f"id {recipient.id.hex()}\nenrolment key {verifies.fingerprint}")


@key.command()
@pass_cli
def request(cli: Cli) -> None:
    """Print what `key enroll` needs; it holds no secret."""
    from backup.app.base.opened import opened
    from backup.app.rebuilds.enrolling import make_request

    config = cli.config()
    with closing(opened(config)) as inventory:
        made = make_request(config, inventory)
    document = made.document()
    cli.show(document, json.dumps(document))
    cli.say(whose_lines(made.inventory_id, made.fingerprint, made.ancestors))
    cli.say("next: save the line, and run `nightvault key enroll FILE --key KEYFILE` where the key is;")
    cli.say("      it shows the same, so that you see whether the request is this server's")


@key.command()
@click.argument("file", metavar="REQUEST", required=False)
@click.option("--key", "key_file", metavar="FILE|-", help="The recovery key.")
@passphrase_option
@click.option("--heir-of", metavar="ID", help="The server was rebuilt, and this inventory was it before.")
@click.option("--requests", metavar="FILE", help="Many requests, one on each line.")
@click.option("--out", metavar="FILE", help="Their enrolments' file, with --requests; never written over.")
@click.option("--yes", is_flag=True, help="Do not ask: inventory and signer were compared.")
@pass_cli
def enroll(
    cli: Cli,
    file: str | None,
    key_file: str | None,
    passphrase_file: str | None,
    heir_of: str | None,
    requests: str | None,
    out: str | None,
    *,
    yes: bool,
) -> None:
    """Enrol a server's signer; prints what `key accept` needs, which holds no secret.

    It shows which server is to be enrolled, and asks: compare that with `nightvault key status` on that
    server. A request that names ancestors, of a server that was rebuilt, wants `--heir-of`.
    """
    if (file is None) == (requests is None):
        raise UsageError("name one file with a request, or give --requests FILE for many")
    if (requests is None) != (out is None):
        raise UsageError("--requests and --out belong together")
    if requests is not None and out is not None:
        if heir_of is not None:
            raise UsageError("--heir-of is for one request", advice="enrol such a server alone")
        _enroll_all(cli, requests, out, key_file, passphrase_file, yes=yes)
    elif file is not None:
        _enroll_one(cli, file, key_file, passphrase_file, heir_of, yes=yes)


def _enroll_one(
    cli: Cli, file: str, key_file: str | None, passphrase_file: str | None, heir_of: str | None, *, yes: bool
) -> None:
    from backup.app.rebuilds.enrolling import Request, enrol

    asked = Request.from_text(read_text(file, ONE))
    show_request(cli, asked, asks=not yes)
    key_words = ("--key", key_file) if key_file is not None else ()
    passphrase_words = ("--passphrase-file", passphrase_file) if passphrase_file is not None else ()
    require_heir(asked, heir_of, ("nightvault", "key", "enroll", file, *key_words, *passphrase_words))
    made = enrol(asked, read_key(key_file, passphrase_file))
    require_yes(cli, "Does the server print the same, and is it to be enrolled?", yes=yes)
    document = made.document()
    cli.show(document, json.dumps(document))
    _say_key(cli, made)
    cli.say("next: save the line, and run `nightvault key accept FILE` on the server")


def _enroll_all(
    cli: Cli, file: str, out: str, key_file: str | None, passphrase_file: str | None, *, yes: bool
) -> None:
    from backup.app.rebuilds.enrolling import enrol_all, requests_in
    from backup.cli.render.render import counted

    asked = requests_in(read_text(file, MANY))
    for number, enrolment_request in asked.items():
        (cli.say if yes else cli.warn)(f"line {number}")
        show_request(cli, enrolment_request, asks=not yes)
    made = enrol_all(asked, read_key(key_file, passphrase_file))
    servers = counted(len(made), "server")
    require_yes(cli, f"Do they print the same, and are {servers} to be enrolled?", yes=yes)
    write_enrolments(out, made)
    whose = [
        {"inventory": enrolment_request.inventory_id.hex(), "signer": enrolment_request.fingerprint}
        for enrolment_request in asked.values()
    ]
    cli.report({"out": out, "enrolled": whose}, f"the enrolments of {servers} are in {out}")
    _say_key(cli, made[0])
    cli.say("next: copy the file to each server, and run `nightvault key accept FILE` there")


@key.command()
@click.argument("file", metavar="ENROLMENT")
@pass_cli
def accept(cli: Cli, file: str) -> None:
    """Keep an enrolment by a recovery key; every catalog carries it from now on.

    Of a file with the enrolments of many servers, one on each line, this server's is taken.
    """
    from backup.app.base.opened import opened
    from backup.app.rebuilds.enrolling import enrolment_for, keep

    config = cli.config()
    with closing(opened(config)) as inventory:
        found = enrolment_for(read_text(file, MANY), config, inventory)
        is_ours = found.ancestors == inventory.ancestors
        if is_ours:
            confirm_key(cli, config, found)
        keep(found, config, with_proof=is_ours)
    recipient = found.recipient.hex()
    signed = found.signed if is_ours else None
    document = {"recipient": recipient, "signed": signed is not None}
    done = f"the recovery key of recipient {recipient} has enrolled this server"
    cli.show(document | _of_key(signed.key if signed else None), done)
    if signed is not None:
        _say_key(cli, found)
    elif found.signed is not None:
        cli.warn("its proof of ancestors was not kept, as they are not those of this inventory: make a new")
        cli.warn("request here with `nightvault key request`, and have that enrolled")


@key.command()
@pass_cli
def status(cli: Cli) -> None:
    """Show the recipients, which of them have enrolled this signer, and packs that need other keys."""
    from backup.app.backups.contexts import read_keys
    from backup.app.base.opened import opened
    from backup.app.rebuilds.enrolling import proofs
    from backup.cli.render.render import table
    from backup.inventory.content.domains import older_packs

    config = cli.config()
    with closing(opened(config)) as inventory:
        keys, proven = read_keys(config, inventory), proofs(config, inventory)
        with inventory.reading() as tx:
            older = older_packs(tx, {recipient.id for recipient in keys.recipients})
    rows = [
        (recipient.id.hex(), recipient.id in dict(keys.enrolments), proven.get(recipient.id))
        for recipient in keys.recipients
    ]
    document = {
        "inventory": inventory.id.hex(),
        "signer": keys.signer.fingerprint.hex(),
        "ancestors": [ancestor.hex() for ancestor in inventory.ancestors],
        "recipients": [
            {"id": name, "enrolled": known, "signed": by is not None, **_of_key(by)}
            for name, known, by in rows
        ],
        "older_packs": [_older_document(domain) for domain in older],
    }
    cells = [(name, "yes" if known else "no", _in_words(known, by)) for name, known, by in rows]
    cli.show(document, table(["recipient", "enrolled", "enrolment key"], cells))
    cli.say(whose_lines(inventory.id, keys.signer.fingerprint.hex(), inventory.ancestors))
    for domain in older:
        cli.say(_older_text(domain))


def _in_words(known: bool, by: EnrolmentKey | None) -> str:
    return by.fingerprint if by is not None else "older: it proves no ancestors" if known else ""


def _of_key(found: EnrolmentKey | None) -> dict[str, str | None]:
    """An enrolment key in a document."""
    return {
        "enrolment_key": None if found is None else found.to_text(),
        "enrolment_fingerprint": None if found is None else found.fingerprint,
    }


def _say_key(cli: Cli, enrolment: Enrolment) -> None:
    if enrolment.signed is not None:
        cli.say(f"enrolment key of {enrolment.recipient.hex()}: {enrolment.signed.key.fingerprint}")


def _older_document(older: OlderPacks) -> dict[str, object]:
    return {
        "sealed_for": sorted(recipient.hex() for recipient in older.recipients),
        "packs": older.packs,
        "bytes": older.bytes,
    }


def _older_text(older: OlderPacks) -> str:
    from backup.cli.render.render import counted, size

    whom = " or ".join(sorted(recipient.hex() for recipient in older.recipients))
    packs = f"{counted(older.packs, 'older pack')}, {size(older.bytes)}"
    return f"{packs}: not sealed for all of today's recipients; they need the recovery key of {whom}"
