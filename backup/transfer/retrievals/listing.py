"""A vault's own list: asked for once, kept when it comes, since asking again costs hours."""

from __future__ import annotations

import os
from typing import Any

from sqlalchemy import Row

from backup.errors import VaultError
from backup.inventory import archives, retrievals
from backup.inventory.database import Inventory, Transaction
from backup.model import ListingId, RetrievalState
from backup.protocols import Clock, Vault
from backup.transfer.retry import Patience


def request_listing(
    inventory: Inventory, vault: Vault, clock: Clock, patience: Patience | None = None
) -> None:
    """Ask for a listing, unless one is on its way already.

    A request whose answer was lost is found again by its token. `VaultError` if the vault has none to give.
    """
    with inventory.reading() as tx:
        if retrievals.newest_listing(tx, vault.name, state="waiting") is not None:
            return
        lost = retrievals.newest_listing(tx, vault.name, state="planned")
    patience = patience or Patience(clock)
    if lost is not None:
        asked = patience.call(vault.open_retrievals).get(lost.token)
        with inventory.writing() as tx:
            if asked is not None:
                retrievals.listing_requested(tx, lost.number, ListingId(asked))
                return
            retrievals.drop_listing(tx, lost.number)
    token = os.urandom(12).hex()
    with inventory.writing() as tx:
        number = retrievals.open_listing(tx, archives.get_or_create_vault(tx, vault.name), token, clock.now())
    try:
        listing_id = patience.call(lambda: vault.request_listing(token))
    except Exception:
        with inventory.writing() as tx:
            retrievals.drop_listing(tx, number)
        raise
    with inventory.writing() as tx:
        retrievals.listing_requested(tx, number, listing_id)


def continue_listing(
    inventory: Inventory, vault: Vault, clock: Clock, patience: Patience | None = None
) -> bool:
    """Bring down the listing that is on its way, if it is ready; whether none is on its way any more.

    `VaultError` if the vault could not make it, or keeps it no longer; it can be asked for again then.
    """
    with inventory.reading() as tx:
        waiting = retrievals.newest_listing(tx, vault.name, state="waiting")
    if waiting is None:
        return True
    patience = patience or Patience(clock)
    listing_id = ListingId(waiting.listing_id)
    status = patience.call(lambda: vault.listing_status(listing_id))
    if status.state is RetrievalState.WAITING:
        return False
    if status.state is not RetrievalState.READY:
        with inventory.writing() as tx:
            retrievals.drop_listing(tx, waiting.number)
        raise VaultError(
            f"the list of vault {vault.name} is {status.state}: {status.message or 'no reason given'}",
            advice=f"ask again: `nightvault listing request {vault.name}`",
        )
    listing = patience.call(lambda: vault.fetch_listing(listing_id))
    with inventory.writing() as tx:
        retrievals.keep_listing(tx, waiting.number, listing)
    return True


def newest_kept_head(tx: Transaction, vault: Vault) -> Row[Any] | None:
    """The row of the newest listing that was brought down: number, requested_at, as_of."""
    return retrievals.newest_listing(tx, vault.name, state="kept")


def newest_kept(inventory: Inventory, vault: Vault) -> tuple[Row[Any], list[Row[Any]]] | None:
    """The newest listing that was brought down: its row and its lines."""
    with inventory.reading() as tx:
        listing = retrievals.newest_listing(tx, vault.name, state="kept")
        return None if listing is None else (listing, retrievals.kept_archives(tx, listing.number))
