"""A rebuild's journal in the form of the retrieval client's stores, kept outside any inventory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from backup.errors import NightvaultError
from backup.model import Listing, ListingId, RetrievalId, RetrievalState, Tier
from backup.protocols import Clock
from backup.transfer.fetching.journal import Journal, JournalRequest
from backup.transfer.fetching.wants import Brought, Want
from backup.transfer.retrievals.client import Pending, RetrievalAnswer, Seen, Verdict, Wanted
from backup.transfer.retrievals.listing import ListingRequest
from backup.transfer.retrievals.once import new_token


class JournalListings:
    """The one listing of a rebuild; its request stays in the journal after the list came."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def under_way(self) -> ListingRequest | None:
        """Return the request in the journal."""
        asked = self._journal.listing
        if asked is None:
            return None
        return ListingRequest(asked.token, ListingId(asked.id) if asked.id else None, asked.asked_at)

    def plan(self, token: str, now: datetime) -> ListingRequest:  # noqa: ARG002 (its time is that of the answer)
        """Record the token before the request is sent."""
        self._journal.ask_listing(JournalRequest(token))
        return ListingRequest(token)

    def accepted(self, request: ListingRequest, listing_id: ListingId, now: datetime) -> ListingRequest:
        """Record the vault's id of the request."""
        self._journal.ask_listing(JournalRequest(request.token, listing_id, now))
        return ListingRequest(request.token, listing_id, now)

    def drop(self, request: ListingRequest) -> None:  # noqa: ARG002 (there is one)
        """Remove the request."""
        self._journal.ask_listing(None)

    def keep(self, request: ListingRequest, listing: Listing) -> None:  # noqa: ARG002 (there is one)
        """Save the listing."""
        self._journal.keep_listing(listing)


class JournalRetrievals:
    """The retrievals of some archives; those that the vault cannot give go to `brought.missing`."""

    def __init__(
        self, journal: Journal, wants: Sequence[Want], brought: Brought, clock: Clock, tier: Tier
    ) -> None:
        self._journal = journal
        self._wants = wants
        self._brought = brought
        self._clock = clock
        self._tier = tier
        self._before = frozenset(journal.retrievals)

    def _noted(self) -> list[tuple[Want, JournalRequest]]:
        asked = self._journal.retrievals
        return [(want, asked[want.name]) for want in self._wants if want.name in asked]

    def has_lost(self) -> bool:
        """Whether there are requests whose answers were lost: the vault may have taken them."""
        return any(asked.id is None for _, asked in self._noted())

    def find_lost(self, known: Mapping[str, RetrievalId]) -> None:
        """Find these requests by their tokens, so that none is paid twice; `known`: those the vault took."""
        for _, asked in self._noted():
            if asked.id is None:
                asked.id = known.get(asked.token)
        self._journal.save()

    def pending(self) -> list[Pending[Want]]:
        """Return the requests that the vault has accepted."""
        return [
            Pending(want, RetrievalId(asked.id), asked.asked_at, asked.failed)
            for want, asked in self._noted()
            if asked.id is not None
        ]

    def seen(self, seen: Sequence[Seen[Want]]) -> None:
        """Give new tokens to requests that must be repeated; what failed twice is missing."""
        for answer in seen:
            name = answer.record.name
            if answer.verdict is Verdict.GIVEN_UP:
                self._brought.missing[name] = f"the vault could not retrieve it: {answer.why}"
                del self._journal.retrievals[name]
            elif answer.verdict is Verdict.AGAIN:
                self._journal.plan_again(name, has_failed=answer.status.state is RetrievalState.FAILED)

    def has_granted(self) -> bool:
        """Whether the vault accepted any request of this rebuild."""
        return any(asked.id is not None for asked in self._journal.retrievals.values())

    def has_unasked(self) -> bool:
        """Whether something is to be requested that the vault has not accepted."""
        accepted = {want.name for want, asked in self._noted() if asked.id is not None}
        return any(want.name not in accepted | self._brought.missing.keys() for want in self._wants)

    def wanted(self) -> list[Wanted[Want]]:
        """Return the requests that the vault has not accepted; their tokens are saved before any is sent."""
        missing, journal = self._brought.missing, self._journal
        left = [want for want in self._wants if want.name not in missing]
        for want in left:
            journal.retrievals.setdefault(want.name, JournalRequest(new_token()))
        planned = [(want, asked) for want, asked in self._noted() if asked.id is None]
        if planned:
            journal.save()
        return [
            Wanted(want, want.archive_id, want.size, want.extent, self._tier, asked.token, want.archive_id)
            for want, asked in planned
        ]

    def answered(self, answers: Sequence[RetrievalAnswer[Want]]) -> None:
        """Record the ids; refused ones are missing.

        Requests that the vault cannot have accepted are removed.
        """
        for answer in answers:
            name = answer.record.name
            if answer.retrieval_id is not None:
                asked = self._journal.retrievals[name]
                asked.id, asked.asked_at = answer.retrieval_id, self._clock.now()
            elif answer.refused is not None:
                self._brought.missing[name] = str(answer.refused)
                del self._journal.retrievals[name]
            elif name not in self._before and not _may_be_taken(answer.error):
                del self._journal.retrievals[name]
        if answers:
            self._journal.save()


def _may_be_taken(error: BaseException | None) -> bool:
    """Whether the vault may have taken a request without an answer; with no error, it was not sent."""
    return error is not None and (not isinstance(error, NightvaultError) or error.retryable)
