"""Recovery keys, recipients, signers and the chunk secret, and every key that is derived from them."""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct

from backup.errors import FormatError, RecoveryKeyError
from backup.format import passphrase as passphrases
from backup.format import text as texts
from backup.model import InventoryId

SEED_SIZE = 32
RECIPIENT_SIZE = 1216  # ML-KEM-768 public key (1,184) and X25519 public key (32)
SEAL_OVERHEAD = 1136  # HPKE enc (1,120) and AES-256-GCM tag (16)
RECOVERY_PREFIX = "NVK1"
RECIPIENT_PREFIX = "nvr1"

_MLKEM_PUBLIC_SIZE = 1184
_LENGTH = struct.Struct("<I")
_SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
_LARGEST_KEY_FILE = 64 * 1024
_USE_THE_RIGHT_KEY = "give the recovery key of one of the recipients that this was sealed for"


def derive(secret: bytes, info: str, *, salt: bytes | None = None, length: int = 32) -> bytes:
    """HKDF-SHA256 (RFC 5869) with info "nightvault 1 " and `info`: the derivation of every key."""
    label = b"nightvault 1 " + info.encode("ascii")
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=label).derive(secret)


class Recipient(Struct, frozen=True):
    """The public half of a recovery key, which is enough to seal packs (X-Wing, 1,216 bytes)."""

    public: bytes

    def __post_init__(self) -> None:
        if len(self.public) != RECIPIENT_SIZE:
            raise FormatError(f"a recipient has {RECIPIENT_SIZE} bytes, not {len(self.public)}")

    @property
    def id(self) -> bytes:
        """16 bytes of SHA-256 over the public key: its name in headers."""
        return hashlib.sha256(self.public).digest()[:16]

    def to_text(self) -> str:
        """`nvr1…`, for the config file: 1,955 characters."""
        return texts.to_token(RECIPIENT_PREFIX, self.public)

    @classmethod
    def from_text(cls, text: str) -> Recipient:
        """Read `nvr1…`. Raises FormatError."""
        try:
            recipient = cls(texts.from_token(RECIPIENT_PREFIX, text, RECIPIENT_SIZE))
        except texts.TextError as error:
            raise FormatError(
                f"this is not a recipient: {error}",
                advice="copy the whole line that begins with nvr1, as `nightvault key show` prints it",
            ) from error
        recipient._key()
        return recipient

    def seal(self, plaintext: bytes, info: bytes) -> bytes:
        """HPKE (RFC 9180, base mode) to this recipient: enc (1,120 bytes), then ciphertext and tag.

        The library draws fresh randomness inside, so no two calls give the same bytes.
        """
        return _SUITE.encrypt(plaintext, self._key(), info)

    def _key(self) -> hpke.MLKEM768X25519PublicKey:
        try:
            return hpke.MLKEM768X25519PublicKey(
                MLKEM768PublicKey.from_public_bytes(self.public[:_MLKEM_PUBLIC_SIZE]),
                X25519PublicKey.from_public_bytes(self.public[_MLKEM_PUBLIC_SIZE:]),
            )
        except ValueError as error:
            raise FormatError("this recipient is not a valid public key") from error


@dataclass(frozen=True)  # without slots: what is derived is kept
class RecoveryKey:
    """The private key that opens packs: one 32-byte seed of X-Wing (ML-KEM-768 and X25519)."""

    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_SIZE:
            raise RecoveryKeyError(f"a recovery key has {SEED_SIZE} bytes, not {len(self.seed)}")

    @classmethod
    def from_seed(cls, seed: bytes) -> RecoveryKey:
        """The key of 32 random bytes."""
        return cls(bytes(seed))

    def to_text(self) -> str:
        """`NVK1-XXXX-…`: 14 groups of four, to be printed and typed."""
        return texts.to_typeable(RECOVERY_PREFIX, self.seed)

    @classmethod
    def from_text(cls, text: str) -> RecoveryKey:
        """Read a printed or typed key; case, blanks, dashes and O/0, I/1 do not matter."""
        try:
            return cls(texts.from_typeable(RECOVERY_PREFIX, text, SEED_SIZE))
        except texts.TextError as error:
            raise RecoveryKeyError(
                f"this is not a recovery key: {error}",
                advice="type it as printed: NVK1 and 14 groups of four characters",
            ) from error

    @cached_property
    def recipient(self) -> Recipient:
        """The public half."""
        mlkem, x25519 = self._halves
        return Recipient(mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw())

    def unseal(self, sealed: bytes, info: bytes) -> bytes:
        """Open what `Recipient.seal` made with the same info. RecoveryKeyError when it does not open."""
        key = hpke.MLKEM768X25519PrivateKey(*self._halves)
        try:
            return _SUITE.decrypt(sealed, key, info)
        except (InvalidTag, ValueError) as error:
            raise RecoveryKeyError("this recovery key does not open it", advice=_USE_THE_RIGHT_KEY) from error

    def enrolment_tag(self, inventory_id: InventoryId, signer_public: bytes) -> bytes:
        """The proof that this key vouches for a signer: HMAC-SHA256 over inventory id and public key."""
        key = derive(self.seed, "enrol")
        return hmac.digest(key, inventory_id + signer_public, "sha256")

    @cached_property
    def _halves(self) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
        # X-Wing's expandDecapsulationKey: 64 bytes are ML-KEM's d and z, 32 are the X25519 scalar.
        expanded = hashlib.shake_256(self.seed).digest(96)
        return (
            MLKEM768PrivateKey.from_seed_bytes(expanded[:64]),
            X25519PrivateKey.from_private_bytes(expanded[64:]),
        )


def plain_key_file(key: RecoveryKey) -> bytes:
    """A key file without a passphrase: comment lines and the key's text."""
    return (
        b"# nightvault recovery key: it opens every backup sealed for its recipient.\n"
        b"# Keep it off the server, in two places; whoever has it can read everything.\n"
        + key.to_text().encode("ascii")
        + b"\n"
    )


def protect(
    key: RecoveryKey,
    passphrase: bytes,
    *,
    salt: bytes,
    nonce: bytes,
    passes: int = passphrases.PASSES,
    memory_kib: int = passphrases.MEMORY_KIB,
) -> bytes:
    """A key file under a passphrase (the bytes typed, in UTF-8).

    `salt` (16 bytes) and `nonce` (12 bytes) must be fresh random bytes.
    """
    return passphrases.protect_bytes(
        key.seed, passphrase, salt=salt, nonce=nonce, passes=passes, memory_kib=memory_kib
    )


def unprotect(data: bytes, passphrase: bytes) -> RecoveryKey:
    """The key of a protected key file. Raises RecoveryKeyError."""
    return RecoveryKey(passphrases.unprotect_bytes(data, passphrase, SEED_SIZE))


def is_protected(data: bytes) -> bool:
    """Whether a key file is under a passphrase."""
    return passphrases.is_protected(data)


def parse_key_file(data: bytes, passphrase: Callable[[], bytes] | None = None) -> RecoveryKey:
    """The key in a key file, plain or protected; `passphrase` is called only for a protected one.

    Raises RecoveryKeyError.
    """
    if is_protected(data):
        if passphrase is None:
            raise RecoveryKeyError(
                "the key file is protected by a passphrase",
                advice="give it, for example with --passphrase-file",
            )
        return unprotect(data, passphrase())
    if len(data) > _LARGEST_KEY_FILE:
        raise RecoveryKeyError(
            "this file is far too large to be a recovery key", advice="give the right file"
        )
    text = data.decode("utf-8", "replace").removeprefix("\ufeff")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return RecoveryKey.from_text("\n".join(lines))


@dataclass(frozen=True, slots=True)
class ChunkSecret:
    """The secret from which chunk ids are keyed, kept by the server; each property derives anew: cache it."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != SEED_SIZE:
            raise FormatError(f"a chunk secret has {SEED_SIZE} bytes, not {len(self.secret)}")

    @property
    def chunk_key(self) -> bytes:
        """The 32-byte key of `chunk_id`."""
        return derive(self.secret, "chunk id")

    @property
    def content_key(self) -> bytes:
        """The 32-byte key of `content_id`."""
        return derive(self.secret, "content id")

    @property
    def chunker_seed(self) -> int:
        """The chunker's seed, 1 to 2**63 - 1; no security boundary, since known cuts reveal it."""
        seed = int.from_bytes(derive(self.secret, "chunker seed", length=8), "little")
        return (seed & (2**63 - 1)) or 1

    @property
    def fingerprint(self) -> bytes:
        """16 bytes that tell domains apart and reveal nothing of the secret."""
        return derive(self.secret, "chunk secret fingerprint", length=16)


@dataclass(frozen=True, slots=True)
class Signer:
    """An inventory's Ed25519 key (RFC 8032), from its 32-byte seed."""

    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_SIZE:
            raise FormatError(f"a signing key has {SEED_SIZE} bytes, not {len(self.seed)}")

    @property
    def public(self) -> bytes:
        """The 32-byte public key."""
        return Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()

    @property
    def fingerprint(self) -> bytes:
        """16 bytes of SHA-256 over the public key; shown as hex."""
        return fingerprint_of(self.public)

    def sign(self, data: bytes) -> bytes:
        """The 64-byte signature of data."""
        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(data)


def fingerprint_of(signer_public: bytes) -> bytes:
    """A signer's fingerprint: the first 16 bytes of SHA-256 over its public key."""
    return hashlib.sha256(signer_public).digest()[:16]


def verify(public: bytes, signature: bytes, data: bytes) -> None:
    """Raise FormatError unless `signature` over `data` is by the owner of `public`."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError) as error:
        raise FormatError("the signature does not fit: forged, damaged or by another signer") from error


def domain_id(vault_name: str, recipients: Iterable[Recipient], secret: ChunkSecret) -> bytes:
    """16 bytes that name what dedups together: vault, set of recipients (any order), chunk secret."""
    return domain_id_of(vault_name, [recipient.id for recipient in recipients], secret)


def domain_id_of(vault_name: str, recipient_ids: Iterable[bytes], secret: ChunkSecret) -> bytes:
    """Same as `domain_id`, from the recipients' ids alone."""
    name = vault_name.encode("utf-8")
    ids = sorted(set(recipient_ids))
    parts = [b"nightvault 1 domain", _LENGTH.pack(len(name)), name, _LENGTH.pack(len(ids)), *ids]
    return hashlib.sha256(b"".join([*parts, secret.fingerprint])).digest()[:16]
