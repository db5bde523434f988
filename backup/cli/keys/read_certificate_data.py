"""`nightvault read-certificate-data`: shows a certificate, or the certificates on tokens."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from backup.cli.keys.identity_flags import Flags, identity_flags, identity_of
from backup.cli.support.context import Cli, pass_cli

if TYPE_CHECKING:
    from cryptography import x509

    from backup.credentials.key_stores.tokens import TokenCertificate


@click.command("read-certificate-data")
@identity_flags
@pass_cli
def read_certificate_data(cli: Cli, /, **given: Any) -> None:
    """Show a certificate as JSON, or those on tokens (a pkcs11: URI, --cert-selector)."""
    from dataclasses import replace

    from backup.credentials.identity import own_certificate
    from backup.credentials.pkcs11_uri import is_pkcs11

    flags = Flags(**given)
    if flags.cert_selector or is_pkcs11(flags.certificate or ""):
        flags.check()
        click.echo(listed(_on_tokens(flags)))
        return
    files = identity_of(cli, replace(flags, private_key=None))
    click.echo(json.dumps(document(own_certificate(files)), separators=(",", ":")))


def document(certificate: x509.Certificate) -> Mapping[str, object]:
    """Return a certificate as JSON with the fields of `aws_signing_helper`.

    The fields are the type of key, DER in base64, the decimal serial, and the algorithms.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import Encoding

    from backup.credentials.keys import public_key_of

    key = public_key_of(certificate)
    if isinstance(key, rsa.RSAPublicKey):
        kind, algorithms = "RSA", ["RSASHA256"]
    elif isinstance(key, ec.EllipticCurvePublicKey):
        kind, algorithms = "EC", ["ECSHA256"]
    else:
        kind = type(key).__name__.removesuffix("PublicKey").replace("MLDSA", "ML-DSA-")
        algorithms = ["MLDSA"]
    return {
        "keyType": kind,
        "certificateData": base64.b64encode(certificate.public_bytes(Encoding.DER)).decode(),
        "serialNumber": str(certificate.serial_number),
        "supportedAlgorithms": algorithms,
    }


def _on_tokens(flags: Flags) -> Sequence[TokenCertificate]:
    from backup.cli.keys.identity_flags import ask_on_terminal
    from backup.credentials.key_stores.keyfiles import Passphrase
    from backup.credentials.key_stores.tokens import TokenAccess, find_certificates
    from backup.credentials.pkcs11_uri import Pkcs11Uri, parse_pkcs11_uri
    from backup.credentials.selector import Selector, parse_selector

    uri = parse_pkcs11_uri(flags.certificate) if flags.certificate else Pkcs11Uri()
    selector = parse_selector(flags.cert_selector) if flags.cert_selector else Selector()
    access = TokenAccess(flags.pkcs11_lib, Passphrase(flags.passphrase_file, None, ask_on_terminal()))
    return [
        certificate
        for certificate in find_certificates(uri, access)
        if selector.fits(certificate.certificate)
    ]


def listed(found: Sequence[TokenCertificate]) -> str:
    """Return a list of certificates as `aws_signing_helper` prints it: two lines for each."""
    from cryptography.hazmat.primitives import hashes

    from backup.credentials.certificate import name_text
    from backup.credentials.selector import uri_of

    lines = ["Matching identities"]
    for number, token_certificate in enumerate(found, 1):
        certificate = token_certificate.certificate
        fingerprint = certificate.fingerprint(hashes.SHA1()).hex()  # noqa: S303  the helper's name for it
        names = f'"{name_text(certificate.subject)}" "{name_text(certificate.issuer)}"'
        lines.append(f"{number}) {fingerprint} {names} {certificate.serial_number:x}")
        lines.append(f"\tURI: {uri_of(token_certificate)}")
    return "\n".join(lines)
