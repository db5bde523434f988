"""Sets up keys, inventory and vaults of a new installation; enrols signers, in three steps."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Any

from msgspec import Struct

from backup.app.opened import opened
from backup.app.runs import read_signer, recipients_of
from backup.app.state import SignedEnrolment, State, parse_recipients
from backup.app.vaults import Purpose, make_vault
from backup.config import Config
from backup.errors import NoInventoryError, RecoveryKeyError, UsageError
from backup.format.enrolment import enrol as enrol_signature
from backup.format.enrolment import enrolment_key
from backup.format.keys import Recipient, RecoveryKey
from backup.inventory.database import Inventory, create_inventory, require_file
from backup.inventory.identities import used_identity
from backup.inventory.locks import hold_lock
from backup.model import InventoryId
from backup.protocols import Clock, Vault
from backup.transfer.recognise import missing_vault, recognise
from backup.transfer.retry import FIRST_CONTACT, Patience

_REQUEST = "nightvault enrolment request"
_ENROLMENT = "nightvault enrolment"


class Installation(Struct, frozen=True):
    """An installation that `init` made or found."""

    created: bool
    inventory_id: InventoryId
    signer_fingerprint: str
    recipients: tuple[Recipient, ...]
    enrolled: int


def initialise(
    config: Config, recipients: Sequence[Recipient], key: RecoveryKey | None, clock: Clock
) -> Installation:
    """Make what is missing: state directory, keys, inventory. What is there stays as it is.

    `recipients` are those to seal for if neither the config nor an earlier `init` names any; `key`, if it is
    at hand, enrols the signer at once.
    """
    require_file(config.inventory_url)
    state = State(config.state_dir)
    state.create()
    inventory, created = _find_or_create(config, state, clock)
    with closing(inventory):
        signer = read_signer(state, inventory)
        state.read_secret()
        if not recipients_of(config) and recipients:
            state.write_recipients(recipients)
        if key is not None:
            enrol_here(state, key, inventory.id, signer.public, inventory.ancestors)
        names = parse_recipients(recipients_of(config))
        enrolled = state.read_enrolments()
        return Installation(
            created=created,
            inventory_id=inventory.id,
            signer_fingerprint=signer.fingerprint.hex(),
            recipients=names,
            enrolled=sum(one.id in enrolled for one in names),
        )


def enrol_here(
    state: State,
    key: RecoveryKey,
    inventory_id: InventoryId,
    signer_public: bytes,
    ancestors: Sequence[InventoryId],
) -> None:
    """Have a recovery key that is at hand vouch for this server, in both versions."""
    recipient = key.recipient.id
    state.add_enrolment(recipient, key.enrolment_tag(inventory_id, signer_public))
    signature = enrol_signature(key, inventory_id, signer_public, ancestors)
    state.add_signed_enrolment(recipient, SignedEnrolment(enrolment_key(key), signature))


def _find_or_create(config: Config, state: State, clock: Clock) -> tuple[Inventory, bool]:
    """The inventory, and whether it is new; keys are drawn for a new one only, by one process at a time."""
    with suppress(NoInventoryError):
        return opened(config), False
    with hold_lock(config.state_dir, "backup"):
        with suppress(NoInventoryError):  # made by somebody else meanwhile
            return opened(config), False
        return _create(config, state, clock), True


def _create(config: Config, state: State, clock: Clock) -> Inventory:
    signer = state.write_new_keys()
    state.forget_enrolments()  # of an inventory that was here before
    return create_inventory(
        config.inventory_url,
        inventory_id=InventoryId(os.urandom(16)),
        signer_public=signer.public,
        now=clock.now(),
        lock_directory=config.state_dir,
    )


def create_vaults(config: Config, clock: Clock) -> list[str]:
    """Create the vaults of the config that do not exist, record the identity of each; returns their names.

    `VaultMissingError` for one that was known and is gone, `OtherVaultError` if another one is in its place.
    """
    with closing(opened(config)) as inventory:
        for settings in config.vaults:
            vault, patience = (
                make_vault(config, settings.name, Purpose.BACKUP, clock),
                Patience(clock, limit=FIRST_CONTACT),
            )
            _refuse_gone(inventory, vault)
            vault.create()
            recognise(inventory, vault, patience)
    return [settings.name for settings in config.vaults]


def _refuse_gone(inventory: Inventory, vault: Vault) -> None:
    """Refuse a vault that was used and is gone: a disk that is not mounted must not get a new, empty one."""
    with inventory.reading() as tx:
        if used_identity(tx, vault.name) is None:
            return
    state = vault.state()
    if not state.exists:
        raise missing_vault(inventory, vault.name, state.location)


def enrolment_request(config: Config, inventory: Inventory) -> dict[str, Any]:
    """The request to be carried to the recovery key; it holds no secret."""
    recipients = parse_recipients(recipients_of(config))
    return {
        "kind": _REQUEST,
        "inventory": inventory.id.hex(),
        "signer": inventory.signer_public.hex(),
        "recipients": [recipient.id.hex() for recipient in recipients],
    }


def enrol(request: str, key: RecoveryKey) -> dict[str, Any]:
    """The enrolment by a recovery key of the signer in a request; it holds no secret. `RecoveryKeyError`."""
    fields = _read(request, _REQUEST, ("inventory", "signer", "recipients"))
    recipient = key.recipient.id
    if recipient.hex() not in fields["recipients"]:
        raise RecoveryKeyError(
            f"this server does not seal for the recipient {recipient.hex()} of this key",
            advice="use the key of one of: " + ", ".join(fields["recipients"]),
        )
    inventory_id, signer = bytes.fromhex(fields["inventory"]), bytes.fromhex(fields["signer"])
    return {
        "kind": _ENROLMENT,
        "inventory": fields["inventory"],
        "signer": fields["signer"],
        "recipient": recipient.hex(),
        "tag": key.enrolment_tag(InventoryId(inventory_id), signer).hex(),
    }


def accept(enrolment: str, config: Config, inventory: Inventory) -> bytes:
    """Keep an enrolment that was made for this inventory and signer; returns the recipient's id."""
    fields = _read(enrolment, _ENROLMENT, ("inventory", "signer", "recipient", "tag"))
    if (fields["inventory"], fields["signer"]) != (inventory.id.hex(), inventory.signer_public.hex()):
        raise UsageError(
            "this enrolment was made for another inventory or signer", advice="ask for a new one"
        )
    recipient, tag = bytes.fromhex(fields["recipient"]), bytes.fromhex(fields["tag"])
    if recipient not in {one.id for one in parse_recipients(recipients_of(config))}:
        raise UsageError(f"this enrolment is of a recipient that we do not seal for: {recipient.hex()}")
    State(config.state_dir).add_enrolment(recipient, tag)
    return recipient


def _read(text: str, kind: str, names: Sequence[str]) -> dict[str, Any]:
    try:
        fields = json.loads(text)
        whole = fields["kind"] == kind and all(name in fields for name in names)
        for name in names:
            for text in fields[name] if isinstance(fields[name], list) else [fields[name]]:
                bytes.fromhex(text)
    except (ValueError, KeyError, TypeError, RecursionError):
        whole, fields = False, {}
    if not whole:
        raise UsageError(f"this is not a {kind}", advice="give the file as nightvault printed it")
    return dict(fields)
