"""The times at which a certificate is renewed, retried after a failure, and reported as ending; pure.

It is due after 40 % to 50 % of its life, at a random point, so that servers whose certificates were made
together do not renew together. So a certificate of seven days survives an authority that is down for three.
After two thirds of its life it is late, which is a concern.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from msgspec import Struct

EARLIEST, LATEST = 0.4, 0.5
LATE, LATE_FOR_OTHERS = 2 / 3, 3 / 4  # other programs renew at two thirds themselves
FIRST_PAUSE, LONGEST_PAUSE = timedelta(minutes=5), timedelta(hours=1)
PATIENCE = timedelta(hours=1)
SOON, VERY_SOON = timedelta(days=14), timedelta(days=3)


class RenewalNote(Struct, frozen=True):
    """The record of renewals: the last one, and the failures since."""

    renewed_at: datetime | None = None
    failing_since: datetime | None = None
    failures: int = 0
    error: str | None = None
    next_try: datetime | None = None

    def failed(self, error: str, now: datetime) -> RenewalNote:
        """Return the record after a failure: the pause doubles, from five minutes up to an hour."""
        pause = min(FIRST_PAUSE * 2 ** min(self.failures, 10), LONGEST_PAUSE)
        since = now if self.failing_since is None else min(self.failing_since, now)
        return RenewalNote(self.renewed_at, since, self.failures + 1, error, now + pause)

    def may_try(self, now: datetime) -> bool:
        """Whether the pause after a failure is over. An end too far ahead, as by a wrong clock, is ignored.

        An end too far ahead, as by a wrong clock, is ignored.
        """
        return self.next_try is None or not now < self.next_try <= now + LONGEST_PAUSE


def renewal_due(not_before: datetime, not_after: datetime, serial: int) -> datetime:
    """Return the time from which a certificate is due for renewal; the same at each call."""
    digest = hashlib.sha256(b"%d" % serial).digest()
    chance = int.from_bytes(digest[:4], "big") / 2**32
    return not_before + (not_after - not_before) * (LATEST - (LATEST - EARLIEST) * chance)


def late_at(not_before: datetime, not_after: datetime, *, by_others: bool = False) -> datetime:
    """Return the time from which a missing renewal is a concern."""
    return not_before + (not_after - not_before) * (LATE_FOR_OTHERS if by_others else LATE)


def patience(not_before: datetime, not_after: datetime) -> timedelta:
    """Return how long renewals may fail before that is a concern; less for a life of hours."""
    return min(PATIENCE, (not_after - not_before) / 24)


def certificate_bounds(life: timedelta) -> tuple[timedelta, timedelta]:
    """Return the remaining lifetimes below which a certificate is a warning, and critical."""
    return min(SOON, life / 5), min(VERY_SOON, life / 10)
