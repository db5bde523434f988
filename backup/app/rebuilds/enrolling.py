"""The enrolment of a server's signer: a request, its signature by a recovery key, and saving the result.

Request and enrolment are each one line of JSON, without a secret; a file may hold many. They come from
outside, so they are parsed strictly: signed fields must have their exact lengths.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from backup.app.backups.contexts import read_keys, read_signer, recipients_of
from backup.app.base.state import SignedEnrolment, State, parse_recipients
from backup.config import Config
from backup.errors import FormatError, NightvaultError, RecoveryKeyError, UsageError
from backup.format.enrolment import (
    MOST_ANCESTORS,
    EnrolmentKey,
    enrolment_key,
    sign_request,
    signature_in,
    verify_request,
)
from backup.format.enrolment import enrol as enrol_signature
from backup.format.keys import RecoveryKey, fingerprint_of
from backup.inventory.store.database import Inventory
from backup.model import InventoryId

_REQUEST: Final = "nightvault enrolment request"
_ENROLMENT: Final = "nightvault enrolment"
_MOST_RECIPIENTS: Final = 50  # of a pack's header
_HEX: Final = re.compile(r"[0-9a-fA-F]*")
_ASK_AGAIN: Final = "ask for it again, and give the file as nightvault printed it"


class Request(Struct, frozen=True):
    """A server's request to be enrolled: its statement that this signer is its own, and its ancestors.

    `signature` is made by that signer; a request of an older version has none, and names no ancestors.
    """

    inventory_id: InventoryId
    signer_public: bytes
    recipients: tuple[bytes, ...]
    ancestors: tuple[InventoryId, ...] = ()
    signature: bytes = b""

    @property
    def fingerprint(self) -> str:
        """The signer's fingerprint, as `key status` prints it."""
        return fingerprint_of(self.signer_public).hex()

    def document(self) -> dict[str, Any]:
        """The request as JSON."""
        return {
            "kind": _REQUEST,
            "inventory": self.inventory_id.hex(),
            "signer": self.signer_public.hex(),
            "recipients": [recipient.hex() for recipient in self.recipients],
            "ancestors": [ancestor.hex() for ancestor in self.ancestors],
            "signature": self.signature.hex(),
        }

    @classmethod
    def from_text(cls, text: str) -> Request:
        """Parse a request. `UsageError` if it is not valid, or not signed by the signer that it names."""
        fields = _Fields(text, _REQUEST)
        inventory_id, signer = InventoryId(fields.hex("inventory", 16)), fields.hex("signer", 32)
        recipients = fields.hexes("recipients", most=_MOST_RECIPIENTS)
        ancestors = fields.ancestors(inventory_id)
        if not fields.has("signature"):
            if ancestors:
                raise fields.wrong("it names ancestors, and has no signature")
            return cls(inventory_id, signer, recipients)
        signature = fields.hex("signature", 64)
        try:
            verify_request(inventory_id, signer, recipients, ancestors, signature)
        except FormatError as error:
            raise UsageError(
                f"the signature of this {_REQUEST} is wrong: it was changed on its way", advice=_ASK_AGAIN
            ) from error
        return cls(inventory_id, signer, recipients, ancestors, signature)


class Enrolment(Struct, frozen=True):
    """A recovery key's answer to a request; an older version gives the tag alone, without `signed`."""

    inventory_id: InventoryId
    signer_public: bytes
    recipient: bytes
    tag: bytes
    ancestors: tuple[InventoryId, ...] = ()
    signed: SignedEnrolment | None = None

    def document(self) -> dict[str, Any]:
        """The enrolment as JSON."""
        document: dict[str, Any] = {
            "kind": _ENROLMENT,
            "inventory": self.inventory_id.hex(),
            "signer": self.signer_public.hex(),
            "recipient": self.recipient.hex(),
            "tag": self.tag.hex(),
        }
        if self.signed is not None:
            document["ancestors"] = [ancestor.hex() for ancestor in self.ancestors]
            document["signature"] = self.signed.signature.hex()
            document["enrolment_key"] = self.signed.key.to_text()
        return document

    @classmethod
    def from_text(cls, text: str) -> Enrolment:
        """Parse an enrolment. `UsageError` if it is not valid, or not signed by the key that it names."""
        fields = _Fields(text, _ENROLMENT)
        inventory_id, signer = InventoryId(fields.hex("inventory", 16)), fields.hex("signer", 32)
        recipient, tag = fields.hex("recipient", 16), fields.hex("tag", 32)
        if not any(fields.has(name) for name in ("ancestors", "signature", "enrolment_key")):
            return cls(inventory_id, signer, recipient, tag)
        ancestors = fields.ancestors(inventory_id)
        signed = SignedEnrolment(fields.enrolment_key(), fields.hex("signature", 64))
        if not signed.key.vouches(inventory_id, signer, ancestors, signed.signature):
            raise UsageError(
                f"the signature of this {_ENROLMENT} is not by the enrolment key in it: it was changed on "
                "its way",
                advice=_ASK_AGAIN,
            )
        return cls(inventory_id, signer, recipient, tag, ancestors, signed)


# Asking.


def make_request(config: Config, inventory: Inventory) -> Request:
    """Make the request of this server, signed by its signer."""
    signer = read_signer(State(config.state_dir), inventory)
    recipients = tuple(recipient.id for recipient in parse_recipients(recipients_of(config)))
    signature = sign_request(signer, inventory.id, recipients, inventory.ancestors)
    return Request(inventory.id, signer.public, recipients, inventory.ancestors, signature)


# Enrolling.


def enrol(request: Request, key: RecoveryKey) -> Enrolment:
    """Enrol the signer in a request, by a recovery key. `RecoveryKeyError`."""
    recipient = key.recipient.id
    if recipient not in request.recipients:
        raise RecoveryKeyError(
            f"this server does not seal for the recipient {recipient.hex()} of this key",
            advice="use the key of one of: " + ", ".join(known.hex() for known in request.recipients),
        )
    about = request.inventory_id, request.signer_public
    signature = enrol_signature(key, *about, request.ancestors)
    signed = SignedEnrolment(enrolment_key(key), signature)
    return Enrolment(*about, recipient, key.enrolment_tag(*about), request.ancestors, signed)


def requests_in(text: str) -> dict[int, Request]:
    """Return the requests of a file, one on each line, by line number.

    `UsageError`, naming the line, for a request that may not be enrolled together with others.
    """
    found: dict[int, Request] = {}
    first_lines: dict[InventoryId, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            request = Request.from_text(line)
            _require_plain(request)
        except UsageError as error:
            raise _in_line(number, error) from error
        first = first_lines.setdefault(request.inventory_id, number)
        if first != number:
            raise UsageError(f"line {number}: a request of the inventory of line {first}, again")
        found[number] = request
    if not found:
        raise UsageError("the file has no requests", advice="put on each line what `key request` printed")
    return found


def enrol_all(requests: Mapping[int, Request], key: RecoveryKey) -> list[Enrolment]:
    """Enrol the signers of many requests, in order. `RecoveryKeyError`, naming the line."""
    found = []
    for number, request in requests.items():
        try:
            found.append(enrol(request, key))
        except RecoveryKeyError as error:
            raise _in_line(number, error) from error
    return found


def _require_plain(request: Request) -> None:
    alone = "enrol it alone, with the file as the command's argument"
    if request.ancestors:
        raise UsageError("a request with ancestors is not taken among many", advice=alone)
    if not request.signature:
        raise UsageError("a request of an older version, without a signature", advice=alone)


def _in_line(number: int, error: NightvaultError) -> NightvaultError:
    return type(error)(f"line {number}: {error}", advice=error.advice)


# Keeping.


def enrolment_for(text: str, config: Config, inventory: Inventory) -> Enrolment:
    """Find the enrolment for this inventory and signer in a file that has one on each line.

    `UsageError` if there is none, or it is not valid.
    """
    texts = [text] if _is_json(text) else [line for line in text.split("\n") if line.strip()] or [text]
    ours = [line_text for line_text in texts if _is_about(_Fields(line_text, _ENROLMENT), inventory)]
    if not ours:
        Enrolment.from_text(texts[0])  # what is wrong in itself is told first
        whose = "this enrolment was" if len(texts) == 1 else f"all {len(texts)} enrolments were"
        raise UsageError(f"{whose} made for another inventory or signer", advice="ask for a new one")
    if len(ours) > 1:
        raise UsageError(
            f"{len(ours)} enrolments of this server are in one file", advice="give each in a file of its own"
        )
    found = Enrolment.from_text(ours[0])
    if found.recipient not in {recipient.id for recipient in parse_recipients(recipients_of(config))}:
        raise UsageError(
            f"this enrolment is of a recipient that we do not seal for: {found.recipient.hex()}",
            advice="`nightvault key status` shows those that we seal for",
        )
    return found


def other_key(enrolment: Enrolment, config: Config) -> EnrolmentKey | None:
    """Return the enrolment key known for its recipient, if it differs from the enrolment's; else None."""
    known = State(config.state_dir).read_signed_enrolments().get(enrolment.recipient)
    signed = enrolment.signed
    return known.key if known is not None and signed is not None and known.key != signed.key else None


def keep(enrolment: Enrolment, config: Config, *, with_proof: bool) -> None:
    """Save an enrolment's tag and, `with_proof`, its signature."""
    state = State(config.state_dir)
    state.add_enrolment(enrolment.recipient, enrolment.tag)
    if with_proof and enrolment.signed is not None:
        state.add_signed_enrolment(enrolment.recipient, enrolment.signed)


def proofs(config: Config, inventory: Inventory) -> dict[bytes, EnrolmentKey]:
    """Return the enrolment keys that signed this inventory, signer and ancestors, by recipient."""
    carried = read_keys(config, inventory).enrolments
    about = inventory.id, inventory.signer_public, inventory.ancestors
    known = State(config.state_dir).read_signed_enrolments()
    signatures = {name: signature_in(carried, name) for name in known}
    return {
        name: known[name].key
        for name, signature in signatures.items()
        if signature is not None and known[name].key.vouches(*about, signature)
    }


def _is_about(fields: _Fields, inventory: Inventory) -> bool:
    return fields.is_hex("inventory", inventory.id) and fields.is_hex("signer", inventory.signer_public)


# Reading.


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


class _Fields:
    """The fields of one of our documents, read strictly."""

    def __init__(self, text: str, kind: str) -> None:
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            fields = None
        self._kind = kind
        if not isinstance(fields, dict) or fields.get("kind") != kind:
            raise self.wrong("")
        self._fields = fields

    def wrong(self, why: str) -> UsageError:
        """Return the error for a document that is not valid."""
        return UsageError(f"this is not a {self._kind}" + (f": {why}" if why else ""), advice=_ASK_AGAIN)

    def has(self, name: str) -> bool:
        return name in self._fields

    def is_hex(self, name: str, value: bytes) -> bool:
        found = self._fields.get(name)
        return isinstance(found, str) and found.lower() == value.hex()

    def hex(self, name: str, size: int) -> bytes:
        return self._bytes(self._fields.get(name), f"its {name}", size)

    def hexes(self, name: str, *, most: int) -> tuple[bytes, ...]:
        found = self._fields.get(name)
        if not isinstance(found, list) or len(found) > most:
            raise self.wrong(f"its {name} are not a list of {most:,} at most")
        return tuple(self._bytes(value, f"one of its {name}", 16) for value in found)

    def ancestors(self, inventory_id: InventoryId) -> tuple[InventoryId, ...]:
        found = self.hexes("ancestors", most=MOST_ANCESTORS) if self.has("ancestors") else ()
        if len({inventory_id, *found}) <= len(found):
            raise self.wrong("its ancestors name one inventory twice, or the inventory itself")
        return tuple(map(InventoryId, found))

    def enrolment_key(self) -> EnrolmentKey:
        try:
            return EnrolmentKey.from_text(str(self._fields.get("enrolment_key")))
        except FormatError as error:
            raise self.wrong(f"in its enrolment_key, {error}") from error

    def _bytes(self, value: object, what: str, size: int) -> bytes:
        if not isinstance(value, str) or not _HEX.fullmatch(value):
            raise self.wrong(f"{what} is missing, or not written in hex digits")
        if len(value) != 2 * size:
            raise self.wrong(f"{what} has {len(value)} hex digits where {2 * size} belong")
        return bytes.fromhex(value)
