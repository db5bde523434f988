"""Timers of systemd fire when our schedules say, as systemd itself works it out."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.app.machine.units import timer_lines
from backup.errors import ConfigError
from backup.schedule import Schedule, next_due, parse_schedule

SINCE = datetime(2026, 6, 3, 12, 34, 30, tzinfo=UTC)  # no clock is changed in the months that follow
_PERIODS = 4


def systemd_times(lines: list[str]) -> list[datetime]:
    """The next times of these calendar events, by systemd."""
    events = [line.removeprefix("OnCalendar=") for line in lines]
    words = [
        "systemd-analyze",
        "calendar",
        f"--iterations={_PERIODS}",
        f"--base-time={SINCE:%Y-%m-%d %H:%M:%S} UTC",
    ]
    done = subprocess.run([*words, *events], capture_output=True, text=True, check=True, env={"TZ": "UTC"})
    found = re.findall(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC$", done.stdout, re.MULTILINE)
    return sorted({datetime.fromisoformat(f"{time}+00:00") for time in found})


def our_times(schedule: Schedule) -> list[datetime]:
    times = [SINCE]
    for _ in range(_PERIODS):
        times.append(next_due(schedule, times[-1], times[-1]))
    return times[1:]


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    numbers = st.lists(number, min_size=1, max_size=3).map(lambda some: ",".join(map(str, some)))
    return st.one_of(st.just("*"), st.integers(1, 7).map("*/{}".format), numbers)


CRONTABS = st.tuples(field(0, 59), field(0, 23), field(1, 28), st.just("*"), field(0, 7)).map(" ".join)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@settings(max_examples=60)
@given(CRONTABS, ZONES)
def test_systemd_fires_when_our_schedule_says(crontab: str, zone: str) -> None:
    schedule = parse_schedule(crontab, zone)
    ours = our_times(schedule)
    assert systemd_times(timer_lines(schedule))[:_PERIODS] == ours


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("daily at 02:30", ["OnCalendar=*-*-* 02:30:00 UTC"]),
        ("30 2 1 * 1", ["OnCalendar=*-*-01 02:30:00 UTC", "OnCalendar=Mon *-*-* 02:30:00 UTC"]),
        ("every 15m", ["OnCalendar=*-*-* *:0/15:00 UTC"]),
        ("every 60m", ["OnCalendar=*-*-* 0/1:00:00 UTC"]),
        ("every 6h", ["OnCalendar=*-*-* 0/6:00:00 UTC"]),
        ("every 1d", ["OnCalendar=*-*-* 00:00:00 UTC"]),
        ("every 7h", ["OnBootSec=10min", "OnUnitActiveSec=25200s"]),
        ("every 90m", ["OnBootSec=10min", "OnUnitActiveSec=5400s"]),
        ("every 3d", ["OnBootSec=10min", "OnUnitActiveSec=259200s"]),
    ],
)
def test_lines(text: str, lines: list[str]) -> None:
    assert timer_lines(parse_schedule(text, "UTC")) == lines
    assert timer_lines(parse_schedule(text, "UTC"), 90) == [*lines, "RandomizedDelaySec=90s"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@settings(max_examples=20)
@given(st.integers(1, 99), st.sampled_from(["m", "h", "d"]))
def test_an_interval_is_kept_as_far_as_a_calendar_can(number: int, unit: str) -> None:
    """Each time of day follows the one before by the interval."""
    try:
        schedule = parse_schedule(f"every {number}{unit}", "UTC")
    except ConfigError:
        return
    lines = timer_lines(schedule)
    interval = timedelta(**{{"m": "minutes", "h": "hours", "d": "days"}[unit]: number})
    if lines[0].startswith("OnBootSec="):
        assert lines[1] == f"OnUnitActiveSec={int(interval.total_seconds())}s"
        return
    times = systemd_times(lines)
    assert {later - earlier for earlier, later in pairwise(times)} == {interval}
