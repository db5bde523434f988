"""A rebuild's journal as the desk's stores: what was asked for, kept outside any inventory."""

from __future__ import annotations

from datetime import datetime

from backup.model import Listing, ListingId
from backup.rebuilder.journal import Asked, Journal
from backup.transfer.retrievals.listing import ListingRequest


class JournalListings:
    """The one listing of a rebuild; a request stays noted after its list came."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def under_way(self) -> ListingRequest | None:
        """What the journal has."""
        asked = self._journal.listing
        if asked is None:
            return None
        return ListingRequest(asked.token, ListingId(asked.id) if asked.id else None, asked.asked_at)

    def plan(self, token: str, now: datetime) -> ListingRequest:  # noqa: ARG002 (its time is that of the answer)
        """Note the token before it is sent."""
        self._journal.ask_listing(Asked(token))
        return ListingRequest(token)

    def accepted(self, request: ListingRequest, listing_id: ListingId, now: datetime) -> ListingRequest:
        """Note the id."""
        self._journal.ask_listing(Asked(request.token, listing_id, now))
        return ListingRequest(request.token, listing_id, now)

    def drop(self, request: ListingRequest) -> None:  # noqa: ARG002 (there is one)
        """Forget it."""
        self._journal.ask_listing(None)

    def keep(self, request: ListingRequest, listing: Listing) -> None:  # noqa: ARG002 (there is one)
        """Keep what came."""
        self._journal.keep_listing(listing)
