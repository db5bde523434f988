"""Vaults that were replaced by another one under their name: shown, and accepted by the user."""

from __future__ import annotations

import os

from msgspec import Struct

from backup.app.base.run_context import RunContext
from backup.app.base.vaults import Purpose, make_vault
from backup.app.checks.checks import check_context
from backup.checker.check import compare_with_vault
from backup.config import Config
from backup.errors import UnmarkedVaultError
from backup.inventory.content import identities
from backup.inventory.content.archives import ArchiveState, vault_totals
from backup.inventory.store.database import Inventory
from backup.model import VaultIdentity, VaultName
from backup.protocols import Clock, Progress, Vault
from backup.transfer.recognise import Meeting, adopt, meet
from backup.transfer.retry import FIRST_CONTACT, RetryPolicy


class ReplacedVault(Struct, frozen=True):
    """A vault as the inventory knows it, and as it is now; `archives` is the number stored in the old one.

    `unmarked` says whether its marker is missing or damaged; empty if it is intact.
    """

    vault: VaultName
    location: str
    exists: bool
    meeting: Meeting
    archives: int
    unmarked: str = ""

    @property
    def before(self) -> VaultIdentity | None:
        """The identity that the inventory knows; None if it knows none."""
        return self.meeting.known

    @property
    def is_known(self) -> bool:
        """Whether it is the one that the inventory knows."""
        return self.exists and self.before is not None and not self.meeting.is_other

    @property
    def present_state(self) -> str:
        """The part of a sentence, after a comma, that says what is there now."""
        if not self.exists:
            return "and is not there: a new one is made"
        if self.unmarked:
            return f"and is not to be recognised now: {self.unmarked}; a new one is written"
        return (
            f"and now is {self.meeting.found[0]}" if self.meeting.found else "and now nothing there is known"
        )


class Accepted(Struct, frozen=True):
    """The identity by which the vault is known from now on, and the number of archives that it lacks."""

    identity: VaultIdentity | None
    missing: int


def look_at_vault(config: Config, inventory: Inventory, name: str, clock: Clock) -> ReplacedVault:
    """Compare the vault with what the inventory knows of it. Nothing is changed."""
    vault = make_vault(config, name, Purpose.BACKUP, clock)
    patience = RetryPolicy(clock, limit=FIRST_CONTACT)
    state = patience.call(vault.state)
    with inventory.reading() as tx:
        known = identities.vault_identity(tx, vault.name)
        count, _ = vault_totals(tx).get(vault.name, (0, 0))
    meeting, unmarked = Meeting(known, ()), ""
    if state.exists:
        try:
            meeting = meet(inventory, vault, patience)
        except UnmarkedVaultError as error:
            unmarked = str(error)
    return ReplacedVault(vault.name, state.location, state.exists, meeting, count, unmarked)


def accept_vault(
    config: Config, inventory: Inventory, found: ReplacedVault, *, clock: Clock, progress: Progress
) -> Accepted:
    """Record the vault's present identity, and build on no archive that its list does not show.

    Missing archives are marked as lost: those that its list lacks, or all of them until a check finds them if
    the list takes hours. No backup may run meanwhile.
    """
    vault = make_vault(config, found.vault, Purpose.BACKUP, clock)
    patience = RetryPolicy(clock, limit=FIRST_CONTACT)
    with inventory.locked("backup"):
        if not found.exists:
            patience.call(vault.create)
        lists = vault.traits.lists_at_once
        state = ArchiveState.UNCONFIRMED if lists else ArchiveState.LOST
        with inventory.writing() as tx:
            count = identities.set_state_of_contents(tx, vault.name, state)
        if found.unmarked:
            token = _known_again(inventory, found, vault, patience) or os.urandom(16).hex()
            patience.call(lambda: vault.add_identity(inventory.id, token))
        identity = adopt(inventory, vault, patience, patience.call(lambda: vault.identities(inventory.id)))
    if not lists:
        return Accepted(identity, count)
    at = RunContext(config=config, inventory=inventory, clock=clock, progress=progress)
    report = compare_with_vault(check_context(at, found.vault))
    return Accepted(identity, sum(finding.kind == "missing" for finding in report.findings))


def _known_again(
    inventory: Inventory, found: ReplacedVault, vault: Vault, patience: RetryPolicy
) -> VaultIdentity | None:
    """The known identity of a vault without its marker, if it shows what was stored last.

    It gets that one again: other servers that use it know it by it.
    """
    with inventory.reading() as tx:
        wanted = identities.evidence(tx, vault.name)
    if wanted is None or found.before is None:
        return None
    listing = patience.call(lambda: vault.fetch_listing(vault.request_listing("identity")))
    is_it = any(archive.archive_id == wanted.archive_id for archive in listing.archives)
    return found.before if is_it else None
