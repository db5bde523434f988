"""Enrolments that anyone can verify, who follows whom, and ids of jobs that are bound to their inventory.

A recovery key has a second public half, the enrolment key (`nve1…`). It signs which inventory and signer are
a server's, and from which inventories that one was rebuilt: its ancestors, nearest first. The 64 bytes stand
in two of a catalog header's enrolment slots. An heir, the inventory that goes on after a rebuild, leaves a
mark with the same signature where its predecessor looks (docs/format.md, 1.6 and 2.6).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from backup.errors import FormatError
from backup.format import text as texts
from backup.format.keys import RecoveryKey, Signer, derive, fingerprint_of, verify
from backup.model import InventoryId

PREFIX: Final = "nve1"
MOST_ANCESTORS: Final = 1000
MOST_SIGNED: Final = 16
"""Recipients whose signature a header carries, at the most."""

_SLOTS: Final = 50
_NO_ANCESTORS: Final = bytes(32)
_ENROL: Final = b"nightvault 2 enrol"
_REQUEST: Final = b"nightvault 2 request"
_JOB: Final = b"nightvault 1 job"
_MARK: Final = re.compile(
    r"meta/(?P<predecessor>[0-9a-f]{32})/heir-(?P<heir>[0-9a-f]{32})-(?P<signer>[0-9a-f]{64})"
    r"-(?P<signature>[0-9a-f]{128})"
)


def ancestry(ancestors: Sequence[InventoryId]) -> bytes:
    """The 32-byte hash of a list of ancestors, nearest first: SHA-256 over their ids; zeros for none."""
    return hashlib.sha256(b"".join(ancestors)).digest() if ancestors else _NO_ANCESTORS


def _signed(inventory_id: InventoryId, signer_public: bytes, ancestors: Sequence[InventoryId]) -> bytes:
    if (
        len(inventory_id) != 16
        or len(signer_public) != 32
        or any(len(ancestor) != 16 for ancestor in ancestors)
    ):
        raise FormatError("an inventory's id has 16 bytes and a signer's public key 32")
    return _ENROL + inventory_id + signer_public + ancestry(ancestors)


class EnrolmentKey(Struct, frozen=True):
    """The public half of a recovery key that verifies enrolments: 32 bytes of Ed25519."""

    public: bytes

    @property
    def fingerprint(self) -> str:
        """32 hex digits, for people to compare."""
        return fingerprint_of(self.public).hex()

    def to_text(self) -> str:
        """`nve1…`."""
        return texts.to_token(PREFIX, self.public)

    @classmethod
    def from_text(cls, text: str) -> EnrolmentKey:
        """Read `nve1…`. Raises FormatError."""
        try:
            return cls(texts.from_token(PREFIX, text, 32))
        except texts.TextError as error:
            raise FormatError(f"this is not an enrolment key: {error}") from error

    def vouches(
        self,
        inventory_id: InventoryId,
        signer_public: bytes,
        ancestors: Sequence[InventoryId],
        signature: bytes,
    ) -> bool:
        """Whether the recovery key signed that this signer is ours, with just these ancestors."""
        try:
            verify(self.public, signature, _signed(inventory_id, signer_public, ancestors))
        except FormatError:
            return False
        return True


def _private(key: RecoveryKey) -> Signer:
    return Signer(derive(key.seed, "enrol 2"))


def enrolment_key(key: RecoveryKey) -> EnrolmentKey:
    """The public half that verifies what `enrol` signs."""
    return EnrolmentKey(_private(key).public)


def enrol(
    key: RecoveryKey, inventory_id: InventoryId, signer_public: bytes, ancestors: Sequence[InventoryId]
) -> bytes:
    """The recovery key's 64-byte signature that this signer is ours, and followed these inventories."""
    return _private(key).sign(_signed(inventory_id, signer_public, ancestors))


# In a header.


def slots_of(recipient_id: bytes) -> tuple[bytes, bytes]:
    """The two ids under which a header carries a signature of that recipient's recovery key."""
    first, second = (hashlib.sha256(b"enrol 2 " + half + recipient_id).digest()[:16] for half in (b"a", b"b"))
    return first, second


def slots(
    recipients: Sequence[bytes], tags: Mapping[bytes, bytes], signatures: Mapping[bytes, bytes]
) -> tuple[tuple[bytes, bytes], ...]:
    """The enrolment slots of a header: all tags, then signatures as long as there is room for both halves.

    `recipients` are ids in the order of the config; `tags` and `signatures` are by recipient id.
    """
    found = [(recipient, tags[recipient]) for recipient in sorted(recipients) if recipient in tags]
    for recipient in [recipient for recipient in recipients if recipient in signatures][:MOST_SIGNED]:
        if len(found) + 2 > _SLOTS:
            break
        signature = signatures[recipient]
        found += zip(slots_of(recipient), (signature[:32], signature[32:]), strict=True)
    return tuple(found)


def signature_in(enrolments: Iterable[tuple[bytes, bytes]], recipient_id: bytes) -> bytes | None:
    """The signature of that recipient's recovery key in a header's slots; None if it has none."""
    known = dict(enrolments)
    first, second = slots_of(recipient_id)
    return known[first] + known[second] if first in known and second in known else None


# Requests.


def _requested(
    inventory_id: InventoryId, signer_public: bytes, recipients: Sequence[bytes], ancestors: Sequence[bytes]
) -> bytes:
    counts = bytes([len(recipients)]) + len(ancestors).to_bytes(2, "little")
    return b"".join([_REQUEST, inventory_id, signer_public, counts, *recipients, *ancestors])


def sign_request(
    signer: Signer, inventory_id: InventoryId, recipients: Sequence[bytes], ancestors: Sequence[InventoryId]
) -> bytes:
    """The signature under a request for enrolment, by the signer that it names: 64 bytes."""
    return signer.sign(_requested(inventory_id, signer.public, recipients, ancestors))


def verify_request(
    inventory_id: InventoryId,
    signer_public: bytes,
    recipients: Sequence[bytes],
    ancestors: Sequence[InventoryId],
    signature: bytes,
) -> None:
    """`FormatError` unless the signer that a request names signed it as it is."""
    verify(signer_public, signature, _requested(inventory_id, signer_public, recipients, ancestors))


# Jobs.


def job_id_of(inventory_id: InventoryId, nonce: bytes) -> bytes:
    """The id of a job that this inventory makes; `nonce` is 16 random bytes."""
    return hashlib.sha256(_JOB + inventory_id + nonce).digest()[:16]


def is_job_of(job_id: bytes, inventory_id: InventoryId, nonce: bytes) -> bool:
    """Whether that inventory made the job."""
    return hmac.compare_digest(job_id_of(inventory_id, nonce), job_id)


# Marks of heirs.


class HeirMark(Struct, frozen=True):
    """A mark left in a vault: an inventory (the heir) goes on with what its predecessor began.

    `signature` is its enrolment, zeros where it has none: then the mark is a hint.
    """

    predecessor: InventoryId
    heir: InventoryId
    signer_public: bytes
    signature: bytes

    def to_text(self) -> str:
        """Its name: a key in a bucket, a path in a directory, a description in Glacier; 269 characters."""
        ids = f"{self.heir.hex()}-{self.signer_public.hex()}-{self.signature.hex()}"
        return f"{heirs_of(self.predecessor)}{ids}"

    @classmethod
    def from_text(cls, text: str) -> HeirMark | None:
        """The mark of that name; None if it is not one. Never raises."""
        found = _MARK.fullmatch(text)
        if found is None:
            return None
        fields = {name: bytes.fromhex(value) for name, value in found.groupdict().items()}
        ids = InventoryId(fields["predecessor"]), InventoryId(fields["heir"])
        return cls(*ids, fields["signer"], fields["signature"])

    def is_proven(self, keys: Iterable[EnrolmentKey], ancestors: Sequence[InventoryId]) -> bool:
        """Whether one of these keys vouches for the heir; `ancestors` are the predecessor's own."""
        line = (self.predecessor, *ancestors)
        return any(key.vouches(self.heir, self.signer_public, line, self.signature) for key in keys)


def heirs_of(predecessor: InventoryId) -> str:
    """The common prefix of the names of all marks of an inventory's heirs."""
    return f"meta/{predecessor.hex()}/heir-"
