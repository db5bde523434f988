"""Until when a policy keeps each snapshot: as if the nights had gone by one after the other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.retention.expiry import ends_of
from backup.retention.history import Candidate
from backup.retention.policy import Policy, decide
from backup.schedule import parse_schedule

ZONE = ZoneInfo("Europe/Berlin")
NIGHTLY = parse_schedule("daily at 02:30", "Europe/Berlin")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def past(nights: int, *, is_pinned: bool = False) -> list[Candidate]:
    """Nights up to the last one, at half past two."""
    first = datetime(2026, 3, 1, 2, 30, tzinfo=ZONE) - (nights - 1) * DAY
    return [Candidate(number + 1, first + number * DAY, is_pinned=is_pinned) for number in range(nights)]


@given(nights=st.integers(1, 25), last=st.integers(0, 5), weekly=st.integers(0, 4), daily=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_the_end_is_the_night_that_forgets_it(nights: int, last: int, weekly: int, daily: int) -> None:
    """Played night by night with `decide` itself."""
    policy = Policy(last=last, weekly=weekly, daily=daily)
    if policy.is_empty:
        return
    candidates = past(nights)
    found = ends_of(policy, NIGHTLY, candidates, now=NOW, zone=ZONE, horizon=60 * DAY)
    played: dict[int, datetime | None] = dict.fromkeys((candidate.number for candidate in candidates), None)
    staying, at = list(candidates), datetime(2026, 3, 2, 2, 30, tzinfo=ZONE)
    for number in range(nights + 1, nights + 60):
        staying.append(Candidate(number, at))
        kept = {
            decision.number for decision in decide(policy, staying, now=at, zone=ZONE) if decision.is_kept
        }
        for gone in (candidate.number for candidate in staying if candidate.number not in kept):
            if gone in played:
                played[gone] = at
        staying = [candidate for candidate in staying if candidate.number in kept]
        at += DAY
    assert found == played


@pytest.mark.parametrize("is_pinned", [True, False], ids=["pinned", "no policy"])
def test_what_nobody_will_forget_has_no_end(is_pinned: bool) -> None:
    policy = Policy(last=1) if is_pinned else None
    candidates = past(5, is_pinned=is_pinned)
    found = ends_of(policy, NIGHTLY, candidates, now=NOW, zone=ZONE, horizon=60 * DAY)
    assert set(found.values()) == {None}


def test_a_job_that_is_run_by_hand_has_no_ends() -> None:
    assert set(ends_of(Policy(last=1), None, past(3), now=NOW, zone=ZONE, horizon=60 * DAY).values()) == {
        None
    }


def test_a_snapshot_of_the_future_has_no_end() -> None:
    candidates = [*past(3), Candidate(4, NOW + 400 * DAY)]
    found = ends_of(Policy(last=2), NIGHTLY, candidates, now=NOW, zone=ZONE, horizon=60 * DAY)
    assert found[4] is None
    assert found[3] is not None
