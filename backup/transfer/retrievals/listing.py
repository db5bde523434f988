"""A vault's own list: asked for once, kept when it comes, since asking again costs hours."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Protocol

from msgspec import Struct

from backup.errors import NightvaultError, VaultError
from backup.inventory.content import archives
from backup.inventory.records import retrievals
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.inventory.store.states import ListingStage
from backup.inventory.store.times import moment
from backup.model import Listing, ListingId, RetrievalId, RetrievalState
from backup.protocols import Clock, Vault
from backup.transfer.retrievals.freshness import LISTING_FRESH, may_be_unknown
from backup.transfer.retrievals.once import ask_once, new_token
from backup.transfer.retry import RetryPolicy


class ListingRequest(Struct, frozen=True):
    """A request for the list, before its answer (`listing_id` None) or after; `number` is the store's own."""

    token: str
    listing_id: ListingId | None = None
    requested_at: datetime | None = None
    number: int = 0


class ListingStore(Protocol):
    """Remembers one vault's request for its list: each method has lasted when it returns."""

    def under_way(self) -> ListingRequest | None:
        """The request that was planned or sent, and not dropped or kept since."""
        ...

    def plan(self, token: str, now: datetime) -> ListingRequest:
        """Record a request that is about to be sent."""
        ...

    def accepted(self, request: ListingRequest, listing_id: ListingId, now: datetime) -> ListingRequest:
        """Record that the vault accepted the request."""
        ...

    def drop(self, request: ListingRequest) -> None:
        """Forget the request: the vault did not accept it, or has no output of it."""
        ...

    def keep(self, request: ListingRequest, listing: Listing) -> None:
        """Keep the list that was fetched."""
        ...


def ask_for_listing(store: ListingStore, vault: Vault, clock: Clock, patience: RetryPolicy) -> ListingRequest:
    """The request that is under way, sent now if there is none.

    One whose answer was lost is found again by its token. `VaultError` if the vault has none to give.
    """
    known = store.under_way()
    if known is not None and known.listing_id is not None:
        return known
    if known is not None:
        found = patience.call(vault.open_retrievals).get(known.token)
        if found is not None:
            return store.accepted(known, ListingId(found), clock.now())
        store.drop(known)
    request = store.plan(new_token(), clock.now())
    try:
        listing_id = ask_once(
            vault, patience, request.token, lambda: RetrievalId(vault.request_listing(request.token))
        )
    except NightvaultError as error:
        if not error.retryable:  # else the vault may have taken it, and its token finds it
            store.drop(request)
        raise
    return store.accepted(request, ListingId(listing_id), clock.now())


def bring_listing(
    store: ListingStore,
    request: ListingRequest,
    vault: Vault,
    clock: Clock,
    patience: RetryPolicy,
    *,
    again: str,
) -> Listing | None:
    """The list that was asked for, kept; None while it is on its way.

    `VaultError` if the vault could not make it, or keeps it no longer; `again` is the advice on how to
    request it again.
    """
    listing_id = request.listing_id
    if listing_id is None:
        return None
    status = patience.call(lambda: vault.listing_status(listing_id))
    if status.state is RetrievalState.READY:
        listing = patience.call(lambda: vault.fetch_listing(listing_id))
        store.keep(request, listing)
        return listing
    if status.state is RetrievalState.WAITING:
        return None
    if may_be_unknown(status.state, request.requested_at, clock, vault.traits, within=LISTING_FRESH):
        return None
    store.drop(request)
    raise VaultError(
        f"the list of vault {vault.name} is {status.state}: {status.message or 'no reason given'}",
        advice=again,
    )


class InventoryListings:
    """The listings of one vault in the inventory, where the newest that came is kept with its lines."""

    def __init__(self, inventory: Inventory, vault: Vault) -> None:
        self._inventory = inventory
        self._vault = vault.name

    def under_way(self) -> ListingRequest | None:
        """The newest that waits, else the newest that was planned."""
        with self._inventory.reading() as tx:
            row = retrievals.newest_listing(tx, self._vault, state=ListingStage.WAITING)
            row = row or retrievals.newest_listing(tx, self._vault, state=ListingStage.PLANNED)
        if row is None:
            return None
        listing_id = ListingId(row.listing_id) if row.listing_id else None
        return ListingRequest(row.token, listing_id, moment(row.requested_at), row.number)

    def plan(self, token: str, now: datetime) -> ListingRequest:
        """A row before it is sent; what is stored from now on need not be in the list."""
        with self._inventory.writing() as tx:
            vault = archives.get_or_create_vault(tx, self._vault)
            number = retrievals.open_listing(tx, vault, token, now)
        return ListingRequest(token, None, now, number)

    def accepted(self, request: ListingRequest, listing_id: ListingId, now: datetime) -> ListingRequest:  # noqa: ARG002 (the time of the plan is what comparisons need)
        """The row waits from now on."""
        with self._inventory.writing() as tx:
            retrievals.listing_requested(tx, request.number, listing_id)
        return ListingRequest(request.token, listing_id, request.requested_at, request.number)

    def drop(self, request: ListingRequest) -> None:
        """Delete the row."""
        with self._inventory.writing() as tx:
            retrievals.drop_listing(tx, request.number)

    def keep(self, request: ListingRequest, listing: Listing) -> None:
        """Keep all its lines, and those of older ones no longer."""
        with self._inventory.writing() as tx:
            if retrievals.keep_listing(tx, request.number, listing):
                retrievals.forget_older_listings(tx, request.number)


def request_listing(
    inventory: Inventory, vault: Vault, clock: Clock, patience: RetryPolicy | None = None
) -> None:
    """Ask for a listing, unless one is on its way already. `VaultError` if the vault has none to give."""
    ask_for_listing(InventoryListings(inventory, vault), vault, clock, patience or RetryPolicy(clock))


def continue_listing(
    inventory: Inventory, vault: Vault, clock: Clock, patience: RetryPolicy | None = None
) -> bool:
    """Fetch the listing that is on its way, if it is ready; returns whether none is on its way any more.

    `VaultError` if the vault could not make it, or keeps it no longer; it can be asked for again then.
    """
    store = InventoryListings(inventory, vault)
    request = store.under_way()
    if request is None or request.listing_id is None:
        return True
    again = f"ask again: `nightvault listing request {vault.name}`"
    came = bring_listing(store, request, vault, clock, patience or RetryPolicy(clock), again=again)
    return came is not None


FRESH: Final = timedelta(hours=24)
"""A cold vault makes its list once a day: asking again gives the same one."""
THE_LIST: Final = "the vault's own list"
_FIRST_LIST: Final = "the vault to make its first list, which takes up to a day"


def see_to_listing(
    inventory: Inventory,
    vault: Vault,
    clock: Clock,
    patience: RetryPolicy,
    note: Callable[[str], None],
    *,
    since: datetime | None = None,
) -> str:
    """Get the newest list that can be had; returns what it waits for, empty once a list is kept.

    With `since`, one that was asked for before then is not new enough, whatever its age.
    """
    with inventory.reading() as tx:
        waiting = retrievals.newest_listing(tx, vault.name, state=ListingStage.WAITING)
    if waiting is not None:
        try:
            return "" if continue_listing(inventory, vault, clock, patience) else THE_LIST
        except VaultError as error:  # made, but gone before anybody fetched it
            note(f"{error}: it is asked for again")
    elif _has_fresh(inventory, vault, clock, since):
        return ""
    try:
        request_listing(inventory, vault, clock, patience)
    except VaultError:
        if vault.traits.waits and patience.call(vault.state).listed_at is None:
            return _FIRST_LIST
        raise
    return "" if continue_listing(inventory, vault, clock, patience) else THE_LIST


def _has_fresh(inventory: Inventory, vault: Vault, clock: Clock, since: datetime | None) -> bool:
    if vault.traits.lists_at_once:
        return False
    with inventory.reading() as tx:
        head = newest_kept_head(tx, vault)
    if head is None or (since is not None and moment(head.requested_at) < since):
        return False
    return abs(clock.now() - moment(head.requested_at)) < FRESH


def newest_kept_head(tx: Transaction, vault: Vault) -> retrievals.ListingRow | None:
    """The row of the newest listing that was brought down: number, requested_at, as_of."""
    return retrievals.newest_listing(tx, vault.name, state=ListingStage.KEPT)


def newest_kept(
    inventory: Inventory, vault: Vault
) -> tuple[retrievals.ListingRow, list[retrievals.ListedRow]] | None:
    """The newest listing that was brought down: its row and its lines."""
    with inventory.reading() as tx:
        listing = newest_kept_head(tx, vault)
        return None if listing is None else (listing, retrievals.kept_archives(tx, listing.number))
