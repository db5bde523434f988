"""`nightvault ca`: a small certificate authority, best kept on another machine than the servers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from backup.cli.support.certificates import certificate_document, certificate_lines, key_type_option
from backup.cli.support.context import Cli, pass_cli
from backup.errors import UsageError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from backup.credentials.certificate import CertificateFacts
    from backup.pki.authority import Authority

PROMPT = "prompt"

directory_option = click.option(
    "--dir", "directory", required=True, metavar="DIR", help="The authority's directory."
)
passphrase_option = click.option(
    "--passphrase-file",
    metavar="FILE|prompt",
    help="The file of the CA key's passphrase; prompt asks for it.",
)


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
@click.option("--days", type=click.IntRange(min=1), default=3650, show_default=True, help="Days of validity.")
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
        passphrase=_new_passphrase(passphrase_file),
        now=cli.clock.now(),
    )
    facts = _facts(cli, authority.certificate)
    written = {"certificate": authority.certificate_path, "key": os.path.join(directory, "ca.key")}
    _tell(cli, facts, written)
    cli.say(f"next: make a trust anchor of {authority.certificate_path} (docs/aws.md),")
    cli.say(f"      then `nightvault ca issue SERVER --dir {directory} --out DIR` for each server")
    cli.say(f"keep {directory} off the servers, and keep a copy of it")


@ca.command()
@click.argument("name")
@directory_option
@click.option("--days", type=click.IntRange(min=1), default=365, show_default=True, help="Days of validity.")
@click.option("--organization", metavar="O", help="The server's organization.")
@click.option("--unit", metavar="OU", help="Its organizational unit; a trust policy may require it.")
@click.option("--dns", multiple=True, metavar="HOST", help="A DNS name of the server; may be repeated.")
@click.option("--out", required=True, metavar="DIR", help="The directory for NAME.pem and NAME.key.")
@key_type_option
@passphrase_option
@pass_cli
def issue(
    cli: Cli,
    name: str,
    directory: str,
    days: int,
    organization: str | None,
    unit: str | None,
    dns: tuple[str, ...],
    out: str,
    key_type: str,
    passphrase_file: str | None,
) -> None:
    """Make a key and a certificate for the server NAME; again under the same name, they are replaced."""
    from backup.pki.issuing import issue as issue_pair
    from backup.pki.keys import KeyType
    from backup.pki.subjects import Subject

    authority = _open(directory, passphrase_file)
    issued = issue_pair(
        authority,
        Subject(name, organization, unit, dns),
        key_type=KeyType(key_type),
        days=days,
        directory=out,
        now=cli.clock.now(),
    )
    facts = _facts(cli, issued.certificate)
    _tell(cli, facts, {"certificate": issued.certificate_path, "key": issued.key_path})
    _say_if_shortened(cli, facts, days)
    cli.say("next: bring both files to the server, and name them in [identity] of its config:")
    cli.say(f'      certificate = "{issued.certificate_path}", private_key = "{issued.key_path}"')


@ca.command()
@click.argument("csr", metavar="CSR")
@directory_option
@click.option("--days", type=click.IntRange(min=1), default=365, show_default=True, help="Days of validity.")
@click.option("--out", required=True, metavar="FILE", help="The certificate's file.")
@passphrase_option
@pass_cli
def sign(cli: Cli, csr: str, directory: str, days: int, out: str, passphrase_file: str | None) -> None:
    """Sign the request CSR, made on a server by `nightvault identity csr`; its key stays there."""
    from backup.pki.issuing import sign_csr

    request = _read(csr)
    certificate = sign_csr(
        _open(directory, passphrase_file), request, days=days, path=out, now=cli.clock.now()
    )
    facts = _facts(cli, certificate)
    _tell(cli, facts, {"certificate": out})
    _say_if_shortened(cli, facts, days)
    cli.say(f"next: bring {out} to the server, and name it in [identity] of its config as certificate")


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"cannot read the request {path}: {error.strerror}") from error


def _open(directory: str, passphrase_file: str | None) -> Authority:
    """Open the authority, and ask for its passphrase if it has one and no file was named."""
    from backup.credentials.identity import read_passphrase
    from backup.pki.authority import key_is_encrypted, open_ca

    if passphrase_file not in {None, PROMPT}:
        return open_ca(directory, read_passphrase(str(passphrase_file)))
    if passphrase_file == PROMPT or key_is_encrypted(directory):
        return open_ca(directory, _ask("passphrase of the CA key", confirm=False))
    return open_ca(directory)


def _new_passphrase(passphrase_file: str | None) -> bytes | None:
    from backup.credentials.identity import read_passphrase

    if passphrase_file is None:
        return None
    if passphrase_file == PROMPT:
        return _ask("new passphrase for the CA key", confirm=True)
    return read_passphrase(passphrase_file)


def _ask(question: str, *, confirm: bool) -> bytes:
    answer: str = click.prompt(question, hide_input=True, confirmation_prompt=confirm, err=True)
    return answer.encode()


def _facts(cli: Cli, certificate: Certificate) -> CertificateFacts:
    from backup.credentials.certificate import certificate_facts

    return certificate_facts(certificate, [], cli.clock.now())


def _tell(cli: Cli, facts: CertificateFacts, written: dict[str, str]) -> None:
    lines = [*certificate_lines(facts), *(f"{what:<12} {path}" for what, path in written.items())]
    cli.show({"files": written, **certificate_document(facts)}, "\n".join(lines))


def _say_if_shortened(cli: Cli, facts: CertificateFacts, days: int) -> None:
    if facts.days_left < days - 1:
        cli.say(f"it ends with the authority, after {facts.days_left} days instead of {days}")
