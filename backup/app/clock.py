"""The system's clock."""

from __future__ import annotations

import time
from datetime import MAXYEAR, UTC, datetime

from backup.errors import ClockError


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """The time, in UTC. `ClockError` beyond what dates can be."""
        try:
            now = datetime.now(UTC)
        except (ValueError, OverflowError):
            now = None
        if now is None or now.year >= MAXYEAR:  # what is reckoned from there has no date
            raise ClockError(
                "this machine's clock is at the end of the calendar, in the year 9999 or later",
                advice="set it: `timedatectl` shows it",
            )
        return now

    def sleep(self, seconds: float) -> None:
        """Sleep for so many seconds."""
        time.sleep(seconds)
