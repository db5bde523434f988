"""Dates against the order of snapshots: found by majority, all that may be wrong and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from backup.retention.dates import STEP, in_doubt

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def _dates(hours: list[int]) -> list[datetime]:
    return [BEGIN + timedelta(hours=hour) for hour in hours]


@given(st.lists(st.integers(0, 200), max_size=9))
def test_in_doubt_is_what_some_longest_chain_lacks(hours: list[int]) -> None:
    """Beside all subsets, the longest of which whose steps go back by a day at most."""
    dates = _dates(hours)
    chains = [
        set(chosen)
        for size in range(len(dates) + 1)
        for chosen in combinations(range(len(dates)), size)
        if all(dates[place] <= dates[two] + STEP for place, two in pairwise(chosen))
    ]
    longest = max(map(len, chains))
    in_all = set(range(len(dates))).intersection(*(chain for chain in chains if len(chain) == longest))
    assert in_doubt(dates) == set(range(len(dates))) - in_all


@given(st.lists(st.integers(0, 20_000), max_size=60))
def test_right_dates_are_never_in_doubt(hours: list[int]) -> None:
    assert in_doubt(_dates(sorted(hours))) == frozenset()


def test_known_orders() -> None:
    day = 24
    assert in_doubt([]) == frozenset()
    assert in_doubt(_dates([0, 5 * day, 2 * day, 3 * day])) == {1}
    assert in_doubt(_dates([0, 5 * day, 2 * day])) == {1, 2}
    assert in_doubt(_dates([10 * day, 11 * day, 0, 12 * day])) == {2}
    assert in_doubt(_dates([0, 30, 6, 60])) == frozenset()  # set back by a day: no doubt
    assert in_doubt(_dates([0, 31, 6, 60])) == {1, 2}
