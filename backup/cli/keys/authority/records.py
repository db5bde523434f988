"""`nightvault ca list`, `ca revoke`, `ca crl`: the authority's records."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backup.cli.keys.authority.unlock import (
    DAYS,
    directory_option,
    passphrase_option,
    present_passphrase,
    require_authority,
)
from backup.cli.support.context import Cli, pass_cli

if TYPE_CHECKING:
    from datetime import datetime

    from backup.pki.index import Head, IndexEntry

REASONS = (
    "unspecified",
    "key-compromise",
    "superseded",
    "cessation-of-operation",
    "affiliation-changed",
    "privilege-withdrawn",
)
_MONTH = 30


@click.command("list")
@directory_option
@click.option("--all", "every", is_flag=True, help="Expired certificates, too.")
@pass_cli
def list_issued(cli: Cli, directory: str, *, every: bool) -> None:
    """List the certificates that were issued, the next to expire first."""
    from backup.cli.render.tables import Column, Sheet
    from backup.pki.index import CertificateState, read_index
    from backup.pki.revoking import shown_serial

    require_authority(directory)
    index, now = read_index(directory), cli.clock.now()
    chosen = [entry for entry in index.entries if every or entry.state(now) is not CertificateState.EXPIRED]
    chosen.sort(key=lambda entry: entry.not_after)
    document = {
        "certificates": [entry_document(entry, now) for entry in chosen],
        "crl": _crl_document(index.head),
    }
    columns = [
        Column("name", least=16),
        Column("state"),
        Column("expires"),
        Column("subject", rank=2, least=20),
        Column("serial", least=12, rank=1),
    ]
    rows = [
        [entry.name, _state(entry, now), _day(entry.not_after), entry.subject, shown_serial(entry)]
        for entry in chosen
    ]
    cli.show(document, Sheet(columns, rows) if rows else "no certificate was issued that is valid now")
    if (until := index.head.crl_until) is not None:
        was = "ended" if until < now else "ends"
        cli.say(f"the newest revocation list (number {index.head.crl_number}) {was} on {_day(until)}")


@click.command()
@click.argument("which", metavar="NAME|SERIAL")
@directory_option
@click.option(
    "--reason", type=click.Choice(REASONS), default="unspecified", show_default=True, help="Why (RFC 5280)."
)
@click.option("--all", "every", is_flag=True, help="Each valid certificate of the server.")
@pass_cli
def revoke(cli: Cli, which: str, directory: str, reason: str, *, every: bool) -> None:
    """Mark a certificate as revoked; a list for AWS is signed by `ca crl`.

    A server's name, a serial as `ca list` shows it, or the first six digits of one or more.
    """
    from backup.pki.index import Reason
    from backup.pki.revoking import revoke as revoke_entries
    from backup.pki.revoking import shown_serial

    require_authority(directory)
    now = cli.clock.now()
    revoked = revoke_entries(directory, which, every=every, reason=Reason(reason), now=now)
    lines = [f"revoked      {entry.subject}, serial {shown_serial(entry)}" for entry in revoked]
    cli.show({"revoked": [entry_document(entry, now) for entry in revoked]}, "\n".join(lines))
    cli.say(f"AWS does not know it yet: run `nightvault ca crl --dir {directory}`, import the list")


@click.command()
@directory_option
@click.option(
    "--days",
    type=DAYS,
    default=_MONTH,
    show_default=True,
    help="How long the list is valid.",
)
@passphrase_option
@pass_cli
def crl(cli: Cli, directory: str, days: int, passphrase_file: str | None) -> None:
    """Sign a list of what is revoked, crl.pem in the authority's directory, to be imported into AWS.

    One for each root: crl-2.pem is of the second. Sign a new one before the last one ends.
    """
    from backup.pki.authority import open_root
    from backup.pki.index import read_index
    from backup.pki.revoking import LARGEST_CRL, sign_crls

    head, passphrase = read_index(directory).head, present_passphrase(directory, passphrase_file)
    roots = [open_root(directory, number, passphrase) for number in head.roots]
    written = sign_crls(roots, days=days, now=cli.clock.now())
    head = read_index(directory).head
    files = [
        {"root": crl_file.root, "file": crl_file.path, "certificates": crl_file.certificates}
        for crl_file in written
    ]
    lines = [
        f"list         {crl_file.path}: {_counted(crl_file.certificates)} revoked" for crl_file in written
    ]
    lines.append(f"number       {head.crl_number}, valid until {_day(head.crl_until)}")
    cli.show({"lists": files, **_crl_document(head)}, "\n".join(lines))
    for crl_file in written:
        if crl_file.size > LARGEST_CRL:
            cli.warn(f"{crl_file.path} has {crl_file.size} bytes; AWS takes {LARGEST_CRL} at most")
    cli.say("next: `nightvault setup aws --apply --ca … --crl …` gives it to AWS (docs/certificates.md)")


def entry_document(entry: IndexEntry, now: datetime) -> dict[str, object]:
    """Return an issued certificate as a JSON document."""
    from backup.pki.revoking import shown_serial

    return {
        "name": entry.name,
        "subject": entry.subject,
        "serial_hex": shown_serial(entry),
        "state": entry.state(now),
        "not_before": entry.not_before,
        "not_after": entry.not_after,
        "revoked_at": entry.revoked_at,
        "reason": entry.reason,
        "root": entry.root,
    }


def _crl_document(head: Head) -> dict[str, object]:
    return {"number": head.crl_number, "signed_at": head.crl_at, "valid_until": head.crl_until}


def _state(entry: IndexEntry, now: datetime) -> str:
    """The state in words."""
    reason = f" ({entry.reason})" if entry.reason not in {None, "unspecified"} else ""
    return f"{entry.state(now)}{reason}"


def _counted(number: int) -> str:
    return "1 certificate" if number == 1 else f"{number} certificates"


def _day(moment: datetime | None) -> str:
    """A time in this machine's zone."""
    return "" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M}"
