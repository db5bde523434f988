"""Periods: each is one stretch of time, as long as the calendar says, around every shift of the clocks."""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.retention.periods import Period
from tests.retention.histories import ZONES

_TURNS = [
    datetime(2024, 2, 29, tzinfo=UTC),  # a leap day
    datetime(2020, 12, 31, tzinfo=UTC),  # in the week 2020-W53
    datetime(2024, 12, 30, tzinfo=UTC),  # in the week 2025-W01
    datetime(2026, 3, 29, 1, tzinfo=UTC),  # Berlin's clocks go forward
    datetime(2026, 10, 25, 1, tzinfo=UTC),  # and back
    datetime(2026, 11, 1, 6, tzinfo=UTC),  # New York's go back
    datetime(2026, 4, 4, 15, tzinfo=UTC),  # Lord Howe's go back by half an hour
    datetime(2026, 1, 1, tzinfo=UTC),
]
_MOMENTS = st.builds(
    lambda turn, minutes: turn + timedelta(minutes=minutes),
    st.sampled_from(_TURNS),
    st.one_of(st.integers(-200, 200), st.integers(-3000, 3000), st.integers(-600_000, 600_000)),
)
_LONGEST = {
    Period.HOUR: timedelta(hours=1),
    Period.DAY: timedelta(hours=25),
    Period.WEEK: timedelta(days=7, hours=1),
    Period.MONTH: timedelta(days=31, hours=1),
    Period.YEAR: timedelta(days=366),
}


@pytest.mark.parametrize("period", Period)
@given(st.lists(_MOMENTS, min_size=3, max_size=3).map(sorted), ZONES)
def test_a_period_is_one_stretch_of_time(period: Period, moments: list[datetime], zone: ZoneInfo) -> None:
    first, between, last = (period.of(moment.astimezone(zone)) for moment in moments)
    assert first <= between <= last
    if first == last:
        assert between == first
        assert moments[2] - moments[0] < _LONGEST[period]


@given(_MOMENTS, ZONES)
def test_names_are_those_of_a_calendar(moment: datetime, zone: ZoneInfo) -> None:
    """Weeks by the calendar's own grid of weeks: the one that holds Thursday's year."""
    local = moment.astimezone(zone)
    grid = calendar.Calendar(calendar.MONDAY).monthdatescalendar(local.year, local.month)
    week = next(days for days in grid if local.date() in days)
    thursday = week[calendar.THURSDAY]
    number = (thursday - date(thursday.year, 1, 1)).days // 7 + 1
    assert Period.WEEK.label(local) == f"week {thursday.year}-W{number:02d}"
    assert Period.WEEK.of(local) == thursday.year * 100 + number
    assert Period.DAY.label(local) == local.date().isoformat()
    assert Period.MONTH.label(local) == local.date().isoformat()[:7]
    assert Period.YEAR.label(local) == local.date().isoformat()[:4]


@given(_MOMENTS, ZONES)
def test_a_whole_hour_later_is_another_hour(moment: datetime, zone: ZoneInfo) -> None:
    """Also while the clock on the wall shows the same hour again."""
    later = moment + timedelta(hours=1)
    assert Period.HOUR.of(moment.astimezone(zone)) != Period.HOUR.of(later.astimezone(zone))


def test_words() -> None:
    assert [period.adverb for period in Period] == ["hourly", "daily", "weekly", "monthly", "yearly"]
    assert Period.HOUR.label(datetime(2026, 3, 4, 5, 6, tzinfo=UTC)) == "the hour 2026-03-04 05:00"
