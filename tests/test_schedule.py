"""Schedules: cron's meaning against brute force, the hours that come twice or never, intervals, mistakes."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backup.errors import ConfigError
from backup.schedule import Every, next_due, parse_schedule, times_between

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def due_after(text: str, zone: ZoneInfo, since: datetime, times: int) -> list[str]:
    """The next times, as a clock on the wall of the zone shows them, with their offset."""
    schedule = parse_schedule(text, zone.key)
    found: list[str] = []
    for _ in range(times):
        since = next_due(schedule, since, since)
        found.append(since.astimezone(zone).isoformat(timespec="minutes"))
    return found


# The law: the same as stepping minute by minute with Vixie cron's rules read naively.


def field_matches(field: str, value: int, low: int, high: int) -> bool:
    """One numeric field of Vixie cron, read as a child would."""
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        start, end = (low, high) if span == "*" else (int(first), int(last) if dash else int(first))
        if value in range(start, end + 1, int(step or 1)):
            return True
    return False


def day_matches(fields: list[str], local: datetime) -> bool:
    _, _, day, month, weekday = fields
    by_day = field_matches(day, local.day, 1, 31)
    sunday_based = local.isoweekday() % 7
    by_weekday = field_matches(weekday, sunday_based, 0, 7) or (
        sunday_based == 0 and field_matches(weekday, 7, 0, 7)
    )
    starred = day.startswith("*") or weekday.startswith("*")
    matched = by_day and by_weekday if starred else by_day or by_weekday
    return matched and field_matches(month, local.month, 1, 12)


def brute_force(text: str, zone: ZoneInfo, since: datetime, days: int) -> datetime | None:
    """Minute by minute over UTC: what the wall shows for the first time, and what it skipped just now."""
    fields = text.split()
    seen: set[datetime] = set()
    moment = since.replace(second=0, microsecond=0) - timedelta(days=1)
    shown = moment.astimezone(zone).replace(tzinfo=None) - timedelta(minutes=1)
    latest = shown
    for _ in range((days + 1) * 1440):
        shown = moment.astimezone(zone).replace(tzinfo=None)
        skipped = [
            latest + timedelta(minutes=n) for n in range(1, int((shown - latest).total_seconds()) // 60)
        ]
        latest = max(latest, shown)
        for local in [*skipped, shown]:
            first_time = local not in seen
            seen.add(local)
            if (
                first_time
                and moment > since
                and day_matches(fields, local)
                and field_matches(fields[0], local.minute, 0, 59)
                and field_matches(fields[1], local.hour, 0, 23)
            ):
                return moment
        moment += timedelta(minutes=1)
    return None


def field_texts(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    step = st.integers(1, high + 1)
    part = st.one_of(
        number.map(str),
        span,
        st.tuples(span, step).map(lambda pair: f"{pair[0]}/{pair[1]}"),
        step.map(lambda n: f"*/{n}"),
    )
    return st.one_of(st.just("*"), st.lists(part, min_size=1, max_size=3).map(",".join))


cron_lines = st.tuples(
    field_texts(0, 59), field_texts(0, 23), field_texts(1, 28), st.just("*"), field_texts(0, 7)
).map(" ".join)
changes = [  # when Berlin, New York and Lord Howe change their clocks
    utc("2026-03-29T01:00"), utc("2026-10-25T01:00"), utc("2026-03-08T07:00"), utc("2026-11-01T06:00"),
    utc("2026-04-04T15:00"), utc("2026-10-03T15:30"),
]  # fmt: skip
near_changes = st.tuples(st.sampled_from(changes), st.integers(-1500, 200))
moments = st.one_of(
    st.integers(0, 3 * 365 * 1440).map(lambda minutes: utc("2024-01-01T00:00") + timedelta(minutes=minutes)),
    near_changes.map(lambda pair: pair[0] + timedelta(minutes=pair[1])),
)


@settings(max_examples=150, deadline=None)
@given(cron_lines, st.sampled_from(ZONES), moments)
@example("30 2 * * *", "Europe/Berlin", utc("2026-10-25T00:29"))
@example("30 2 * * *", "Europe/Berlin", utc("2026-10-25T00:30"))
@example("*/7 2 * * 0", "Europe/Berlin", utc("2026-03-29T00:00"))
@example("15 2 * * *", "Australia/Lord_Howe", utc("2026-10-03T15:00"))
def test_next_due_is_what_stepping_through_the_minutes_finds(line: str, zone: str, since: datetime) -> None:
    expected = brute_force(line, ZoneInfo(zone), since, days=4)
    found = next_due(parse_schedule(line, zone), since, since)
    if expected is None:
        assert found > since + timedelta(days=2)
    else:
        assert found == expected


MOST_TIMES = 300
"""So many of the times of two days are looked at: each of five hours, where there is one a minute."""


@settings(max_examples=50, deadline=None)
@given(st.one_of(cron_lines, st.just("every 7h")), st.sampled_from((*ZONES, "Pacific/Apia")), moments)
@example("*/20 * * * *", "Europe/Berlin", utc("2026-10-24T10:00"))
@example("*/20 * * * *", "Australia/Lord_Howe", utc("2026-10-03T01:00"))
@example("0 12 * * *", "Pacific/Apia", utc("2011-12-29T01:00"))  # which skipped a day
def test_all_times_are_those_that_come_one_after_the_other(line: str, zone: str, since: datetime) -> None:
    schedule, end = parse_schedule(line, zone), since + timedelta(days=2)
    expected: list[datetime] = []
    at = since
    while len(expected) < MOST_TIMES and (at := next_due(schedule, at, at)) < end:
        expected.append(at)
    assert list(islice(times_between(schedule, since, end), MOST_TIMES)) == expected


@settings(max_examples=100, deadline=None)
@given(cron_lines, st.sampled_from(ZONES), moments, st.integers(0, 10_000))
def test_a_later_last_run_is_never_due_earlier(line: str, zone: str, since: datetime, minutes: int) -> None:
    schedule = parse_schedule(line, zone)
    later = since + timedelta(minutes=minutes)
    first, second = next_due(schedule, since, later), next_due(schedule, later, later)
    assert since < first <= second
    assert second > later


# Cron's own numbers.


def test_sunday_is_0_and_7_and_sun() -> None:
    for sunday in ("0", "7", "sun", "SUN"):
        assert due_after(f"0 12 * * {sunday}", BERLIN, utc("2026-11-24T00:00"), 1) == [
            "2026-11-29T12:00+01:00"
        ]


def test_one_is_monday() -> None:
    assert due_after("0 12 * * 1", BERLIN, utc("2026-11-24T00:00"), 1) == ["2026-11-30T12:00+01:00"]


def test_day_of_month_or_weekday_when_both_are_restricted() -> None:
    found = due_after("0 12 1 * fri", BERLIN, utc("2026-11-24T00:00"), 3)
    assert found == ["2026-11-27T12:00+01:00", "2026-12-01T12:00+01:00", "2026-12-04T12:00+01:00"]


def test_a_field_that_begins_with_a_star_does_not_restrict() -> None:
    # */2 and Friday: both must match (the 4th and the 18th of December are even).
    found = due_after("0 12 */2 12 fri", BERLIN, utc("2026-11-24T00:00"), 2)
    assert found == ["2026-12-11T12:00+01:00", "2026-12-25T12:00+01:00"]


def test_ranges_of_names_and_weeks_that_end_on_sunday() -> None:
    friday_to_sunday = parse_schedule("0 0 * jan-mar fri-sun", "UTC")
    assert friday_to_sunday.rule == parse_schedule("0 0 * 1-3 5-7", "UTC").rule


def test_leap_day_on_a_given_weekday_across_2100() -> None:
    found = due_after("0 0 29 2 */7", ZoneInfo("UTC"), utc("2096-03-01T00:00"), 1)
    assert found == ["2128-02-29T00:00+00:00"]


# The clocks change.


def test_the_hour_that_comes_twice_counts_once() -> None:
    found = due_after("30 2 * * *", BERLIN, utc("2026-10-24T12:00"), 2)
    assert found == ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]
    found = due_after("30 1 * * *", NEW_YORK, utc("2026-10-31T12:00"), 2)
    assert found == ["2026-11-01T01:30-04:00", "2026-11-02T01:30-05:00"]


def test_a_run_in_the_first_of_two_hours_is_not_repeated_in_the_second() -> None:
    ran = utc("2026-10-25T00:30")  # 02:30 summer time; an hour later the wall shows 02:30 again
    due = next_due(parse_schedule("30 2 * * *", "Europe/Berlin"), ran, utc("2026-10-25T01:30"))
    assert due == utc("2026-10-26T01:30")


def test_the_hour_that_never_comes_counts_at_its_end() -> None:
    found = due_after("30 2 * * *", BERLIN, utc("2026-03-28T12:00"), 2)
    assert found == ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]
    found = due_after("30 2 * * *", NEW_YORK, utc("2026-03-07T12:00"), 2)
    assert found == ["2026-03-08T03:00-04:00", "2026-03-09T02:30-04:00"]


def test_several_times_in_the_skipped_hour_are_one() -> None:
    found = due_after("0,20,40 2,3 * * *", BERLIN, utc("2026-03-28T12:00"), 4)
    assert found == [
        "2026-03-29T03:00+02:00", "2026-03-29T03:20+02:00",
        "2026-03-29T03:40+02:00", "2026-03-30T02:00+02:00",
    ]  # fmt: skip


def test_a_day_that_a_zone_skipped_whole() -> None:
    apia = ZoneInfo("Pacific/Apia")  # there was no 30 December 2011
    assert due_after("0 12 30 12 *", apia, utc("2011-12-01T00:00"), 1) == ["2011-12-31T00:00+14:00"]


def test_daily_at() -> None:
    assert due_after("daily at 2:30", BERLIN, utc("2026-11-24T01:29"), 2) == [
        "2026-11-24T02:30+01:00", "2026-11-25T02:30+01:00",
    ]  # fmt: skip


# Last runs and intervals.


def test_never_run() -> None:
    now = utc("2026-11-24T12:34:56")
    assert next_due(parse_schedule("every 1h", "UTC"), None, now) == now
    assert next_due(parse_schedule("0 12 * * *", "UTC"), None, now) == utc("2026-11-25T12:00")


def test_an_interval_counts_from_the_minute_of_the_last_start() -> None:
    every = parse_schedule("every 6h", "Europe/Berlin")
    assert next_due(every, utc("2026-11-24T01:02:03"), utc("2026-11-24T02:00")) == utc("2026-11-24T07:02:00")
    assert parse_schedule("EVERY 30 m", "UTC").rule == Every(timedelta(minutes=30))
    assert parse_schedule("every 2d", "UTC").rule == Every(timedelta(days=2))


def test_a_missed_time_is_due_in_the_past() -> None:
    nightly = parse_schedule("daily at 02:30", "UTC")
    assert next_due(nightly, utc("2026-11-20T02:30:01"), utc("2026-11-24T12:00")) == utc("2026-11-21T02:30")


def test_a_last_run_in_the_future_does_not_stop_a_job_for_years() -> None:
    """If it counted as a run of just now, it would move on with the clock, and the job would never be due."""
    now, wrong = utc("2026-11-24T12:00"), utc("2038-01-19T03:14")
    assert next_due(parse_schedule("every 6h", "UTC"), wrong, now) == now
    assert next_due(parse_schedule("daily at 02:30", "UTC"), wrong, now) == now


def test_times_in_other_zones_are_understood() -> None:
    last = datetime(2026, 11, 24, 2, 30, tzinfo=BERLIN)
    assert next_due(parse_schedule("every 1h", "UTC"), last, last) == utc("2026-11-24T02:30")


# Mistakes.


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "five crontab fields"),
        ("nightly", "daily at 02:30"),
        ("* * * *", "five crontab fields"),
        ("every 0m", "at least a minute"),
        ("every 5 seconds", "cannot be read"),
        ("daily at 24:00", "hour: '24' is not between 0 and 23"),
        ("60 0 * * *", "minute: '60' is not between 0 and 59"),
        ("0 0 0 * *", "day of month: '0' is not between 1 and 31"),
        ("0 0 * 13 *", "month: '13'"),
        ("0 0 * * 8", "day of week: '8' is not between 0 and 7"),
        ("0 0 * * mond", "day of week: 'mond'"),
        ("0 0 * * fri-mon", "fri-mon runs backwards"),
        ("5-1 * * * *", "5-1 runs backwards"),
        ("*/0 * * * *", "a number above 0"),
        ("*/x * * * *", "a number above 0"),
        ("5/15 * * * *", "5-59/15"),
        ("1,,2 * * * *", "minute: ''"),
        ("0 0 31 2,4 *", "never comes"),
        ("0 0 30 2 */2", "never comes"),
    ],
)
def test_mistakes_are_told(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        parse_schedule(text, "UTC")


@pytest.mark.parametrize("zone", ["Europe/Berlim", "", "../etc/passwd", "/etc/localtime", "Europe"])
def test_a_zone_that_is_none(zone: str) -> None:
    with pytest.raises(ConfigError, match="is no time zone"):
        parse_schedule("every 1h", zone)


def test_the_31st_or_a_weekday_is_no_mistake() -> None:
    assert due_after("0 0 31 2 mon", ZoneInfo("UTC"), utc("2026-02-01T00:00"), 1) == [
        "2026-02-02T00:00+00:00"
    ]
