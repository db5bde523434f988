"""Private keys of the types that IAM Roles Anywhere accepts, and their PEM form."""

from __future__ import annotations

from enum import StrEnum

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from backup.errors import UsageError

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class KeyType(StrEnum):
    """The types of key that can be made."""

    RSA_2048 = "rsa-2048"
    RSA_4096 = "rsa-4096"
    P_256 = "p-256"
    P_384 = "p-384"


def generate_key(key_type: KeyType) -> PrivateKey:
    """A new random private key."""
    match key_type:
        case KeyType.RSA_2048:
            return rsa.generate_private_key(65537, 2048)
        case KeyType.RSA_4096:
            return rsa.generate_private_key(65537, 4096)
        case KeyType.P_256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyType.P_384:
            return ec.generate_private_key(ec.SECP384R1())


def private_pem(key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    """The key as PKCS#8 in PEM; with a passphrase encrypted by PBES2 (AES-256), as openssl and AWS's client
    read."""
    if passphrase == b"":
        raise UsageError("a passphrase must not be empty")
    how = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def signature_hash(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384:
    """The hash for signatures by this key: as strong as its curve, SHA-256 for RSA."""
    strong = isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size > 256
    return hashes.SHA384() if strong else hashes.SHA256()
