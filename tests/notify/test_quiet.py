"""Quiet hours: laws over any hours, times and zones, those of summer time among them."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from backup.notify.decide import QuietHours

ZONES = [ZoneInfo(name) for name in ("UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe")]
hours = st.builds(
    QuietHours,
    st.times().map(lambda moment: moment.replace(second=0, microsecond=0)),
    st.times().map(lambda moment: moment.replace(second=0, microsecond=0)),
    st.sampled_from(ZONES),
).filter(lambda one: one.begin != one.end)
moments = st.integers(0, 2 * 365 * 24 * 60).map(
    lambda minutes: datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
)


def is_quiet(quiet: QuietHours, at: datetime) -> bool:
    local = at.astimezone(quiet.zone).time()
    if quiet.begin < quiet.end:
        return quiet.begin <= local < quiet.end
    return local >= quiet.begin or local < quiet.end


@given(hours, moments)
def test_what_is_allowed_is_not_quiet(quiet: QuietHours, now: datetime) -> None:
    allowed = quiet.allowed_from(now)
    assert allowed >= now
    assert allowed - now <= timedelta(hours=25), "hours of a day, and the hour of autumn"
    assert (allowed == now) or is_quiet(quiet, now)
    if not is_quiet(quiet, now):
        assert allowed == now


@given(hours, moments)
def test_it_waits_no_longer_than_it_must(quiet: QuietHours, now: datetime) -> None:
    """All full minutes before are quiet, but for the hour of autumn, of which there are two."""
    allowed = quiet.allowed_from(now)
    shown = allowed.astimezone(quiet.zone)
    if allowed != now and shown.fold == 0:
        steps = range(0, int((allowed - now).total_seconds()), 900)
        loud = [
            now + timedelta(seconds=step)
            for step in steps
            if not is_quiet(quiet, now + timedelta(seconds=step))
        ]
        assert len(loud) <= 4


def test_over_midnight() -> None:
    quiet = QuietHours.parse("22:00-07:00", ZoneInfo("Europe/Berlin"))
    assert quiet == QuietHours(time(22), time(7), ZoneInfo("Europe/Berlin"))
    assert quiet.allowed_from(datetime(2026, 11, 26, 2, 0, tzinfo=UTC)) == datetime(
        2026, 11, 26, 6, 0, tzinfo=UTC
    )
    assert quiet.allowed_from(datetime(2026, 11, 26, 21, 0, tzinfo=UTC)) == datetime(
        2026, 11, 27, 6, 0, tzinfo=UTC
    )
    assert quiet.allowed_from(datetime(2026, 11, 26, 6, 0, tzinfo=UTC)) == datetime(
        2026, 11, 26, 6, 0, tzinfo=UTC
    )


def test_none() -> None:
    assert QuietHours.parse("none", ZONES[0]) is None
    assert QuietHours.parse("08:00-08:00", ZONES[0]) is None


def test_an_end_that_no_clock_shows_is_the_first_time_after_it() -> None:
    quiet = QuietHours.parse("22:00-02:15", ZoneInfo("Europe/Berlin"))
    assert quiet is not None
    night = datetime(2026, 3, 28, 23, 0, tzinfo=UTC)
    assert quiet.allowed_from(night) == datetime(2026, 3, 29, 1, 0, tzinfo=UTC), "03:00 there"
