"""Private keys of the types that IAM Roles Anywhere accepts."""

from __future__ import annotations

from enum import StrEnum

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from backup.credentials.newkeys import IssuedKey as PrivateKey
from backup.credentials.newkeys import private_pem, signature_hash

__all__ = ["KeyType", "PrivateKey", "generate_key", "private_pem", "signature_hash"]


class KeyType(StrEnum):
    """The types of keys that can be made."""

    RSA_2048 = "rsa-2048"
    RSA_4096 = "rsa-4096"
    P_256 = "p-256"
    P_384 = "p-384"


def generate_key(key_type: KeyType) -> PrivateKey:
    """Return a new random private key."""
    match key_type:
        case KeyType.RSA_2048:
            return rsa.generate_private_key(65537, 2048)
        case KeyType.RSA_4096:
            return rsa.generate_private_key(65537, 4096)
        case KeyType.P_256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyType.P_384:
            return ec.generate_private_key(ec.SECP384R1())
