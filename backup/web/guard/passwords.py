"""Hashes passwords by Argon2id, one at a time: each takes 32 MiB and 0.1 s."""

from __future__ import annotations

import hashlib
import os
import secrets
from threading import Lock

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from backup.errors import UsageError

SHORTEST, LONGEST = 10, 1024
_PASSES, _MEMORY_KIB = 3, 32 * 1024
_LANES = 1  # with more, two concurrent calls dead-lock in cryptography 50.0.2
_one_at_a_time = Lock()


def check_password(password: str, name: str) -> None:
    """Raise `UsageError` for a weak password."""
    if len(password) < SHORTEST:
        raise UsageError(f"the password is too short: it needs {SHORTEST} characters at least")
    if len(password) > LONGEST:
        raise UsageError(f"the password is too long: {LONGEST} characters at most")
    if len(set(password)) < 5 or name.lower() in password.lower():
        raise UsageError(
            "the password is too easy to guess", advice="use four words that do not belong together"
        )


def hash_password(password: str) -> str:
    """Return the hash of a password with salt and cost, in PHC format."""
    argon = Argon2id(
        salt=os.urandom(16), length=32, iterations=_PASSES, lanes=_LANES, memory_cost=_MEMORY_KIB
    )
    with _one_at_a_time:
        return argon.derive_phc_encoded(_bytes(password))


_NOBODYS: list[str] = []


def is_password(password: str, kept: str | None) -> bool:
    """Whether the password belongs to the hash; without a hash it takes as long, and returns False."""
    if kept is None and not _NOBODYS:
        _NOBODYS.append(hash_password(secrets.token_hex(16)))
    try:
        with _one_at_a_time:
            Argon2id.verify_phc_encoded(_bytes(password), kept or _NOBODYS[0])
    except InvalidKey:
        return False
    return kept is not None


def new_secret() -> str:
    """Return a new random secret for a session, token or link."""
    return secrets.token_urlsafe(32)


def hash_secret(secret: str) -> bytes:
    """Return the hash of such a secret to store: it is long and random, so one SHA-256 is enough."""
    return hashlib.sha256(_bytes(secret)).digest()


def _bytes(text: str) -> bytes:
    return text[: LONGEST + 1].encode("utf-8", "surrogatepass")
