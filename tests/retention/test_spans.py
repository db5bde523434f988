"""Spans: how they are written, and how far they reach back in a calendar."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backup.errors import ConfigError
from backup.retention.spans import Span, parse_span
from tests.retention.histories import BERLIN, ZONES

MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("text", "span", "words"),
    [
        ("90d", Span(days=90), "90 days"),
        ("13w", Span(weeks=13), "13 weeks"),
        ("2y", Span(years=2), "2 years"),
        ("6m", Span(months=6), "6 months"),
        ("12h", Span(hours=12), "12 hours"),
        (" 1y6m ", Span(years=1, months=6), "1 year 6 months"),
        ("1h1d1w1m1y", Span(1, 1, 1, 1, 1), "1 year 1 month 1 week 1 day 1 hour"),
        ("0y007d", Span(days=7), "7 days"),
    ],
)
def test_spans_are_written_as_in_restic_and_in_weeks(text: str, span: Span, words: str) -> None:
    assert parse_span(text) == span
    assert str(span) == words


@pytest.mark.parametrize(
    "text", ["", "d", "90", "90 d", "-1d", "1.5d", "1d1d", "1q", "1D", "٣d", "9" * 99 + "d"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is no length of time|too long"):
        parse_span(text)


def test_no_time_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be longer than 0"):
        parse_span("0d")


@pytest.mark.parametrize(
    ("moment", "text", "before"),
    [
        ("2026-03-31 02:00", "1m", "2026-02-28 02:00"),
        ("2024-03-31 02:00", "1m", "2024-02-29 02:00"),
        ("2024-02-29 02:00", "1y", "2023-02-28 02:00"),
        ("2026-01-15 02:00", "13m", "2024-12-15 02:00"),
        ("2026-03-30 12:00", "2d", "2026-03-28 12:00"),  # the clocks went forward between
        ("2026-03-29 12:00", "12h", "2026-03-28 23:00"),
    ],
)
def test_a_span_reaches_back_in_local_time(moment: str, text: str, before: str) -> None:
    start = datetime.fromisoformat(moment).replace(tzinfo=BERLIN)
    found = parse_span(text).before(start, BERLIN)
    assert found.astimezone(BERLIN) == datetime.fromisoformat(before).replace(tzinfo=BERLIN)


def test_a_span_longer_than_the_calendar_reaches_its_beginning() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    for text in ("9999y", "9999y9999m9999w", "2025y9999m", "2024y12m9999d"):
        assert parse_span(text).before(moment, ZoneInfo("UTC")).year == 1


@given(MOMENTS, st.integers(1, 9999), ZONES)
def test_days_and_weeks_are_those_of_the_wall_clock(moment: datetime, days: int, zone: ZoneInfo) -> None:
    back = Span(days=days).before(moment, zone).astimezone(zone)
    assert moment.astimezone(zone).date() - back.date() == timedelta(days=days)
    assert Span(weeks=days % 99).before(moment, zone) == Span(days=days % 99 * 7).before(moment, zone)


def is_shortened(moment: datetime, span: Span) -> bool:
    """Whether a local moment's day is one that the month so far back does not have."""
    months = moment.year * 12 + moment.month - 1 - span.years * 12 - span.months
    return moment.day > calendar.monthrange(months // 12, months % 12 + 1)[1]


@given(MOMENTS, st.timedeltas(timedelta(0), timedelta(days=70)), ZONES, st.integers(1, 30))
@example(
    datetime(2000, 2, 28, 17, 56, tzinfo=UTC), timedelta(minutes=34), ZoneInfo("Asia/Kolkata"), 1
)  # from 28 to 29 February: a year before, both are 28 February
def test_as_time_goes_on_a_span_never_reaches_further_back(
    moment: datetime, later: timedelta, zone: ZoneInfo, count: int
) -> None:
    """What was too old one night does not come back the next; by local time, but for the hour of autumn.

    On a day that became the month's last, its hours begin anew: the day is never an earlier one.
    """
    hour = timedelta(hours=1)
    for span in (Span(months=count), Span(years=count), Span(months=1, days=count)):
        first, then = span.before(moment, zone), span.before(moment + later, zone)
        assert then.astimezone(zone).date() >= (first.astimezone(zone).replace(tzinfo=None) - hour).date()
        if not is_shortened((moment + later).astimezone(zone), span):
            assert then >= first - hour
