"""The hours, days, weeks, months and years of a calendar, of which a policy keeps one snapshot each."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Final

Key = int
"""One period among those of its kind: equal for two moments exactly if both lie in the same one."""


class Period(StrEnum):
    """A kind of period; the value is the word for one."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"

    @property
    def adverb(self) -> str:
        """As in the names of the settings: keep_daily."""
        return "daily" if self is Period.DAY else f"{self.value}ly"

    def of(self, local: datetime) -> Key:
        """The period of a local time. Weeks are those of ISO 8601, and belong to ISO years."""
        return _KEYS[self](local)

    def label(self, local: datetime) -> str:
        """The name of the period of a local time, such as 2026-03-04 or week 2026-W10."""
        return _NAMES[self](local)


def _hour(local: datetime) -> Key:
    # In autumn an hour of the wall clock comes twice: `fold` tells the second from the first.
    return (local.toordinal() * 24 + local.hour) * 2 + local.fold


def _iso_week(local: datetime) -> str:
    year, week, _ = local.isocalendar()
    return f"week {year:04d}-W{week:02d}"


_KEYS: Final[dict[Period, Callable[[datetime], Key]]] = {
    Period.HOUR: _hour,
    Period.DAY: datetime.toordinal,
    Period.WEEK: lambda local: local.isocalendar().year * 100 + local.isocalendar().week,
    Period.MONTH: lambda local: local.year * 100 + local.month,
    Period.YEAR: lambda local: local.year,
}
_NAMES: Final[dict[Period, Callable[[datetime], str]]] = {
    Period.HOUR: lambda local: f"the hour {local:%Y-%m-%d %H}:00",
    Period.DAY: lambda local: f"{local:%Y-%m-%d}",
    Period.WEEK: _iso_week,
    Period.MONTH: lambda local: f"{local:%Y-%m}",
    Period.YEAR: lambda local: f"{local:%Y}",
}
