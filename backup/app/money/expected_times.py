"""Expected waiting times: when a vault has probably made readable what was requested."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from backup.config import VaultSettings
from backup.inventory.records.retrievals import Retrieval, split_id
from backup.inventory.store.states import RetrievalStage
from backup.model import Tier

# Hours, least and most. Glacier developer guide, "Downloading an Archive in Amazon Glacier"; S3 user guide,
# "Understanding archive retrieval options": most of them, not all.
_HOURS = {Tier.EXPEDITED: (1 / 60, 5 / 60), Tier.STANDARD: (3.0, 5.0), Tier.BULK: (5.0, 12.0)}
_LIST_HOURS = 24 + 5  # a Glacier vault makes its list once a day, and delivers it in hours
_DEEP_HOURS = {Tier.EXPEDITED: (0.0, 12.0), Tier.STANDARD: (0.0, 12.0), Tier.BULK: (0.0, 48.0)}


class Expected(Struct, frozen=True):
    """The span of time in which the last retrieval is usually ready."""

    earliest: datetime
    latest: datetime


def hours_of(settings: VaultSettings, tier: Tier) -> tuple[float, float]:
    """Return the shortest and longest usual time of a retrieval, in hours."""
    is_deep = settings.kind == "s3" and settings.storage_class == "DEEP_ARCHIVE"
    return (_DEEP_HOURS if is_deep else _HOURS)[tier]


def longest_wait(settings: VaultSettings, tier: Tier) -> timedelta:
    """Return how long a check, prune or drill waits at most for its vault's list, and for what it reads."""
    if settings.kind == "directory":
        return timedelta()
    _, hours = hours_of(settings, tier)
    return timedelta(hours=hours + (_LIST_HOURS if settings.kind == "glacier" else 0))


def expected(
    settings: VaultSettings, known: Sequence[Retrieval], others: Sequence[VaultSettings] = ()
) -> Expected | None:
    """Return the time at which all waiting retrievals are ready; None if none is waiting.

    They are of that vault, but for those whose ids name one of `others`.
    """
    spans = [
        tuple(asked_at + timedelta(hours=hours) for hours in hours_of(vault, tier))
        for vault, tier, asked_at in _waiting(settings, known, others)
    ]
    if not spans:
        return None
    return Expected(max(least for least, _ in spans), max(most for _, most in spans))


def usual_hours(
    settings: VaultSettings, known: Sequence[Retrieval], others: Sequence[VaultSettings]
) -> tuple[float, float] | None:
    """Return the hours that the slowest of those retrievals usually takes; None if none is waiting."""
    every = [hours_of(vault, tier) for vault, tier, _ in _waiting(settings, known, others)]
    return max(every, key=lambda hours: hours[1], default=None)


def _waiting(
    settings: VaultSettings, known: Sequence[Retrieval], others: Sequence[VaultSettings]
) -> Iterator[tuple[VaultSettings, Tier, datetime]]:
    """Of each waiting retrieval its vault, its tier, and when it was requested."""
    by_name = {str(vault.name): vault for vault in others}
    for retrieval in known:
        if retrieval.state is RetrievalStage.WAITING and retrieval.requested_at is not None:
            named = split_id(retrieval.retrieval_id)[0]
            yield by_name.get(named or "", settings), retrieval.tier, retrieval.requested_at
