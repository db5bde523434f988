"""The time after a request for which a vault may not know it yet."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from backup.model import RetrievalState
from backup.protocols import Clock, VaultTraits

FRESH: Final = timedelta(minutes=2)
"""So long after a request was accepted the vault may not know of it everywhere."""
LISTING_FRESH: Final = timedelta(minutes=10)
"""The same for a listing, whose time is noted before it is sent: with all that patience may take."""


def may_be_unknown(
    state: RetrievalState,
    requested_at: datetime | None,
    clock: Clock,
    traits: VaultTraits,
    *,
    within: timedelta = FRESH,
) -> bool:
    """Whether a vault that reports EXPIRED may only not know the new request yet.

    Glacier has been seen to answer 404 for a job right after it took it; to believe that is to pay twice, or
    to wait once more for hours. Only for a vault that waits: any other has it ready at once.
    """
    if state is not RetrievalState.EXPIRED or requested_at is None or not traits.waits:
        return False
    return abs(clock.now() - requested_at) < within  # the clock may have been ahead then
