"""Patience: what may work is tried again with growing waits, and its own error comes out at the end."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.errors import DeniedError, ThrottledError, UnreachableError
from backup.transfer.retry import RetryPolicy
from tests.support.doubles import ManualClock


class Flaky:
    """Fails so many times, then works."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures = failures
        self.error = error
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "worked"


@given(failures=st.integers(0, 12), attempts=st.integers(1, 10), seed=st.integers())
def test_tries_until_it_works_or_patience_ends(failures: int, attempts: int, seed: int) -> None:
    clock = ManualClock()
    action = Flaky(failures, UnreachableError("away"))
    patience = RetryPolicy(clock, attempts=attempts, chance=random.Random(seed).random)
    if failures < attempts:
        assert patience.call(action) == "worked"
    else:
        with pytest.raises(UnreachableError) as caught:
            patience.call(action)
        assert caught.value is action.error
    assert action.calls == min(failures + 1, attempts)
    assert len(clock.slept) == action.calls - 1
    for number, wait in enumerate(clock.slept):
        full = min(0.5 * 2**number, 60)
        assert full / 2 <= wait <= full


@pytest.mark.parametrize("error", [DeniedError("no"), ValueError("a mistake"), OSError(5, "disk")])
def test_what_cannot_get_better_is_not_tried_again(error: Exception) -> None:
    clock = ManualClock()
    action = Flaky(5, error)
    with pytest.raises(type(error)):
        RetryPolicy(clock).call(action)
    assert (action.calls, clock.slept) == (1, [])


def test_outlasts_a_minute_of_errors_without_waiting_for_real() -> None:
    clock = ManualClock()
    began = time.monotonic()
    assert RetryPolicy(clock).call(Flaky(8, ThrottledError("slow"))) == "worked"
    assert 60 <= sum(clock.slept) <= 130
    assert time.monotonic() - began < 20


def test_two_servers_do_not_come_back_together() -> None:
    clocks = ManualClock(), ManualClock()
    for clock in clocks:
        RetryPolicy(clock).call(Flaky(5, UnreachableError("away")))
    assert clocks[0].slept != clocks[1].slept
