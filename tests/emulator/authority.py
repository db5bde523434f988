"""Certificates for tests, good and bad ones, and CreateSession requests signed with them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from tests.support.emulated import ACCOUNT_ID, REGION
from tests.support.emulator_clients import stamp

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | mldsa.MLDSA65PrivateKey

ANCHOR_ARN = f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT_ID}:trust-anchor/0aaaaaaa-1111-4222-8333-444444444444"
PROFILE_ARN = f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT_ID}:profile/0bbbbbbb-1111-4222-8333-444444444444"
ROLE_ARN = f"arn:aws:iam::{ACCOUNT_ID}:role/backup/GlacierWriter"
TRUST: dict[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "rolesanywhere.amazonaws.com"},
            "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
            "Condition": {"ArnEquals": {"aws:SourceArn": ANCHOR_ARN}},
        }
    ],
}


def new_key() -> ec.EllipticCurvePrivateKey:
    """A P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def usage(*names: str) -> x509.KeyUsage:
    """A key usage with only these bits."""
    every = (
        *(
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
        ),
        *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: name in names for name in every})


class Holder(Struct, frozen=True):
    """A certificate with its private key."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> str:
        """The certificate in PEM."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def header(self) -> str:
        """The certificate as base64 DER on one line."""
        return base64.b64encode(self.certificate.public_bytes(Encoding.DER)).decode()


def name(*parts: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    """A distinguished name."""
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


def issue(
    subject: x509.Name,
    issuer: Holder | None,
    *,
    key: Key | None = None,
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
    serial: int | None = None,
    days: tuple[int, int] = (-1, 30),
) -> Holder:
    """A certificate of `subject` signed by `issuer`, or by itself; `days` from now for its validity."""
    own = key or new_key()
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(own.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    signer = issuer.key if issuer else own
    assert not isinstance(signer, mldsa.MLDSA65PrivateKey)
    return Holder(builder.sign(signer, hashes.SHA256()), own)


def issue_ca(common_name: str, issuer: Holder | None = None, **how: Any) -> Holder:
    """A CA."""
    extensions = (
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (usage("key_cert_sign", "crl_sign"), True),
    )
    return issue(name((NameOID.COMMON_NAME, common_name)), issuer, extensions=extensions, **how)


def issue_leaf(issuer: Holder, *, subject: x509.Name | None = None, **how: Any) -> Holder:
    """A client certificate as it should be."""
    how.setdefault(
        "extensions",
        (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (usage("digital_signature"), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
        ),
    )
    default = name((NameOID.COMMON_NAME, "host-1"))
    return issue(default if subject is None else subject, issuer, **how)


def revoke(issuer: Holder, *serials: int) -> str:
    """A revocation list in PEM."""
    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now)
        .next_update(now + timedelta(days=1))
    )
    for serial in serials:
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        builder = builder.add_revoked_certificate(revoked)
    assert not isinstance(issuer.key, mldsa.MLDSA65PrivateKey)
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def label(key: Key) -> str:
    """The algorithm label of a key."""
    if isinstance(key, rsa.RSAPrivateKey):
        return "AWS4-X509-RSA-SHA256"
    return "AWS4-X509-MLDSA" if isinstance(key, mldsa.MLDSA65PrivateKey) else "AWS4-X509-ECDSA-SHA256"


def _sign(key: Key, text: bytes) -> str:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(text, PKCS1v15(), hashes.SHA256()).hex()
    if isinstance(key, mldsa.MLDSA65PrivateKey):
        return key.sign(text).hex()
    return key.sign(text, ec.ECDSA(hashes.SHA256())).hex()


def session_body(**changes: object) -> bytes:
    """The JSON body of a request; None takes a parameter out."""
    given = {"profileArn": PROFILE_ARN, "roleArn": ROLE_ARN, "trustAnchorArn": ANCHOR_ARN, **changes}
    return json.dumps({key: value for key, value in given.items() if value is not None}).encode()


def sign_session(
    leaf: Holder,
    body: bytes,
    *,
    chain: Iterable[Holder] = (),
    host: str = "localhost",
    canonical_query: str = "",
    late: timedelta = timedelta(),
    region: str = REGION,
    service: str = "rolesanywhere",
    algorithm: str | None = None,
    credential: str | None = None,
    scope_date: str | None = None,
    unsigned: tuple[str, ...] = (),
    headers: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """All headers of a CreateSession request; the keywords make it wrong in one way each."""
    signed_at = stamp(datetime.now(UTC) + late)
    given = {
        "content-type": "application/json",
        "host": host,
        "x-amz-date": signed_at,
        "x-amz-x509": leaf.header,
        **(headers or {}),
    }
    chained = ",".join(holder.header for holder in chain)
    if chained:
        given["x-amz-x509-chain"] = chained
    names = sorted(set(given) - set(unsigned))
    lines = "".join(f"{key}:{given[key]}\n" for key in names)
    digest = hashlib.sha256(body).hexdigest()
    canonical = f"POST\n/sessions\n{canonical_query}\n{lines}\n{';'.join(names)}\n{digest}"
    scope = f"{scope_date or signed_at[:8]}/{region}/{service}/aws4_request"
    algorithm = algorithm or label(leaf.key)
    text = f"{algorithm}\n{signed_at}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    given["authorization"] = (
        f"{algorithm} Credential={credential or leaf.certificate.serial_number}/{scope}, "
        f"SignedHeaders={';'.join(names)}, Signature={_sign(leaf.key, text.encode())}"
    )
    return given
