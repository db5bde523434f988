"""From when a job is overdue: a punctual one never is, whatever its zone; a missing one stays so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from backup.schedule import Schedule, is_overdue, next_due, overdue_from, parse_schedule, widest_gap

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia")
TEXTS = (
    *("every 1m", "every 6h", "every 3d", "daily at 02:30", "daily at 00:00", "weekly", "monthly"),
    *("30 2 * * 1-5", "0 9-17 * * 1-5", "*/5 8-18 * * mon-fri", "0 4 1,15 * *", "15 3 29 2 *", "0 1 * 1-3 0"),
)
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
TIMES = st.integers(1_577_836_800, 2_208_988_800).map(lambda stamp: datetime.fromtimestamp(stamp, UTC))
SCHEDULES = st.builds(parse_schedule, st.sampled_from(TEXTS), st.sampled_from(ZONES))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@given(SCHEDULES, TIMES, st.integers(1, 20))
def test_a_job_that_runs_when_it_is_due_is_never_overdue(
    schedule: Schedule, began: datetime, runs: int
) -> None:
    """Not even just before its next run, which the daemon's tick may begin a minute late."""
    for _ in range(runs):
        due = next_due(schedule, began, began)
        begins = due + MINUTE
        assert not is_overdue(schedule, began, begins, known_since=began)
        began = begins


@given(SCHEDULES, TIMES)
def test_a_missed_run_is_overdue_once_a_quarter_of_the_widest_gap_has_passed(
    schedule: Schedule, began: datetime
) -> None:
    limit = overdue_from(schedule, began)
    gap = widest_gap(schedule, began)
    assert limit - began == gap + max(gap / 4, 10 * MINUTE)
    assert limit > next_due(schedule, began, began)
    assert not is_overdue(schedule, began, limit, known_since=began)
    assert is_overdue(schedule, began, limit + MINUTE, known_since=began)


@given(SCHEDULES, TIMES, st.timedeltas(timedelta(), 900 * DAY), st.timedeltas(timedelta(), 900 * DAY))
def test_what_is_overdue_stays_so(
    schedule: Schedule, began: datetime, first: timedelta, more: timedelta
) -> None:
    """Else a message would come and go: the widest gap is that of the last good run, not of now."""
    assume(is_overdue(schedule, began, began + first, known_since=began))
    assert is_overdue(schedule, began, began + first + more, known_since=began)


@given(SCHEDULES, TIMES, st.timedeltas(timedelta(microseconds=1), 9000 * DAY))
def test_a_run_of_the_future_makes_nothing_overdue(
    schedule: Schedule, now: datetime, ahead: timedelta
) -> None:
    assert not is_overdue(schedule, now + ahead, now, known_since=now)
    assert not is_overdue(schedule, None, now, known_since=now + ahead)


@given(SCHEDULES, TIMES)
def test_a_job_that_never_ran_is_measured_from_its_first_time(schedule: Schedule, known: datetime) -> None:
    first = next_due(schedule, None, known)
    limit = overdue_from(schedule, first)
    assert not is_overdue(schedule, None, limit, known_since=known)
    assert is_overdue(schedule, None, limit + MINUTE, known_since=known)


@given(SCHEDULES, TIMES)
def test_the_widest_gap_is_at_least_every_gap_that_comes(schedule: Schedule, since: datetime) -> None:
    widest, moment = widest_gap(schedule, since), since
    for _ in range(8):
        due = next_due(schedule, moment, moment)
        assert due - moment <= widest
        moment = due


@pytest.mark.parametrize("text", ["30 2 * * 1-5", "0 9-17 * * 1-5", "*/5 8-18 * * mon-fri"])
def test_weekdays_do_not_alarm_on_a_monday(text: str) -> None:
    """Also with more than eight times a day: then the weekend is among no next eight."""
    schedule = parse_schedule(text, "Europe/Berlin")
    last = next_due(schedule, None, utc("2026-11-20T00:00"))  # a Friday
    while (due := next_due(schedule, last, last)) < utc("2026-11-21T00:00"):
        last = due
    for hour in range(48 + 7):
        assert not is_overdue(
            schedule, last, utc("2026-11-21T00:00") + timedelta(hours=hour), known_since=last
        )
    assert is_overdue(schedule, last, utc("2026-11-24T09:00"), known_since=last)


@pytest.mark.parametrize(
    ("text", "last", "limit"),
    [
        ("daily at 02:30", "2026-11-20T01:30", "2026-11-21T07:30"),
        ("every 6h", "2026-11-20T01:30", "2026-11-20T09:00"),
        ("every 5m", "2026-11-20T01:30", "2026-11-20T01:45"),
        ("daily at 02:30", "2026-10-24T00:30", "2026-10-25T07:45"),  # a night of 25 hours: 1.25 of them
        ("weekly", "2026-11-21T23:00", "2026-11-30T17:00"),
    ],
)
def test_some_limits(text: str, last: str, limit: str) -> None:
    assert overdue_from(parse_schedule(text, "Europe/Berlin"), utc(last)) == utc(limit)
