"""Sets up keys, inventory and vaults of a new installation; a recovery key, if given, enrols its signer."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress

from msgspec import Struct

from backup.app.backups.contexts import read_signer, recipients_of
from backup.app.base.opened import opened
from backup.app.base.silent_mounts import kinds_of_mounts
from backup.app.base.state import SignedEnrolment, State, parse_recipients
from backup.app.base.vaults import Purpose, make_vault
from backup.config import Config
from backup.errors import NightvaultError, NoInventoryError, VaultError
from backup.format.enrolment import enrol as enrol_signature
from backup.format.enrolment import enrolment_key
from backup.format.keys import Recipient, RecoveryKey
from backup.inventory.content.identities import used_identity
from backup.inventory.store.database import Inventory, create_inventory, require_file
from backup.inventory.store.locks import hold_lock
from backup.model import InventoryId, VaultName
from backup.protocols import Clock, Vault
from backup.transfer.recognise import missing_vault, recognise
from backup.transfer.retry import FIRST_CONTACT, RetryPolicy
from backup.wording import printable

_OF_THE_KERNEL = frozenset(
    {"cgroup", "cgroup2", "debugfs", "devpts", "proc", "securityfs", "sysfs", "tracefs"}
)


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
    """Create what is missing: state directory, keys, inventory. What exists stays as it is.

    `recipients` are those to seal for if neither the config nor an earlier `init` names any; `key`, if given,
    enrols the signer at once.
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
            enrolled=sum(recipient.id in enrolled for recipient in names),
        )


def enrol_here(
    state: State,
    key: RecoveryKey,
    inventory_id: InventoryId,
    signer_public: bytes,
    ancestors: Sequence[InventoryId],
) -> None:
    """Enrol this server by a recovery key that is on this machine, in both versions."""
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
    """Create the config's vaults that do not exist, record the identity of each, and return their names.

    One that is not set up in AWS yet is left out. `VaultMissingError` for a known vault that is gone,
    `OtherVaultError` if it was replaced.
    """
    with closing(opened(config)) as inventory:
        there = [settings for settings in config.vaults if not config.gaps_of(settings)]
        for settings in there:
            vault = make_vault(config, settings.name, Purpose.BACKUP, clock)
            with naming(settings.name):
                _refuse_gone(inventory, vault)
                if settings.path is not None:
                    _refuse_no_directory(settings.path)
                vault.create()
                recognise(inventory, vault, RetryPolicy(clock, limit=FIRST_CONTACT))
    return [settings.name for settings in there]


@contextmanager
def naming(vault: VaultName) -> Iterator[None]:
    """A context manager that adds the vault's name to our errors."""
    try:
        yield
    except NightvaultError as error:
        if not str(error).startswith(f"vault {vault}"):
            error.args = (f"vault {vault}: {error}",)
        raise


def _refuse_no_directory(path: str) -> None:
    """Refuse a vault's path that can never be a directory; `VaultError` says what is in its way."""
    step = os.path.abspath(path)
    while not os.path.lexists(step):
        step = os.path.dirname(step)
    if os.path.exists(step) and not os.path.isdir(step):
        raise VaultError(
            f"{printable(step)} is no directory",
            advice="set path in its [[vault]] to a directory, or to where one can be made",
        )
    mounts = kinds_of_mounts()
    place = os.path.realpath(step)
    while place not in mounts and place != "/":
        place = os.path.dirname(place)
    if mounts.get(place) in _OF_THE_KERNEL:
        raise VaultError(
            f"{printable(path)} lies in {place}, a file system of the kernel that stores no files",
            advice="set path in its [[vault]] to a directory on a disk",
        )


def _refuse_gone(inventory: Inventory, vault: Vault) -> None:
    """Refuse a vault that was used and is gone: a disk that is not mounted must not get a new, empty one."""
    with inventory.reading() as tx:
        if used_identity(tx, vault.name) is None:
            return
    state = vault.state()
    if not state.exists:
        raise missing_vault(inventory, vault.name, state.location)
