"""Points in time as people write them, by the clock of this machine."""

from __future__ import annotations

import time as clock
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta

import pytest

from backup.cli.options.moments import parse_moment, parse_until
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


@pytest.fixture
def here(request: pytest.FixtureRequest) -> Iterator[None]:
    """This machine is in another time zone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", request.param)
        clock.tzset()
        yield
    clock.tzset()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("here", "text", "first"),
    [
        ("Europe/Berlin", "2026-03-29 02:30", "2026-03-29 01:00"),
        ("Europe/Berlin", "2026-03-29 02:00", "2026-03-29 01:00"),
        ("Europe/Berlin", "2026-03-29 02:59:59", "2026-03-29 01:00"),
        ("America/New_York", "2026-03-08 02:30", "2026-03-08 07:00"),
        ("Australia/Lord_Howe", "2026-10-04 02:10", "2026-10-03 15:30"),  # half an hour
        ("Africa/Cairo", "2026-04-24 00:20", "2026-04-23 22:00"),  # at midnight
        ("Pacific/Apia", "2011-12-30 12:00", "2011-12-30 10:00"),  # a whole day
        ("Pacific/Apia", "2011-12-30", "2011-12-30 10:00"),
    ],
    indirect=["here"],
)
def test_a_time_that_no_clock_shows_is_the_first_one_after_it(text: str, first: str) -> None:
    said: list[str] = []
    expected = datetime.fromisoformat(first).replace(tzinfo=UTC)
    assert parse_until(text, datetime(2011, 1, 1, tzinfo=UTC), said.append) == expected
    (sentence,) = said
    assert "does not exist here, as the clock is put forward over it: " in sentence
    assert f"{expected.astimezone():%Y-%m-%d %H:%M} is taken" in sentence
    assert parse_moment(text, NOW) == expected


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("here", "text", "first"),
    [
        ("Europe/Berlin", "2026-03-29 01:59", "2026-03-29 00:59"),
        ("Europe/Berlin", "2026-03-29 03:00", "2026-03-29 01:00"),
        ("Europe/Berlin", "2026-10-25 02:30", "2026-10-25 00:30"),  # the first of two
        ("Europe/Berlin", "2026-03-29", "2026-03-29 21:59:59.999999"),
        ("Africa/Cairo", "2026-04-23", "2026-04-23 21:59:59.999999"),
    ],
    indirect=["here"],
)
def test_a_time_that_a_clock_shows_is_taken_as_it_is(text: str, first: str) -> None:
    said: list[str] = []
    assert parse_until(text, NOW, said.append) == datetime.fromisoformat(first).replace(tzinfo=UTC)
    assert said == []


@pytest.mark.parametrize(
    "text", ["", "someday", "last", "last month", "3y", "2026-13-01", "0001-01-01 00:00+23:00x"]
)
def test_what_is_no_point_in_time(text: str) -> None:
    with pytest.raises(UsageError, match="no time that can be read"):
        parse_moment(text, NOW)
