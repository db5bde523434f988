"""The facts in a certificate, and the reasons why IAM Roles Anywhere would refuse it; pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

TAG_VALUE = re.compile(r"[\w .:/=+\-@]*")
"""Approximately STS's pattern for tag values: a subject that does not match cannot become a session tag."""

Extension = TypeVar("Extension", bound=x509.ExtensionType)

_SHORT_NAMES = {
    NameOID.COMMON_NAME: "CN",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.COUNTRY_NAME: "C",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.LOCALITY_NAME: "L",
}

_NAME_KINDS: Mapping[type[x509.GeneralName], str] = {
    x509.DNSName: "DNS",
    x509.UniformResourceIdentifier: "URI",
    x509.IPAddress: "IP",
    x509.RFC822Name: "email",
    x509.DirectoryName: "directory",
}


class CertificateFacts(Struct, frozen=True):
    """The facts of a certificate for display; `weaknesses` are reasons why AWS would refuse it."""

    subject: str
    issuer: str
    names: Sequence[str]  # subject alternative names, such as DNS:host
    serial: int
    not_before: datetime
    not_after: datetime
    days_left: int  # whole days, negative once it has expired
    key_type: str
    chain_length: int
    weaknesses: Sequence[str]

    @property
    def serial_hex(self) -> str:
        """The serial as session names show it: an even number of hex digits."""
        digits = f"{self.serial:x}"
        return digits.zfill(len(digits) + len(digits) % 2)


def certificate_facts(
    certificate: x509.Certificate, chain: Sequence[x509.Certificate], now: datetime
) -> CertificateFacts:
    """The facts of `certificate`, which is sent with `chain`."""
    return CertificateFacts(
        subject=name_text(certificate.subject),
        issuer=name_text(certificate.issuer),
        names=alternative_names(certificate),
        serial=certificate.serial_number,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        days_left=(certificate.not_valid_after_utc - now).days,
        key_type=key_type_text(certificate),
        chain_length=len(chain),
        weaknesses=weaknesses(certificate),
    )


def first_to_end(several: Sequence[x509.Certificate]) -> x509.Certificate | None:
    """The certificate that expires first; of several with the same name only the last to expire counts."""
    longest: dict[x509.Name, x509.Certificate] = {}
    for certificate in sorted(several, key=lambda certificate: certificate.not_valid_after_utc):
        longest[certificate.subject] = certificate
    return min(longest.values(), key=lambda certificate: certificate.not_valid_after_utc, default=None)


def name_text(name: x509.Name) -> str:
    """A name in its certificate's own order, such as `O=Example, CN=host`."""
    return ", ".join(
        f"{_SHORT_NAMES.get(attribute.oid, attribute.oid.dotted_string)}={attribute.value!s}"
        for attribute in name
    )


def subject_values(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> Sequence[str]:
    """The subject's values of one attribute type, in the certificate's order."""
    return [str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(oid)]


def alternative_names(certificate: x509.Certificate) -> Sequence[str]:
    """The subject alternative names, each prefixed with its kind, such as `DNS:`."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [f"{_NAME_KINDS.get(type(name), 'other')}:{_general_name(name)}" for name in names]


def _general_name(name: x509.GeneralName) -> str:
    return name_text(name.value) if isinstance(name, x509.DirectoryName) else str(name.value)


def key_type_text(certificate: x509.Certificate) -> str:
    """The type of the key, such as `RSA 2048` or `EC secp256r1`."""
    try:
        key = certificate.public_key()
    except UnsupportedAlgorithm:
        return "unknown"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    return type(key).__name__.removesuffix("PublicKey")


def weaknesses(certificate: x509.Certificate) -> Sequence[str]:
    """Reasons why IAM Roles Anywhere would refuse this client certificate, whoever issued it.

    The rules are those of AWS's "trust model" page: X.509 v3, not a CA, key usage digitalSignature, SHA-256
    or better, a subject. AWS documents no rule on the extended key usage, but users report that clientAuth is
    required.
    """
    found = []
    if certificate.version is not x509.Version.v3:
        found.append("it is not an X.509 v3 certificate")
    if _extension(certificate, x509.BasicConstraints, lambda basic: basic.ca):
        found.append("it is a CA's certificate (CA:TRUE)")
    if not _extension(certificate, x509.KeyUsage, lambda usage: usage.digital_signature):
        found.append("its key usage lacks digitalSignature")
    if not _extension(certificate, x509.ExtendedKeyUsage, _for_clients, missing=True):
        found.append("its extended key usage lacks clientAuth")
    if (weak := _weak_hash(certificate)) is not None:
        found.append(f"it is signed with {weak}")
    if not list(certificate.subject):
        found.append("its subject is empty")
    if odd := [text for text in map(_value_text, certificate.subject) if not TAG_VALUE.fullmatch(text)]:
        found.append(f"its subject has characters that no session tag may have: {', '.join(odd)}")
    return found


def _weak_hash(certificate: x509.Certificate) -> str | None:
    """The hash of the certificate's signature if it is too weak, else None; ML-DSA has no separate hash."""
    try:
        found = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return None
    return found.name.upper() if isinstance(found, hashes.SHA1 | hashes.MD5) else None


def _value_text(attribute: x509.NameAttribute[str | bytes]) -> str:
    return str(attribute.value)


def _for_clients(usage: x509.ExtendedKeyUsage) -> bool:
    return ExtendedKeyUsageOID.CLIENT_AUTH in usage or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usage


def _extension(
    certificate: x509.Certificate,
    kind: type[Extension],
    test: Callable[[Extension], bool],
    *,
    missing: bool = False,
) -> bool:
    """The result of `test` on an extension, or `missing` if the certificate lacks it."""
    try:
        return test(certificate.extensions.get_extension_for_class(kind).value)
    except x509.ExtensionNotFound:
        return missing
