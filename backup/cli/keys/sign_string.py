"""`nightvault sign-string`: signs a test string, to test that key and certificate belong together."""

from __future__ import annotations

import hashlib
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from backup.cli.keys.identity_flags import Flags, identity_flags, identity_of
from backup.cli.support.context import Cli, pass_cli
from backup.errors import UsageError

if TYPE_CHECKING:
    from cryptography import x509

FIXED = b"AWS Roles Anywhere Credential Helper Signing Test"


@click.command("sign-string")
@identity_flags
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "text", "bin"]),
    default="json",
    help="The form of the output.",
)
@click.option(
    "--digest",
    type=click.Choice(["SHA256", "SHA384", "SHA512"]),
    default="SHA256",
    help="Only SHA256 is accepted.",
)
@pass_cli
def sign_string(cli: Cli, /, form: str, digest: str, **given: Any) -> None:
    """Sign a fixed test string, as the AWS helper's command of this name does; nothing is sent.

    Requests are always signed over SHA-256, so no other digest is offered.
    """
    from backup.credentials.identity import load_identity

    if digest != "SHA256":
        raise UsageError(f"--digest {digest}: IAM Roles Anywhere takes SHA-256 alone")
    identity = load_identity(identity_of(cli, Flags(**given)))
    signature = identity.sign(signed_text(identity.certificate))
    if form == "bin":
        sys.stdout.buffer.write(signature)
    else:  # as the helper prints them: nothing behind the last character
        click.echo(signature.hex() if form == "text" else json.dumps(signature.hex()), nl=False)


def signed_text(certificate: x509.Certificate) -> bytes:
    """Return the bytes that `aws_signing_helper` signs: a fixed text, `1`, and a hash of the public key."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        raw = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    elif isinstance(key, rsa.RSAPublicKey):
        raw = key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    else:
        raw = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return FIXED + b"1" + hashlib.sha256(b"IAM RA" + raw).digest()
