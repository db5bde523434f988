"""Points in time as people write them, by the clock of this machine."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest

from backup.cli.support.moments import parse_moment, parse_until
from backup.errors import UsageError

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)  # a Tuesday, also where the sun rises a day earlier or later


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("yesterday", date(2026, 11, 30)),
        ("Today", date(2026, 12, 1)),
        (" tomorrow ", date(2026, 12, 2)),
        ("last monday", date(2026, 11, 30)),
        ("last  Tuesday", date(2026, 11, 24)),
        ("last wednesday", date(2026, 11, 25)),
        ("next tuesday", date(2026, 12, 8)),
        ("next wednesday", date(2026, 12, 2)),
        ("2026-11-01", date(2026, 11, 1)),
    ],
)
def test_a_day_is_its_last_moment(text: str, day: date) -> None:
    shift = NOW.astimezone().date() - NOW.date()
    expected = day if text[0].isdigit() else day + shift
    if shift == timedelta():
        assert parse_moment(text, NOW) == datetime.combine(expected, time.max).astimezone()
    assert parse_until(text, NOW) == parse_moment(text, NOW)


def test_a_span_is_ago_or_from_now_on() -> None:
    assert parse_moment("3d", NOW) == NOW - timedelta(days=3)
    assert parse_moment("36 h", NOW) == NOW - timedelta(hours=36)
    assert parse_until("3d", NOW) == NOW + timedelta(days=3)


def test_times_with_and_without_a_zone() -> None:
    assert parse_moment("2026-11-01T03:00+01:00", NOW) == datetime(2026, 11, 1, 2, tzinfo=UTC)
    assert parse_moment("2026-11-01 03:00Z", NOW) == datetime(2026, 11, 1, 3, tzinfo=UTC)
    assert parse_moment("2026-11-01 03:00", NOW) == datetime(2026, 11, 1, 3).astimezone()


@pytest.mark.parametrize(
    "text", ["", "someday", "last", "last month", "3y", "2026-13-01", "0001-01-01 00:00+23:00x"]
)
def test_what_is_no_point_in_time(text: str) -> None:
    with pytest.raises(UsageError, match="no point in time"):
        parse_moment(text, NOW)
