"""Times that were missed and are skipped, and delays that spread servers over a while: laws."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from backup.schedule import Calendar, Schedule, after_missed, delayed, next_due, parse_schedule

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
TEXTS = ("daily at 02:30", "weekly", "30 2 * * 1-5", "0 9-17 * * 1-5", "every 6h", "every 3d")
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
TIMES = st.integers(1_577_836_800, 2_208_988_800).map(lambda stamp: datetime.fromtimestamp(stamp, UTC))
SCHEDULES = st.builds(parse_schedule, st.sampled_from(TEXTS), st.sampled_from(ZONES))
SPANS = st.timedeltas(timedelta(), 20 * DAY)
SLACKS = st.timedeltas(timedelta(), 2 * DAY / 24)


@given(SCHEDULES, TIMES, SPANS, SLACKS)
def test_what_is_skipped_is_every_time_but_the_first_that_is_not_too_old(
    schedule: Schedule, last: datetime, away: timedelta, slack: timedelta
) -> None:
    now = last + away
    expected = next_due(schedule, last, now)
    while isinstance(schedule.rule, Calendar) and expected < now - slack:
        expected = next_due(schedule, expected, now)
    assert after_missed(schedule, last, now, slack) == expected


@given(SCHEDULES, TIMES, SPANS, SLACKS)
def test_never_two_runs_after_waking(
    schedule: Schedule, last: datetime, away: timedelta, slack: timedelta
) -> None:
    """Whether what was missed is made up for or skipped: once a run has begun, none is due at once."""
    now = last + away
    assert next_due(schedule, now, now) > now
    assert after_missed(schedule, now, now, slack) > now


@given(SCHEDULES, TIMES, st.timedeltas(timedelta(), 4 * DAY), st.text(), st.integers(-12, 12))
def test_a_delay_is_the_same_for_all_who_ask(
    schedule: Schedule, now: datetime, jitter: timedelta, seed: str, hours: int
) -> None:
    due = next_due(schedule, now, now)
    late = delayed(due, jitter, seed)
    assert due <= late <= due + jitter
    assert late == delayed(due.astimezone(timezone(timedelta(hours=hours))), jitter, seed)


def test_servers_and_nights_are_spread() -> None:
    due, hour = datetime(2026, 11, 26, 1, 30, tzinfo=UTC), timedelta(hours=1)
    of_servers = [delayed(due, hour, f"web{n}/main") - due for n in range(400)]
    of_nights = [delayed(due + n * DAY, hour, "web1/main") - due - n * DAY for n in range(400)]
    for late in (of_servers, of_nights):
        quarters = [sum(delay // (hour / 4) == quarter for delay in late) for quarter in range(4)]
        assert min(quarters) > 60
        assert len(set(late)) > 390
