"""Make sure, before a run writes, that it is the known vault and the inventory is as new as it.

Another disk may be mounted at the same path; a server may have been restored from its own backup. Either way
a backup would say that all is well, and could not be rebuilt.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from msgspec import Struct

from backup.errors import NightvaultError, OlderInventoryError, OtherVaultError, VaultMissingError
from backup.format.pack import parse_description
from backup.inventory import identities
from backup.inventory.database import Inventory
from backup.inventory.identities import Evidence, KnownCatalog
from backup.model import ArchiveLabel, PackKind, VaultIdentity, VaultName
from backup.protocols import Clock, Vault
from backup.transfer.retry import Patience

_MOST_APART = timedelta(minutes=5)

OLDER = (
    "if this state directory was brought back from a copy: `nightvault rebuild --set-aside --key FILE` makes "
    "the inventory anew from the vault, and deletes nothing; if another machine works with a copy of it, "
    "stop that one first"
)


class Meeting(Struct, frozen=True):
    """The identity that a vault was known by, and what it shows now."""

    known: VaultIdentity | None
    found: Sequence[VaultIdentity]

    @property
    def is_other(self) -> bool:
        """Whether it is another vault than before."""
        return self.known is not None and self.known not in self.found


def require_vault(inventory: Inventory, vault: Vault, patience: Patience) -> None:
    """Learn before anything is written that the vault is away, denied, gone, another one, or ahead of us.

    One whose identity is not known yet gets one, if it shows what the inventory has in it. One or two lists,
    or one DescribeVault. `VaultMissingError`, `OtherVaultError`, `OlderInventoryError`.
    """
    recognise(inventory, vault, patience)
    refuse_older(inventory, vault, patience)


class Clocks(Struct, frozen=True):
    """The time by a vault's own clock, None where it has none, and by this machine's."""

    there: datetime | None
    here: datetime

    @property
    def are_apart(self) -> bool:
        """Whether they differ by more than five minutes: then nobody knows which nights are old."""
        return self.there is not None and abs(self.there - self.here) > _MOST_APART

    def told(self, vault: VaultName) -> str:
        """Both, in words."""
        shown = f"{self.there:%Y-%m-%d %H:%M:%S}" if self.there else "nothing"
        return f"this machine's clock says {self.here:%Y-%m-%d %H:%M:%S} UTC, vault {vault} says {shown} UTC"


def compare_clocks(vault: Vault, clock: Clock, patience: Patience) -> Clocks:
    """Both clocks; one request."""
    there = patience.call(vault.state).at
    return Clocks(there, clock.now())


def meet(inventory: Inventory, vault: Vault, patience: Patience) -> Meeting:
    """Compare, and conclude nothing; one request. `VaultMissingError` if it is not there."""
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
    return VaultMissingError(
        f"vault {vault} was {known}, and is not there: {location}",
        advice="mount its disk, or find out what became of it; if it is gone for good, "
        f"`nightvault vaults accept {vault}` makes a new one",
    )


def require_same(inventory: Inventory, vault: Vault, patience: Patience) -> None:
    """`OtherVaultError` if it is another vault than before; one that is not known yet will do."""
    meeting = meet(inventory, vault, patience)
    if meeting.is_other:
        raise other_vault(meeting, vault)


def recognise(inventory: Inventory, vault: Vault, patience: Patience) -> None:
    """The same, and know it from now on: one that is not known yet must show what we have in it.

    Where nothing was ever stored, whatever stands there will do.
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
    inventory: Inventory, vault: Vault, patience: Patience, found: Sequence[VaultIdentity]
) -> VaultIdentity | None:
    """Know the vault by what it shows, which is left there first where it shows nothing."""
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
    """The error that names both, and the way out."""
    where = ""
    with suppress(NightvaultError):
        where = f" ({vault.state().location})"
    now = f"now it is {meeting.found[0]}" if meeting.found else "now nothing there is known to this inventory"
    told = f"is another one than before: it was {meeting.known}, {now}"
    if meeting.known is None:
        told = f"shows nothing of what was stored in it; {now}"
    return OtherVaultError(
        f"vault {vault.name}{where} {told}",
        advice="mount the right disk, or correct the config; if the vault was replaced on purpose, "
        f"`nightvault vaults accept {vault.name}` says what that means and goes on with it",
    )


def _require_shown(wanted: Evidence, vault: Vault, patience: Patience) -> None:
    """`OtherVaultError` unless the vault lists the newest catalog that was stored in it."""
    listing = patience.call(lambda: vault.fetch_listing(vault.request_listing("identity")))
    if all(one.archive_id != wanted.archive_id for one in listing.archives):
        what = "catalog" if wanted.kind is PackKind.CATALOG else "archive"
        raise OtherVaultError(
            f"vault {vault.name} ({patience.call(vault.state).location}) may be another vault: it does not "
            f"show the newest {what} that was stored, {wanted.archive_id}, stored "
            f"{wanted.stored_at:%Y-%m-%d %H:%M} UTC",
            advice="mount the right disk, or correct the config; if it is right and has lost that archive, "
            f"`nightvault vaults accept {vault.name}` says what that means and goes on with it",
        )


# Is the inventory as new as the vault.


class Ahead(Struct, frozen=True):
    """A catalog of this inventory in the vault that it never wrote, though it is as new as its newest."""

    label: ArchiveLabel
    created_at: datetime
    known: KnownCatalog | None  # the job's newest that the inventory knows

    def told(self) -> str:
        """Both, with numbers and dates."""
        job = f"job {self.known.job}" if self.known else "a job that this inventory does not know"
        ours = (
            f"here the newest is catalog {self.known.number} of {self.known.submitted_at:%Y-%m-%d %H:%M} UTC"
            if self.known
            else "here there is none"
        )
        return f"catalog {self.label.number} of {job}, of {self.created_at:%Y-%m-%d %H:%M} UTC, and {ours}"


def refuse_older(inventory: Inventory, vault: Vault, patience: Patience) -> None:
    """`OlderInventoryError` if the vault has newer catalogs of this inventory than it knows itself.

    By what the vault shows now; where lists take hours, by the newest one that was fetched.
    """
    newest = ahead(inventory, vault, patience)
    if newest is not None:
        raise OlderInventoryError(
            f"this inventory is older than what it wrote: vault {vault.name} holds {newest.told()}",
            advice=OLDER,
        )


def ahead(inventory: Inventory, vault: Vault, patience: Patience) -> Ahead | None:
    """The newest catalog that this inventory must have written and does not know."""
    with inventory.reading() as tx:
        known = identities.newest_known(tx)
    if vault.traits.lists_at_once:
        numbers = {job: one.number for job, one in known.items()}
        listed = patience.call(lambda: vault.newest_catalogs(inventory.id, numbers))
        found = [(one.label, one.created_at) for one in listed]
    else:
        with inventory.reading() as tx:
            lines = identities.kept_lines(tx, vault.name, inventory.id)
        found = [(parse_description(description), created_at) for description, created_at in lines]
    newer = [
        Ahead(label, created_at, known.get(label.job_id or b""))
        for label, created_at in found
        if label is not None and label.is_catalog_of(inventory.id)
    ]
    newer = [one for one in newer if one.known is None or one.label.number >= one.known.number]
    with inventory.reading() as tx:
        strangers = identities.unknown_packs(tx, (one.label.pack_id for one in newer))
    newer = [one for one in newer if one.label.pack_id in strangers]
    return max(newer, key=lambda one: (one.created_at, one.label.number), default=None)
