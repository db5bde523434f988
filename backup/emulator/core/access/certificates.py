"""Validation of certificates as Roles Anywhere does it: leaf rules, the path to a trust anchor, and
revocation.

Source: IAM Roles Anywhere User Guide, trust model (signature validation, revocation) and RFC 5280. What the
path builder does not refuse by itself (a CA as leaf, a missing key usage, a weak hash) is checked by hand.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from backup.emulator.core.errors import EmulatorError, ServiceError, denied

E = TypeVar("E", bound=x509.ExtensionType)

CHAIN_LIMIT = 5
STRONG_HASHES = ("sha256", "sha384", "sha512", "sha3-256", "sha3-384", "sha3-512")
MLDSA_KEYS = (mldsa.MLDSA44PublicKey, mldsa.MLDSA65PublicKey, mldsa.MLDSA87PublicKey)


def certificate_from_header(text: str, header: str) -> x509.Certificate:
    """One base64 DER certificate of a header; 403 when it is none."""
    try:
        return x509.load_der_x509_certificate(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        raise denied(f"The header {header} holds no base64 DER certificate.") from error


def chain_from_header(text: str) -> list[x509.Certificate]:
    """The certificates of X-Amz-X509-Chain, at most five, parted by commas."""
    parts = [part for part in text.split(",") if part]
    if len(parts) > CHAIN_LIMIT:
        raise denied(
            f"The certificate chain has {len(parts)} certificates; at most {CHAIN_LIMIT} are allowed."
        )
    return [certificate_from_header(part.strip(), "X-Amz-X509-Chain") for part in parts]


def check_anchor(certificate: x509.Certificate, where: str) -> None:
    """Check a trust anchor's certificate; EmulatorError names the key in the accounts file."""
    constraints = _extension(certificate, x509.BasicConstraints)
    usage = _extension(certificate, x509.KeyUsage)
    if constraints is None or not constraints.ca or usage is None or not usage.key_cert_sign:
        raise EmulatorError(f"{where}: Incorrect basic constraints for CA certificate.")
    if not _is_strong(certificate):
        raise EmulatorError(f"{where}: the CA certificate must be signed with SHA-256 or stronger.")


def check_leaf(leaf: x509.Certificate) -> None:
    """Check the signing certificate itself, before its path; 403 with the reason."""
    constraints = _extension(leaf, x509.BasicConstraints)
    usage = _extension(leaf, x509.KeyUsage)
    if leaf.version is not x509.Version.v3:
        raise _insufficient("it is not X.509 version 3")
    if constraints is not None and constraints.ca:
        raise _insufficient("it is a CA certificate")
    if usage is None or not usage.digital_signature:
        raise _insufficient("its key usage lacks digitalSignature")
    if not _is_strong(leaf):
        raise _insufficient("its signature uses a hash weaker than SHA-256")
    if not list(leaf.subject):
        raise _insufficient("its subject is empty")
    _check_extended_usage(leaf)


def _check_extended_usage(leaf: x509.Certificate) -> None:
    usages = _extension(leaf, x509.ExtendedKeyUsage)
    accepted = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
    if usages is not None and not any(usage in accepted for usage in usages):
        raise _insufficient("its extended key usage lacks clientAuth")


def _insufficient(reason: str) -> ServiceError:
    return denied(f"Untrusted certificate. Insufficient certificate: {reason}.")


def check_path(
    leaf: x509.Certificate,
    chain: Sequence[x509.Certificate],
    anchors: Sequence[x509.Certificate],
    crls: Sequence[x509.CertificateRevocationList],
    moment: datetime,
) -> None:
    """Find a path from the leaf to an anchor, valid at `moment`, none of it revoked; 403 otherwise."""
    if not leaf.not_valid_before_utc <= moment <= leaf.not_valid_after_utc:
        raise denied(
            f"Untrusted signing certificate: it is valid from {leaf.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ} "
            f"to {leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}, and it is now {moment:%Y-%m-%dT%H:%M:%SZ}."
        )
    authorities = (
        ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
        .require_present(x509.KeyUsage, Criticality.AGNOSTIC, None)
    )
    verifier = (
        PolicyBuilder()
        .store(Store(list(anchors)))
        .time(moment)
        .max_chain_depth(CHAIN_LIMIT)
        .extension_policies(ca_policy=authorities, ee_policy=ExtensionPolicy.permit_all())
        .build_client_verifier()
    )
    try:
        path = verifier.verify(leaf, list(chain)).chain
    except (VerificationError, UnsupportedAlgorithm) as error:
        raise denied("Untrusted signing certificate") from error
    _check_revocation(path, crls)


def _check_revocation(
    path: Sequence[x509.Certificate], crls: Sequence[x509.CertificateRevocationList]
) -> None:
    for certificate, issuer in pairwise(path):
        for crl in crls:
            if crl.issuer != issuer.subject or not _signed(crl, issuer):
                continue
            if crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
                raise denied(
                    f"Untrusted signing certificate: certificate {certificate.serial_number} is revoked."
                )


def _signed(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    key = issuer.public_key()
    return isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) and crl.is_signature_valid(key)


def _extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    except ValueError as error:
        raise denied(f"Untrusted signing certificate: its extensions cannot be read: {error}.") from error


def _is_strong(certificate: x509.Certificate) -> bool:
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return False
    return algorithm is not None and algorithm.name in STRONG_HASHES


def algorithm_label(key: CertificatePublicKeyTypes) -> str:
    """The SigV4 label for a key; 403 for a type of key that Roles Anywhere does not support."""
    if isinstance(key, rsa.RSAPublicKey):
        return "AWS4-X509-RSA-SHA256"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "AWS4-X509-ECDSA-SHA256"
    if isinstance(key, MLDSA_KEYS):
        return "AWS4-X509-MLDSA"
    raise denied("Untrusted signing certificate: its key is neither RSA nor EC nor ML-DSA.")


def is_signed_by(key: CertificatePublicKeyTypes, signature: bytes, message: bytes) -> bool:
    """Whether the key made this signature: PKCS#1 v1.5 or ECDSA (DER) with SHA-256, or pure ML-DSA."""
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, PKCS1v15(), SHA256())
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, message, ec.ECDSA(SHA256()))
        elif isinstance(key, MLDSA_KEYS):
            key.verify(signature, message)
        else:
            return False
    except InvalidSignature:
        return False
    return True
