"""Patience is told of and bounded: no silent minutes, and a vault that is away is given up."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.errors import NightvaultError, ThrottledError, UnreachableError
from backup.transfer.retry import FIRST_CONTACT, RetryLimit, RetryPolicy
from tests.support.doubles import ManualClock, Silent


class Away:
    """A vault that is away: each try takes so long before it fails; after `back` seconds it works."""

    def __init__(self, clock: ManualClock, took: float, error: NightvaultError, back: float = 1e9) -> None:
        self.clock = clock
        self.began = clock.now()
        self.took = took
        self.error = error
        self.back = back

    def __call__(self) -> str:
        if self.seconds >= self.back:
            return "worked"
        self.clock.advance(timedelta(seconds=self.took))
        raise self.error

    @property
    def seconds(self) -> float:
        return (self.clock.now() - self.began).total_seconds()


@given(took=st.sampled_from([0.0, 0.1, 1.0, 3.0, 10.0]), seed=st.integers())
def test_a_vault_that_is_away_is_given_up_within_thirty_seconds(took: float, seed: int) -> None:
    """Whether the endpoint refuses at once or swallows every packet for ten seconds."""
    clock, progress = ManualClock(), Silent()
    away = Away(clock, took, UnreachableError("away"))
    patience = RetryLimit().patience(clock, progress)
    patience = RetryPolicy(
        clock,
        limit=patience.limit,
        insists=patience.insists,
        tell=patience.tell,
        chance=random.Random(seed).random,
    )
    with pytest.raises(UnreachableError):
        patience.call(away)
    assert away.seconds <= FIRST_CONTACT
    assert progress.notes == ["away: it is tried again"] * len(progress.notes)


@pytest.mark.parametrize("seconds", [120.0, 3600.0])
def test_patience_can_be_asked_for(seconds: float) -> None:
    """--patience makes it longer, and no number of tries ends it before."""
    clock, progress = ManualClock(), Silent()
    away = Away(clock, 0.1, UnreachableError("away"))
    with pytest.raises(UnreachableError):
        RetryLimit(seconds).patience(clock, progress).call(away)
    assert seconds - 61 <= away.seconds <= seconds
    assert len(progress.notes) >= seconds / 150  # a word now and then, not one a try


def test_less_patience_too() -> None:
    """--patience 0s tries once."""
    clock = ManualClock()
    with pytest.raises(UnreachableError):
        RetryLimit(0.0).patience(clock, Silent()).call(Away(clock, 0.1, UnreachableError("away")))
    assert clock.slept == []


@given(took=st.floats(0, 4.5), seed=st.integers())
def test_what_is_tried_again_is_told_within_five_seconds(took: float, seed: int) -> None:
    """As soon as the first try has failed, it is known whether the next one ends in time."""
    clock = ManualClock()
    told: list[float] = []
    away = Away(clock, took, UnreachableError("away"), back=20)
    patience = RetryPolicy(clock, tell=lambda _: told.append(away.seconds), chance=random.Random(seed).random)
    assert patience.call(away) == "worked"
    assert told[0] <= 5
    assert len(told) == 2  # and that it works again


def test_what_passes_at_once_is_not_told() -> None:
    """Glacier answers 500 in normal life; nobody needs to know of half a second."""
    clock = ManualClock()
    told: list[str] = []
    away = Away(clock, 0.0, ThrottledError("busy"), back=1)
    assert RetryPolicy(clock, tell=told.append).call(away) == "worked"
    assert told == []


def test_a_vault_that_is_busy_is_not_given_up_for_the_time() -> None:
    """One that asks for patience gets as many tries as ever."""
    clock = ManualClock()
    with pytest.raises(ThrottledError):
        RetryLimit().patience(clock, Silent()).call(Away(clock, 0.0, ThrottledError("busy")))
    assert len(clock.slept) == 8
    assert sum(clock.slept) > FIRST_CONTACT


def test_one_that_has_answered_gets_more_time() -> None:
    """In hours of waiting half a minute without a network ends nothing."""
    clock, progress = ManualClock(), Silent()
    away = Away(clock, 0.1, UnreachableError("away"), back=60)
    assert RetryLimit(has_answered=True).patience(clock, progress).call(away) == "worked"
    assert progress.notes == ["away: it is tried again", "it works again"]
