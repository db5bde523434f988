"""When runs are due, found in another way than the daemon does: minute by minute of the zone's own clock."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from msgspec import Struct

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
Span = tuple[datetime, datetime]


class Times(Struct, frozen=True):
    """The times of a task: a time of day, on some weekdays (Monday is 0) or days of the month, or months."""

    at: time
    zone: str = "UTC"
    weekdays: frozenset[int] = frozenset(range(7))
    days: frozenset[int] = frozenset(range(1, 32))
    months: frozenset[int] = frozenset(range(1, 13))

    @property
    def crontab(self) -> str:
        """As a config has it."""
        of_week = (
            ",".join(str((day + 1) % 7) for day in sorted(self.weekdays)) if len(self.weekdays) < 7 else "*"
        )
        of_month = ",".join(map(str, sorted(self.days))) if len(self.days) < 31 else "*"
        months = ",".join(map(str, sorted(self.months))) if len(self.months) < 12 else "*"
        return f"{self.at.minute} {self.at.hour} {of_month} {months} {of_week}"

    def between(self, begin: datetime, end: datetime) -> list[datetime]:
        """The first minute of each day on which the clock of the zone shows this time or later."""
        here, found = ZoneInfo(self.zone), []
        day = begin.astimezone(here).date() - DAY
        while day <= end.astimezone(here).date():
            if day.weekday() in self.weekdays and day.day in self.days and day.month in self.months:
                found.append(self._first_minute(day, here))
            day += DAY
        return [when for when in found if begin <= when < end]

    def _first_minute(self, day: date, here: ZoneInfo) -> datetime:
        moment = datetime.combine(day, self.at, here).astimezone(UTC) - timedelta(hours=2)
        while True:
            local = moment.astimezone(here)
            if local.date() == day and local.time() >= self.at:
                return moment
            moment += MINUTE


class Counted(Struct, frozen=True):
    """The runs of a task against its times: due, done, those that nobody could do, lost, doubled."""

    due: int
    done: int
    impossible: int
    lost: Sequence[datetime]
    doubled: Sequence[datetime]


def counted(
    due: Sequence[datetime],
    end: datetime,
    done: Iterable[datetime],
    away: Sequence[Span],
    gone: Sequence[Span] = (),
) -> Counted:
    """Hold the times at which runs began against those at which they were due.

    A time is impossible to keep if the machine was away from it until the next one, or if there was none: it
    was `gone`, and what comes in its place knows of no time before.
    """
    edges = [*due, end]
    here: list[list[datetime]] = [[] for _ in due]
    for when in done:
        index = bisect_right(edges, when) - 1
        if 0 <= index < len(due):
            here[index].append(when)
    lost, doubled, impossible = [], [], 0
    for number, begin in enumerate(due):
        could = not any(a <= begin and edges[number + 1] <= b for a, b in away)
        could = could and not any(a <= begin < b for a, b in gone)
        impossible += not could
        if could and not here[number]:
            lost.append(begin)
        if len(here[number]) > 1:
            doubled.append(begin)
    return Counted(len(due), sum(map(len, here)), impossible, lost, doubled)
