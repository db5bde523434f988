"""Makes sure, before a run writes, that the vault is the one that the inventory knows.

Another disk may be mounted at the same path: a backup would say that all is well, and could not be rebuilt.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from msgspec import Struct

from backup.errors import NightvaultError, OtherVaultError, VaultMissingError
from backup.inventory.content import identities
from backup.inventory.content.identities import Evidence
from backup.inventory.store.database import Inventory
from backup.model import PackKind, VaultIdentity, VaultName
from backup.protocols import Clock, Vault
from backup.transfer.retry import RetryPolicy
from backup.wording import sentences

_MOST_APART = timedelta(minutes=5)


class Meeting(Struct, frozen=True):
    """A vault's recorded identity, and the identities that it shows now."""

    known: VaultIdentity | None
    found: Sequence[VaultIdentity]

    @property
    def is_other(self) -> bool:
        """Whether it is another vault than before."""
        return self.known is not None and self.known not in self.found


class Clocks(Struct, frozen=True):
    """The time by a vault's own clock, None where it has none, and by this machine's."""

    there: datetime | None
    here: datetime

    @property
    def are_apart(self) -> bool:
        """Whether they differ by more than five minutes: then the age of archives is not certain."""
        return self.there is not None and abs(self.there - self.here) > _MOST_APART

    def text(self, vault: VaultName) -> str:
        """Both times, in words."""
        shown = f"{self.there:%Y-%m-%d %H:%M:%S}" if self.there else "nothing"
        return f"this machine's clock says {self.here:%Y-%m-%d %H:%M:%S} UTC, vault {vault} says {shown} UTC"


def compare_clocks(vault: Vault, clock: Clock, patience: RetryPolicy) -> Clocks:
    """Read both clocks; one request."""
    there = patience.call(vault.state).at
    return Clocks(there, clock.now())


def meet(inventory: Inventory, vault: Vault, patience: RetryPolicy) -> Meeting:
    """Return the recorded and the shown identity; one request. `VaultMissingError` if there is no vault."""
    with inventory.reading() as tx:
        known = identities.vault_identity(tx, vault.name)
    try:
        found = patience.call(lambda: vault.identities(inventory.id))
    except VaultMissingError as error:
        raise missing_vault(inventory, vault.name, patience.call(vault.state).location) from error
    return Meeting(known, found)


def missing_vault(inventory: Inventory, vault: VaultName, location: str) -> VaultMissingError:
    """The error of a vault that is not there: `init` makes one that was never used, and no other."""
    with inventory.reading() as tx:
        known = identities.used_identity(tx, vault)
    if known is None:
        return VaultMissingError(
            f"vault {vault} is not there: {location}",
            advice="`nightvault init` makes it; if it was there before, find out what became of it first",
        )
    is_in_aws = "://" in location
    found_by = "compare its name, account and region with the config" if is_in_aws else "mount its disk"
    return VaultMissingError(
        f"vault {vault} was {known}, and is not there: {location}",
        advice=f"{found_by}, or find out what became of it; if it is gone for good, "
        f"`nightvault vaults accept {vault}` makes a new one",
    )


def require_same(inventory: Inventory, vault: Vault, patience: RetryPolicy) -> None:
    """`OtherVaultError` if it is another vault than before; one whose identity is not recorded yet passes."""
    meeting = meet(inventory, vault, patience)
    if meeting.is_other:
        raise other_vault(meeting, vault)


def recognise(inventory: Inventory, vault: Vault, patience: RetryPolicy) -> None:
    """As `require_same`, and record the identity; a vault without one must show our newest archive.

    If nothing was ever stored, any vault is accepted.
    """
    meeting = meet(inventory, vault, patience)
    if meeting.known is not None and not meeting.is_other:
        return
    with inventory.reading() as tx:
        wanted, used = identities.evidence(tx, vault.name), identities.was_used(tx, vault.name)
    if meeting.is_other and used:
        raise other_vault(meeting, vault)
    if wanted is not None and vault.traits.lists_at_once:
        _require_shown(wanted, vault, patience)
    adopt(inventory, vault, patience, meeting.found)


def adopt(
    inventory: Inventory, vault: Vault, patience: RetryPolicy, found: Sequence[VaultIdentity]
) -> VaultIdentity | None:
    """Record the identity that the vault shows; if it shows none, one is stored in it first."""
    if not found:
        token = os.urandom(16).hex()
        patience.call(lambda: vault.add_identity(inventory.id, token))
        found = patience.call(lambda: vault.identities(inventory.id))
    if not found:  # its list is late: the next run sees it
        return None
    identity = min(found)
    with inventory.writing() as tx:
        identities.set_vault_identity(tx, vault.name, identity)
    return identity


def other_vault(meeting: Meeting, vault: Vault) -> OtherVaultError:
    """The error that names both vaults, and says what to do."""
    where = ""
    with suppress(NightvaultError):
        where = f" ({vault.state().location})"
    now = f"now it is {meeting.found[0]}" if meeting.found else "now nothing there is known to this inventory"
    told = f"is another one than before: it was {meeting.known}, {now}"
    if meeting.known is None:
        told = f"shows nothing of what was stored in it; {now}"
    return OtherVaultError(
        f"vault {vault.name}{where} {told}",
        advice=sentences(
            vault.traits.if_missing,
            "mount the right disk, or correct the config; if the vault was replaced on purpose, "
            f"`nightvault vaults accept {vault.name}` says what that means and goes on with it",
        ),
    )


def _require_shown(wanted: Evidence, vault: Vault, patience: RetryPolicy) -> None:
    """`OtherVaultError` unless the vault lists the newest catalog that was stored in it."""
    listing = patience.call(lambda: vault.fetch_listing(vault.request_listing("identity")))
    if all(archive.archive_id != wanted.archive_id for archive in listing.archives):
        what = "catalog" if wanted.kind is PackKind.CATALOG else "archive"
        raise OtherVaultError(
            f"vault {vault.name} ({patience.call(vault.state).location}) may be another vault: it does not "
            f"show the newest {what} that was stored, {wanted.archive_id}, stored "
            f"{wanted.stored_at:%Y-%m-%d %H:%M} UTC",
            advice=sentences(
                vault.traits.if_missing,
                "mount the right disk, or correct the config; if it is right and has lost that archive, "
                f"`nightvault vaults accept {vault.name}` says what that means and goes on with it",
            ),
        )
