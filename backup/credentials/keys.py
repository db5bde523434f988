"""The seam between key stores (`SigningKey`), and keys in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, padding, rsa

from backup.errors import IdentityError

PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | mldsa.MLDSA44PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
)
MLDSA_PUBLIC = (mldsa.MLDSA44PublicKey, mldsa.MLDSA65PublicKey, mldsa.MLDSA87PublicKey)


class SigningKey(Protocol):
    """A private key in its store, which it may never leave. A new store is a new class with these two
    methods."""

    @property
    def store(self) -> str:
        """A short description of the store for messages; never a secret."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Sign `data` (not its hash).

        PKCS#1 v1.5 or DER-encoded ECDSA, both always with SHA-256, or pure ML-DSA with an empty context.
        Raises `IdentityError` when the store refuses.
        """
        ...


@dataclass(frozen=True, slots=True)
class SoftwareKey:
    """A `SigningKey` that was read from a file."""

    private_key: PrivateKey = field(repr=False)
    store: str = "file"

    def sign(self, data: bytes) -> bytes:
        """Sign `data` by the algorithm for this type of key."""
        if isinstance(self.private_key, rsa.RSAPrivateKey):
            return self.private_key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        if isinstance(self.private_key, ec.EllipticCurvePrivateKey):
            return self.private_key.sign(data, ec.ECDSA(hashes.SHA256()))
        return self.private_key.sign(data)


def algorithm_label(certificate: x509.Certificate) -> str:
    """The label of the signature algorithm for this certificate's key.

    It depends on the type of the key alone, not on the hash that the certificate was signed with (AWS:
    "The IAM Roles Anywhere authentication signing process"). `IdentityError` for another kind.
    """
    key = public_key_of(certificate)
    if isinstance(key, rsa.RSAPublicKey):
        return "AWS4-X509-RSA-SHA256"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "AWS4-X509-ECDSA-SHA256"
    if isinstance(key, MLDSA_PUBLIC):
        return "AWS4-X509-MLDSA"
    raise IdentityError(
        f"the certificate's key is {type(key).__name__.removesuffix('PublicKey')}", advice=_KINDS
    )


def public_key_of(certificate: x509.Certificate) -> object:
    """The certificate's public key; `IdentityError` if it cannot be parsed."""
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise IdentityError("the certificate's public key cannot be read", advice=_KINDS) from error


_KINDS = "IAM Roles Anywhere takes RSA, EC and ML-DSA keys"


def has_signed(certificate: x509.Certificate, signature: bytes, data: bytes) -> bool:
    """Whether the signature was made by the certificate's key."""
    key = certificate.public_key()
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, MLDSA_PUBLIC):
            key.verify(signature, data)
        else:
            return False
    except InvalidSignature:
        return False
    return True
