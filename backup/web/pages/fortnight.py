"""The next two weeks as a calendar; from values, without a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backup.web.pages.glance import active
from backup.web.texts import Texts
from backup.web.views.values.schedule import CalendarDay, SchedulePage

HOURS = (1, 4, 12, 24, 72, 168, 336)


def shown(it: SchedulePage, said: Texts) -> dict[str, Any]:
    """What the template needs."""
    return {
        "it": it,
        "weeks": weeks(it.days),
        "weekdays": weekdays(said),
        "paused": {one.job: one for one in it.pauses},
        "active": active(it.live),
        "pauses": [(n, _length(n, said)) for n in HOURS],
    }


def weeks(days: Sequence[CalendarDay]) -> list[list[CalendarDay | None]]:
    """Days as rows from Monday to Sunday, None where there is none."""
    rows: list[list[CalendarDay | None]] = []
    for day in days:
        if not rows or day.day.weekday() == 0:
            rows.append([None] * 7)
        rows[-1][day.day.weekday()] = day
    return rows


def weekdays(said: Texts) -> list[str]:
    """The heads of the calendar."""
    monday, tuesday, wednesday = said.say("Monday"), said.say("Tuesday"), said.say("Wednesday")
    thursday, friday = said.say("Thursday"), said.say("Friday")
    return [monday, tuesday, wednesday, thursday, friday, said.say("Saturday"), said.say("Sunday")]


def _length(number: int, said: Texts) -> str:
    if number % 24:
        return said.count("%(n)s hour", "%(n)s hours", number)
    return said.count("%(n)s day", "%(n)s days", number // 24)
