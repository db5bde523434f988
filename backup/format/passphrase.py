"""A secret under a passphrase: Argon2id and AES-256-GCM in text armour, every parameter capped first."""

from __future__ import annotations

import base64
import binascii
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from backup.errors import RecoveryKeyError

PASSES = 3
MEMORY_KIB = 256 * 1024
MOST_PASSES = 10
MOST_MEMORY_KIB = 1024 * 1024
LANES = 1  # Argon2's parallelism; with more, two concurrent calls dead-lock in cryptography 50.0.2
SALT_SIZE = 16
NONCE_SIZE = 12

BEGIN = b"-----BEGIN NIGHTVAULT PROTECTED KEY-----"
END = b"-----END NIGHTVAULT PROTECTED KEY-----"
_MAGIC = b"NVKP"
_VERSION = 1
_ARGON2ID = 1
_PARAMETERS = struct.Struct("<4sBBBBII16s12s")
_TAG_SIZE = 16
_LARGEST_FILE = 64 * 1024
_DAMAGED = "use another copy of the key file, or type the printed key"


def is_protected(data: bytes) -> bool:
    """Whether this is (or was meant to be) a file under a passphrase."""
    return BEGIN in data


def protect_bytes(
    secret: bytes,
    passphrase: bytes,
    *,
    salt: bytes,
    nonce: bytes,
    passes: int = PASSES,
    memory_kib: int = MEMORY_KIB,
) -> bytes:
    """`secret` under a passphrase, as the bytes of a text file.

    `salt` (16 bytes) and `nonce` (12 bytes) must be fresh random bytes; `memory_kib` is in KiB.
    Argon2id as RFC 9106; AES-256-GCM with all that stands before the ciphertext as associated data.
    """
    _check_cost(passes, memory_kib)
    if len(salt) != SALT_SIZE or len(nonce) != NONCE_SIZE:
        raise RecoveryKeyError(f"a key file needs {SALT_SIZE} bytes of salt and {NONCE_SIZE} of nonce")
    head = _PARAMETERS.pack(_MAGIC, _VERSION, _ARGON2ID, LANES, 0, passes, memory_kib, salt, nonce)
    key = _stretch(passphrase, salt, passes, memory_kib)
    return _armour(head + AESGCM(key).encrypt(nonce, secret, head))


def unprotect_bytes(data: bytes, passphrase: bytes, size: int) -> bytes:
    """The `size` bytes that `protect_bytes` protected. RecoveryKeyError says what is wrong.

    Parameters are checked against the caps before any memory is allocated.
    """
    raw = _unarmour(data)
    if len(raw) != _PARAMETERS.size + size + _TAG_SIZE:
        raise RecoveryKeyError("the protected key file has the wrong length", advice=_DAMAGED)
    head, sealed = raw[: _PARAMETERS.size], raw[_PARAMETERS.size :]
    magic, version, kdf, lanes, reserved, passes, memory_kib, salt, nonce = _PARAMETERS.unpack(head)
    if magic != _MAGIC:
        raise RecoveryKeyError("this is not a protected nightvault key", advice=_DAMAGED)
    if (version, kdf, lanes, reserved) != (_VERSION, _ARGON2ID, LANES, 0):
        raise RecoveryKeyError(
            f"the protected key file is of a form that is not known here (version {version}, kdf {kdf}, "
            f"lanes {lanes})",
            advice="use the nightvault version that wrote it, or a newer one",
        )
    _check_cost(passes, memory_kib)
    key = _stretch(passphrase, salt, passes, memory_kib)
    try:
        return AESGCM(key).decrypt(nonce, sealed, head)
    except InvalidTag as error:
        raise RecoveryKeyError(
            "the passphrase does not open this key file (or the file was changed)",
            advice="type the passphrase again; else " + _DAMAGED,
        ) from error


def _check_cost(passes: int, memory_kib: int) -> None:
    if not (1 <= passes <= MOST_PASSES and 8 * LANES <= memory_kib <= MOST_MEMORY_KIB):
        raise RecoveryKeyError(
            f"the key file asks for {passes} passes over {memory_kib} KiB; at most {MOST_PASSES} over "
            f"{MOST_MEMORY_KIB} KiB are allowed",
            advice=_DAMAGED,
        )


def _stretch(passphrase: bytes, salt: bytes, passes: int, memory_kib: int) -> bytes:
    argon = Argon2id(salt=salt, length=32, iterations=passes, lanes=LANES, memory_cost=memory_kib)
    try:
        return argon.derive(passphrase)
    except MemoryError as error:
        raise RecoveryKeyError(
            f"opening this key file takes {memory_kib} KiB of memory, which is not free",
            advice="stop other programs, or use a machine with more memory, or the printed key",
        ) from error


def _armour(raw: bytes) -> bytes:
    body = base64.b64encode(raw)
    lines = [body[i : i + 64] for i in range(0, len(body), 64)]
    return b"\n".join([BEGIN, *lines, END, b""])


def _unarmour(data: bytes) -> bytes:
    if len(data) > _LARGEST_FILE:
        raise RecoveryKeyError("the key file is far too large to be one", advice=_DAMAGED)
    _, begin, rest = data.partition(BEGIN)
    body, end, _ = rest.partition(END)
    if not begin or not end:
        raise RecoveryKeyError("the protected key file is cut short", advice=_DAMAGED)
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RecoveryKeyError("the protected key file is damaged (not base64)", advice=_DAMAGED) from error
