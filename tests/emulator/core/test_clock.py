"""The emulator's clock and how it counts the age of things."""

from __future__ import annotations

import urllib.error
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.emulator.core.state.clock import DAY_MS, SHORTEST_LIFE_MS, ClockState, EmulatorClock, real_now_ms
from tests.support.emulated import RunningEmulator, write_accounts


@given(
    speed=st.floats(0.1, 1e6), life=st.integers(1, 40 * DAY_MS), passed=st.integers(0, SHORTEST_LIFE_MS - 1)
)
def test_nothing_runs_out_by_speed_alone_within_ten_minutes(speed: float, life: int, passed: int) -> None:
    start = ClockState(0, 0, 0, speed)
    assert start.at(passed).age_ms(start, life) < life


def test_steps_count_in_full() -> None:
    start = ClockState(0, 0, 0, 1)
    stepped = ClockState(1000, DAY_MS, DAY_MS, 1)
    assert stepped.age_ms(start, DAY_MS) == DAY_MS + 1000


def test_speed_multiplies_real_time() -> None:
    assert ClockState(1000, 5000, 0, 60).at(3000).emulated_ms == 5000 + 2000 * 60


def test_real_time_that_goes_back_does_not_move_the_clock() -> None:
    assert ClockState(1000, 5000, 0, 60).at(0).emulated_ms == 5000


def test_a_clock_goes_on_from_where_it_stood() -> None:
    an_hour_ago = real_now_ms() - 3_600_000
    clock = EmulatorClock(ClockState(an_hour_ago, 10, 7, 2.0), speed=1.0)
    now = clock.now()
    assert 10 + 7_200_000 <= now.emulated_ms < 10 + 7_300_000
    assert (now.stepped_ms, now.speed) == (7, 1.0)


def test_advance_steps() -> None:
    clock = EmulatorClock(None, speed=1.0)
    before = clock.now()
    after = clock.advance(90.5)
    assert after.stepped_ms == 90_500
    assert 90_500 <= after.emulated_ms - before.emulated_ms < 95_000


def test_the_clock_stays_within_four_digits(tmp_path: Path) -> None:
    with RunningEmulator(tmp_path / "state", write_accounts(tmp_path / "accounts.toml")) as running:
        century = 100 * 365 * 24 * 3600
        for _ in range(69):
            running.advance(century)
        with pytest.raises(urllib.error.HTTPError, match="400"):
            running.advance(century)
        assert running.now() < "9000"
