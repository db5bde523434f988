"""`nightvault identity`: the certificate that this server shows to AWS."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import click

from backup.cli.keys.certificates import certificate_document, certificate_lines, key_type_option
from backup.cli.support.context import Cli, pass_cli
from backup.errors import ExitCode, NightvaultError

if TYPE_CHECKING:
    from datetime import datetime

    from backup.credentials.identity_paths import IdentityFiles
    from backup.pki.subjects import Subject

EXAMPLES = {
    "identity show": ("nightvault identity show", "nightvault identity show --ca ca.pem --warn-days 30"),
    "identity csr": (
        "nightvault identity csr --out web1.csr --key /etc/nightvault/identity.key",
        "nightvault identity csr --name web1 --out web1.csr --key web1.key",
    ),
    "identity renew": ("nightvault identity renew", "nightvault identity renew --force"),
}


@click.group()
def identity() -> None:
    """This server's certificate and private key."""


@identity.command()
@click.option(
    "--ca", "ca_file", metavar="FILE", help="Check that the chain leads to a certificate of this file."
)
@click.option(
    "--warn-days",
    type=click.IntRange(min=0),
    help="Warn this many days before it expires; else 14, at most a fifth of its life.",
)
@pass_cli
def show(cli: Cli, ca_file: str | None, warn_days: int | None) -> int:
    """Show the certificate and how long it is valid, and try its key; exit code 13 if AWS would refuse it."""
    from backup.credentials.certificate import first_to_end, name_text
    from backup.credentials.chain import chain_problem
    from backup.credentials.identity import (
        check_validity,
        describe_identity,
        expiry_warning,
        load_certificates,
        load_identity,
        permissions_warning,
        shown_place,
    )
    from backup.errors import IdentityError

    files = _configured(cli)
    now = cli.clock.now()
    loaded = load_identity(files)
    loaded.sign(b"nightvault identity show")  # a token or TPM says only so whether it opens, and fits
    facts = describe_identity(loaded, now)
    refusals = [f"AWS would refuse this certificate: {why}" for why in facts.weaknesses]
    try:
        check_validity(loaded.certificate, now)
    except IdentityError as error:
        refusals.append(f"{error}; {error.advice}")
    problem = (
        None
        if ca_file is None
        else chain_problem(loaded.certificate, loaded.chain, load_certificates(ca_file, named_by="--ca"), now)
    )
    if problem is not None:
        refusals.append(f"the chain does not lead to {ca_file}: {problem}")
    soon, above = expiry_warning(loaded.certificate, now, warn_days), first_to_end(loaded.chain)
    if above is not None and above.not_valid_after_utc < now:
        refusals.append(f"the certificate above it, of {name_text(above.subject)}, has expired")
    later = None if above is None else expiry_warning(above, now, warn_days)
    warnings = [text for text in (soon, later, permissions_warning(files.private_key)) if text]
    chain = {} if ca_file is None else {"chain_leads_to_ca": problem is None}
    document = {
        **certificate_document(facts),
        "chain_length": facts.chain_length,
        **chain,
        "key_store": loaded.key.store,
        "files": {"certificate": shown_place(files.certificate), "key": shown_place(files.private_key)},
        "usable": not refusals,
        "warnings": [*refusals, *warnings],
    }
    lines = [
        *certificate_lines(facts),
        f"chain        {facts.chain_length}",
        f"key store    {loaded.key.store}",
        f"file         {shown_place(files.certificate)}",
    ]
    cli.show(document, "\n".join(lines))
    for text in (*refusals, *warnings):
        cli.warn(text)
    return ExitCode.IDENTITY if refusals else ExitCode.DONE


@identity.command()
@click.option("--out", required=True, metavar="FILE", help="The request's file.")
@click.option("--key", "key_path", required=True, metavar="FILE", help="The key's file; created if missing.")
@click.option("--name", metavar="CN", help="Common name; else the present certificate's, or the host's.")
@click.option("--organization", metavar="O", help="Organization.")
@click.option("--unit", metavar="OU", help="Organizational unit.")
@click.option("--dns", multiple=True, metavar="HOST", help="A DNS name; may be repeated.")
@click.option("--passphrase-file", metavar="FILE", help="The file of an existing key's passphrase.")
@key_type_option
@pass_cli
def csr(
    cli: Cli,
    out: str,
    key_path: str,
    name: str | None,
    organization: str | None,
    unit: str | None,
    dns: tuple[str, ...],
    passphrase_file: str | None,
    key_type: str,
) -> None:
    """Make a request for the CA, and the key that it is for; the key never leaves this server."""
    from backup.pki.issuing import make_csr
    from backup.pki.keys import KeyType
    from backup.pki.subjects import Subject

    subject = (
        Subject(name, organization, unit, dns)
        if name is not None
        else _present_subject(cli, organization, unit, dns)
    )
    known = os.path.exists(key_path)
    made = make_csr(
        subject,
        key_type=KeyType(key_type),
        key_path=key_path,
        csr_path=out,
        passphrase_file=passphrase_file,
    )
    text = made.subject.rfc4514_string({})
    whose = f"the key that was there, {key_path}" if known else f"a new key, {key_path}"
    document = {"subject": text, "files": {"request": out, "key": key_path}, "new_key": not known}
    cli.show(document, f"{out}: request of {subject.common_name} for {whose}")
    cli.say(
        f"next: bring {out} to the CA: `nightvault ca sign {os.path.basename(out)} --dir DIR --out FILE`,"
    )
    cli.say("      bring the certificate back, and name it and the key in [identity] of the config")


@identity.command()
@click.option("--force", is_flag=True, help="Now, although it is not due; also for one that ends sooner.")
@pass_cli
def renew(cli: Cli, *, force: bool) -> None:
    """Renew the certificate if it is due, as [identity.renew] of the config says.

    The new pair is used once it got credentials from AWS; until then, and if it gets none, the present one
    is. The daemon does the same by itself.
    """
    from backup.app.machine.asking_authority import way_of
    from backup.app.machine.renewal import RenewalState, renew_if_due
    from backup.credentials.certificate import certificate_facts

    config = cli.config()
    done = renew_if_due(config, cli.clock, force=force)
    facts = certificate_facts(done.certificate, [], cli.clock.now())
    document = {
        "state": done.state,
        "due_at": done.due_at,
        "next_try": done.next_try,
        "role": done.role,
        "files": _shown_files(cli),
        **certificate_document(facts),
    }
    due = _local(done.due_at)
    match done.state:
        case RenewalState.RENEWED:
            lines = [*certificate_lines(facts), f"due again    {due}"]
            tried = (
                f"it got credentials for {done.role}" if done.role else "no vault has a role to try it with"
            )
            cli.report(document, "\n".join(lines))
            cli.say(f"renewed: {tried}")
        case RenewalState.PAUSED:
            cli.show(document, f"it failed a short while ago; tried again at {_local(done.next_try)}")
            cli.say("--force tries now; `nightvault status` says why it failed")
        case _:
            way = way_of(config.identity.renew) if config.identity and config.identity.renew else ""
            cli.report(document, f"not due: it is renewed {way} from {due} on")


def _shown_files(cli: Cli) -> dict[str, str]:
    from backup.credentials.identity_paths import shown_place

    files = _configured(cli)
    return {"certificate": shown_place(files.certificate), "key": shown_place(files.private_key)}


def _local(moment: datetime | None) -> str:
    from backup.cli.render.render import local_time

    return local_time(moment)


def _configured(cli: Cli) -> IdentityFiles:
    from backup.app.base.vaults import identity_files

    return identity_files(cli.config())


def _present_subject(cli: Cli, organization: str | None, unit: str | None, dns: tuple[str, ...]) -> Subject:
    """The subject of the present certificate, else this host's name; given values take precedence."""
    from cryptography.x509.oid import NameOID

    from backup.credentials.certificate import subject_values
    from backup.credentials.identity import own_certificate
    from backup.pki.subjects import Subject

    try:
        certificate = own_certificate(_configured(cli))
    except NightvaultError as error:  # no config, no identity yet: this is how one begins
        cli.say(f"no present certificate ({error}): the request is for this host's name")
        return Subject(socket.gethostname(), organization, unit, dns)
    names = subject_values(certificate, NameOID.COMMON_NAME) or [socket.gethostname()]
    organizations = subject_values(certificate, NameOID.ORGANIZATION_NAME)
    units = subject_values(certificate, NameOID.ORGANIZATIONAL_UNIT_NAME)
    return Subject(
        names[0],
        organization or next(iter(organizations), None),
        unit or next(iter(units), None),
        dns,
    )
