"""`nightvault ca`: a small certificate authority, best kept on another machine than the servers."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from backup.cli.keys.authority.records import crl, list_issued, revoke
from backup.cli.keys.authority.roots import renew_root
from backup.cli.keys.authority.unlock import (
    DAYS,
    directory_option,
    new_passphrase,
    open_authority,
    passphrase_option,
    read_input,
)
from backup.cli.keys.certificates import certificate_document, certificate_lines, key_type_option
from backup.cli.support.context import Cli, pass_cli
from backup.errors import UsageError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from backup.credentials.certificate import CertificateFacts
    from backup.pki.issuing import Issued

EXAMPLES = {
    "ca create": (
        "nightvault ca create --dir ca --name 'Backup CA'",
        "nightvault ca create --dir ca --name 'Backup CA' --passphrase-file prompt",
    ),
    "ca issue": (
        "nightvault ca issue web1 --dir ca --out identities",
        "nightvault ca issue web1 --dir ca --out identities --unit backup --days 90",
    ),
    "ca sign": (
        "nightvault ca sign web1.csr --dir ca --out web1.pem",
        "nightvault ca sign web1.csr --dir ca --out web1.pem --days 90",
    ),
    "ca list": ("nightvault ca list --dir ca", "nightvault ca list --dir ca --all --json"),
    "ca revoke": (
        "nightvault ca revoke web1 --dir ca",
        "nightvault ca revoke web1 --dir ca --all --reason key-compromise",
    ),
    "ca crl": ("nightvault ca crl --dir ca", "nightvault ca crl --dir ca --days 60"),
    "ca renew-root": (
        "nightvault ca renew-root --dir ca",
        "nightvault ca renew-root --dir ca --passphrase-file prompt",
    ),
}


@click.group()
def ca() -> None:
    """A small certificate authority for IAM Roles Anywhere.

    Its key opens your AWS roles: keep the directory off the servers that are backed up.
    """


@ca.command()
@directory_option
@click.option("--name", required=True, metavar="CN", help="The authority's common name.")
@click.option("--organization", metavar="O", help="Its organization.")
@click.option("--unit", metavar="OU", help="Its organizational unit.")
@click.option("--days", type=DAYS, default=3650, show_default=True, help="Days of validity.")
@key_type_option
@passphrase_option
@pass_cli
def create(
    cli: Cli,
    directory: str,
    name: str,
    organization: str | None,
    unit: str | None,
    days: int,
    key_type: str,
    passphrase_file: str | None,
) -> None:
    """Make an authority: its key and its self-signed certificate, ca.pem, for the trust anchor."""
    from backup.pki.authority import create_ca
    from backup.pki.keys import KeyType
    from backup.pki.subjects import Subject

    authority = create_ca(
        directory,
        Subject(name, organization, unit),
        key_type=KeyType(key_type),
        days=days,
        passphrase=new_passphrase(passphrase_file),
        now=cli.clock.now(),
    )
    facts = _facts(cli, authority.certificate)
    written = {"certificate": authority.certificate_path, "key": os.path.join(directory, "ca.key")}
    _tell_certificate(cli, facts, written)
    cli.say(f"next: make a trust anchor of {authority.certificate_path} (docs/aws.md),")
    cli.say(f"      then `nightvault ca issue SERVER --dir {directory} --out DIR` for each server")
    cli.say(f"keep {directory} off the servers, and keep a copy of it")


@ca.command()
@click.argument("name", required=False)
@click.option("--batch", metavar="FILE|-", help="Servers, one on a line: NAME or NAME,UNIT.")
@directory_option
@click.option("--days", type=DAYS, default=365, show_default=True, help="Days of validity.")
@click.option("--organization", metavar="O", help="The server's organization.")
@click.option("--unit", metavar="OU", help="Its organizational unit; a trust policy may require it.")
@click.option("--dns", multiple=True, metavar="HOST", help="A DNS name of the server; may be repeated.")
@click.option("--out", required=True, metavar="DIR", help="The directory for NAME.pem and NAME.key.")
@key_type_option
@passphrase_option
@pass_cli
def issue(
    cli: Cli,
    name: str | None,
    batch: str | None,
    directory: str,
    days: int,
    organization: str | None,
    unit: str | None,
    dns: tuple[str, ...],
    out: str,
    key_type: str,
    passphrase_file: str | None,
) -> None:
    """Make a key and a certificate for the server NAME; again under the same name, they are replaced.

    With --batch, for each server of a list; further values on a line are its DNS names. If one line is
    wrong, nothing is made.
    """
    from backup.pki.batch import read_batch
    from backup.pki.issuing import issue_all
    from backup.pki.keys import KeyType
    from backup.pki.subjects import Subject

    if (name is None) == (batch is None) or (batch and dns):
        raise UsageError("give one NAME with its --dns, or --batch FILE")
    if batch is not None:
        subjects = read_batch(_text(batch), organization=organization, unit=unit)
    else:
        subjects = [Subject(str(name), organization, unit, dns)]
    authority = open_authority(directory, passphrase_file)
    issued = issue_all(
        authority,
        subjects,
        key_type=KeyType(key_type),
        days=days,
        directory=out,
        now=cli.clock.now(),
    )
    _tell_issued(cli, issued, is_batch=batch is not None)
    for pair in issued:
        _say_replaced(cli, pair.replaced, pair.certificate_path, directory)
    _say_if_shortened(cli, _facts(cli, issued[0].certificate), days)
    if batch is None:
        there = os.path.join("/etc/nightvault", os.path.basename(issued[0].certificate_path))
        key = os.path.join("/etc/nightvault", os.path.basename(issued[0].key_path))
        cli.say("next: bring both files to the server, and name them in [identity] of its config, such as:")
        cli.say(f'      certificate = "{there}"\n      private_key = "{key}"')
    else:
        cli.say("next: bring each server its two files, and name them in [identity] of its config")


def _text(path: str) -> str:
    try:
        return read_input(path, "list").decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"the list {path} is not UTF-8 text") from error


def _tell_issued(cli: Cli, issued: Sequence[Issued], *, is_batch: bool) -> None:
    """The one that was made, or the table of all."""
    from backup.cli.render.tables import Column, Sheet

    facts = [_facts(cli, pair.certificate) for pair in issued]
    files = [{"certificate": pair.certificate_path, "key": pair.key_path} for pair in issued]
    if not is_batch:
        _tell_certificate(cli, facts[0], files[0])
        return
    made = [
        {"files": paths, **certificate_document(certificate)}
        for certificate, paths in zip(facts, files, strict=True)
    ]
    rows = [
        [certificate.subject, f"{certificate.not_after:%Y-%m-%d}", paths["certificate"], paths["key"]]
        for certificate, paths in zip(facts, files, strict=True)
    ]
    columns = [
        Column("subject", least=24),
        Column("expires"),
        Column("certificate", rank=1),
        Column("key", rank=2),
    ]
    cli.show({"certificates": made}, Sheet(columns, rows))


@ca.command()
@click.argument("csr", metavar="CSR|-")
@directory_option
@click.option(
    "--for",
    "only_for",
    metavar="NAME",
    help="Renew only: the request may ask for no more than NAME's newest certificate has.",
)
@click.option("--organization", metavar="O", help="Refuse a request for another organization.")
@click.option("--unit", metavar="OU", help="Refuse a request for another unit: shared roles let in by it.")
@click.option("--days", type=DAYS, default=365, show_default=True, help="Days of validity.")
@click.option("--out", required=True, metavar="FILE|-", help="The certificate's file; - prints it.")
@passphrase_option
@pass_cli
def sign(
    cli: Cli,
    /,
    csr: str,
    directory: str,
    days: int,
    out: str,
    passphrase_file: str | None,
    **held_to: str | None,
) -> None:
    """Sign the request CSR, made on a server by `nightvault identity csr`; its key stays there.

    Subject and names are those of the request: compare them, or give --organization and --unit.
    With --for, `-` and --out -, it can be the command that an ssh key of the server is bound to.
    """
    from cryptography.hazmat.primitives.serialization import Encoding

    from backup.pki.files import NewFile, replace_files
    from backup.pki.issuing import certificate_at, sign_csr

    request = read_input(csr, "request")
    authority = open_authority(directory, passphrase_file)
    named = "what is on standard input" if csr == "-" else csr
    now = cli.clock.now()
    certificate = sign_csr(authority, request, days=days, now=now, named=named, **held_to)
    data = certificate.public_bytes(Encoding.PEM)
    if out == "-":
        click.echo(data.decode(), nl=False)
        return
    replaced = certificate_at(out)
    replace_files([NewFile(out, data)])
    facts = _facts(cli, certificate)
    _tell_certificate(cli, facts, {"certificate": out})
    _say_replaced(cli, replaced, out, directory)
    _say_if_shortened(cli, facts, days)
    cli.say(f"next: bring {out} to the server, and name it in [identity] of its config as certificate")


for command in (list_issued, revoke, crl, renew_root):
    ca.add_command(command)


def _facts(cli: Cli, certificate: Certificate) -> CertificateFacts:
    from backup.credentials.certificate import certificate_facts

    return certificate_facts(certificate, [], cli.clock.now())


def _tell_certificate(cli: Cli, facts: CertificateFacts, written: dict[str, str]) -> None:
    lines = [*certificate_lines(facts), *(f"{what:<12} {path}" for what, path in written.items())]
    cli.show({"files": written, **certificate_document(facts)}, "\n".join(lines))


def _say_if_shortened(cli: Cli, facts: CertificateFacts, days: int) -> None:
    if facts.days_left < days - 1:
        cli.say(f"it ends with the authority, after {facts.days_left} days instead of {days}")


def _say_replaced(cli: Cli, replaced: Certificate | None, path: str, directory: str) -> None:
    """Name the certificate whose file was overwritten: it opens AWS for as long as it is valid."""
    if replaced is None:
        return
    facts = _facts(cli, replaced)
    if facts.days_left < 0:
        return
    cli.say(f"replaced: {path} had serial {facts.serial_hex}, valid until {facts.not_after:%Y-%m-%d}.")
    cli.say("      If its key may be in other hands, revoke it once the server has the new one:")
    cli.say(f"      nightvault ca revoke {facts.serial_hex} --dir {shlex.quote(directory)}")
