"""When a certificate is renewed, tried again after a failure, and told to end soon; pure.

It is due after about half of its life: between 40 % and 50 %, by chance, so that servers whose certificates
were made together do not come together. So a certificate of seven days outlives an authority that is away for
three. After two thirds of its life it is late, which is a concern.
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
    """What is remembered of renewals: the last one, and the failures since."""

    renewed_at: datetime | None = None
    failing_since: datetime | None = None
    failures: int = 0
    error: str | None = None
    next_try: datetime | None = None

    def failed(self, error: str, now: datetime) -> RenewalNote:
        """The note after a failure: pauses double, from five minutes up to an hour."""
        pause = min(FIRST_PAUSE * 2 ** min(self.failures, 10), LONGEST_PAUSE)
        since = now if self.failing_since is None else min(self.failing_since, now)
        return RenewalNote(self.renewed_at, since, self.failures + 1, error, now + pause)

    def may_try(self, now: datetime) -> bool:
        """Whether the pause after a failure is over; a pause that no clock explains is none."""
        return self.next_try is None or not now < self.next_try <= now + LONGEST_PAUSE


def renewal_due(not_before: datetime, not_after: datetime, serial: int) -> datetime:
    """The time from which a certificate is to be renewed; the same at each call."""
    digest = hashlib.sha256(b"%d" % serial).digest()
    chance = int.from_bytes(digest[:4], "big") / 2**32
    return not_before + (not_after - not_before) * (LATEST - (LATEST - EARLIEST) * chance)


def late_at(not_before: datetime, not_after: datetime, *, by_others: bool = False) -> datetime:
    """The time from which it is a concern that a certificate is not renewed yet."""
    return not_before + (not_after - not_before) * (LATE_FOR_OTHERS if by_others else LATE)


def patience(not_before: datetime, not_after: datetime) -> timedelta:
    """How long renewals may fail before it is a concern; less for a certificate that lives for hours."""
    return min(PATIENCE, (not_after - not_before) / 24)


def certificate_bounds(life: timedelta) -> tuple[timedelta, timedelta]:
    """The time left below which a certificate of this life is a warning, and below which it is critical."""
    return min(SOON, life / 5), min(VERY_SOON, life / 10)
