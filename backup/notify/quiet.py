"""Quiet hours: from when on a message may be sent; pure."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from msgspec import Struct

from backup.schedule import instant


class QuietHours(Struct, frozen=True):
    """Hours of each day, in a time zone, in which nothing is sent; they may go over midnight."""

    begin: time
    end: time
    zone: ZoneInfo

    @classmethod
    def parse(cls, text: str, zone: ZoneInfo) -> QuietHours | None:
        """The hours of "22:00-07:00"; None for "none", and where both are the same."""
        if text == "none":
            return None
        begin, end = (time.fromisoformat(one) for one in text.split("-"))
        return None if begin == end else cls(begin, end, zone)

    def allowed_from(self, now: datetime) -> datetime:
        """The first moment from now on at which a message may be sent, in UTC."""
        local = now.astimezone(self.zone)
        if not self._is_quiet(local.time()):
            return now
        day = local.date() if local.time() < self.end else local.date() + timedelta(days=1)
        return max(now, instant(datetime.combine(day, self.end), self.zone))

    def _is_quiet(self, at: time) -> bool:
        if self.begin < self.end:
            return self.begin <= at < self.end
        return at >= self.begin or at < self.end
