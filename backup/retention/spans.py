"""Lengths of time such as "90d", "13w" or "1y6m", counted back in a calendar."""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct

from backup.errors import ConfigError

MOST = 9999  # of each unit: calendars of Python end there
_FORM = re.compile(r"(?:[0-9]+[ymwdh])+")
_PART = re.compile(r"([0-9]+)([ymwdh])")
_UNITS = {"y": "years", "m": "months", "w": "weeks", "d": "days", "h": "hours"}
_EARLIEST = datetime.min.replace(tzinfo=UTC)


class Span(Struct, frozen=True):
    """A length of time in units of the calendar; `m` is months, as in restic."""

    years: int = 0
    months: int = 0
    weeks: int = 0
    days: int = 0
    hours: int = 0

    def __bool__(self) -> bool:
        return any((self.years, self.months, self.weeks, self.days, self.hours))

    def __str__(self) -> str:
        """In words: "1 year 6 months"."""
        counts = [(getattr(self, name), name) for name in _UNITS.values()]
        return " ".join(f"{count} {name if count != 1 else name[:-1]}" for count, name in counts if count)

    def before(self, moment: datetime, zone: ZoneInfo) -> datetime:
        """The moment in UTC that lies this far before another, at the same local time.

        A day that its month does not have becomes the month's last: one month before 31 March is 28 February.
        Hours are elapsed hours, also across a change to or from summer time.
        """
        local = moment.astimezone(zone).replace(tzinfo=None)
        month = local.year * 12 + local.month - 1 - self.years * 12 - self.months
        if month < 12:
            return _EARLIEST
        year, month = month // 12, month % 12 + 1
        day = min(local.day, calendar.monthrange(year, month)[1])
        try:
            wall = local.replace(year=year, month=month, day=day, fold=0)
            wall -= timedelta(weeks=self.weeks, days=self.days)
            return wall.replace(tzinfo=zone).astimezone(UTC) - timedelta(hours=self.hours)
        except OverflowError:
            return _EARLIEST


NO_SPAN: Final = Span()


def parse_span(text: str) -> Span:
    """The span of "90d", "13w" or "1y6m" (y, m, w, d and h, each once); `ConfigError` for anything else."""
    written = text.strip()
    parts = _PART.findall(written)
    units = [unit for _, unit in parts]
    if not _FORM.fullmatch(written) or len(set(units)) < len(units):
        raise ConfigError(f'"{text}" is no length of time such as "90d", "13w" or "1y6m" (y, m, w, d, h)')
    if any(len(number.lstrip("0")) > len(str(MOST)) for number, _ in parts):
        raise ConfigError(f'"{text}" is too long: {MOST} of a unit at most')
    span = Span(**{_UNITS[unit]: int(number) for number, unit in parts})
    if not span:
        raise ConfigError(f'"{text}" must be longer than 0')
    return span
