"""Unusual nights: laws of the rule, and the nights that it is there for."""

from __future__ import annotations

from itertools import cycle, islice
from math import isclose
from statistics import median

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from backup.retention.unusual import (
    BYTES_FLOOR,
    FILES_FLOOR,
    LEAST_NIGHTS,
    NIGHTS,
    Direction,
    Figure,
    Figures,
    Unusual,
    judge,
    judge_all,
    judge_figures,
)

FLOOR = 100.0
numbers = st.floats(0, 1e15)
nights = st.lists(numbers, max_size=NIGHTS)
enough = st.lists(numbers, min_size=LEAST_NIGHTS, max_size=NIGHTS)


def found(value: float, earlier: list[float], floor: float = FLOOR) -> Direction | None:
    unusual = judge(value, earlier, floor=floor)
    return unusual.direction if unusual else None


@given(numbers, st.lists(numbers, max_size=LEAST_NIGHTS - 1))
def test_with_few_nights_nothing_is_said(value: float, earlier: list[float]) -> None:
    assert judge(value, earlier, floor=FLOOR) is None


@given(numbers, enough, st.data())
def test_the_order_of_the_nights_before_is_no_matter(
    value: float, earlier: list[float], data: st.DataObject
) -> None:
    assert judge(value, data.draw(st.permutations(earlier)), floor=FLOOR) == judge(
        value, earlier, floor=FLOOR
    )


@given(numbers, st.lists(numbers, min_size=NIGHTS, max_size=NIGHTS), st.lists(numbers, max_size=9))
def test_older_nights_are_forgotten(value: float, earlier: list[float], older: list[float]) -> None:
    assert judge(value, older + earlier, floor=FLOOR) == judge(value, earlier, floor=FLOOR)


@given(numbers, enough)
def test_a_difference_below_the_floor_is_never_unusual(change: float, earlier: list[float]) -> None:
    usual = sorted(earlier)[len(earlier) // 2]
    median_is_one_of_them = len(earlier) % 2 == 1
    assume(median_is_one_of_them)
    for value in (usual + min(change, FLOOR), max(0.0, usual - min(change, FLOOR))):
        assert judge(value, earlier, floor=FLOOR) is None


@given(numbers, enough, st.integers(0, 20).map(lambda power: 2.0**power))
def test_the_unit_is_no_matter(value: float, earlier: list[float], unit: float) -> None:
    scaled = judge(value * unit, [value_before * unit for value_before in earlier], floor=FLOOR * unit)
    plain = judge(value, earlier, floor=FLOOR)
    near_the_bound = found(value * 0.999, earlier) != found(value * 1.001, earlier)
    if not near_the_bound:
        assert (scaled and scaled.direction) == (plain and plain.direction)
    if scaled and plain:
        assert isclose(scaled.usual, plain.usual * unit, rel_tol=1e-9)


@given(numbers, numbers, enough)
def test_what_is_farther_out_is_as_unusual(one: float, other: float, earlier: list[float]) -> None:
    less, more = sorted((one, other))
    if found(less, earlier) is Direction.MORE:
        assert found(more, earlier) is Direction.MORE
    if found(more, earlier) is Direction.LESS:
        assert found(less, earlier) is Direction.LESS


@given(numbers, enough, st.floats(1, 1e15))
def test_what_is_told_is_far_above_the_floor_or_was(value: float, earlier: list[float], floor: float) -> None:
    unusual = judge(value, earlier, floor=floor)
    if unusual is not None:
        assert max(value, unusual.usual) > 2.9 * floor
        assert unusual.usual == median(earlier)


@given(enough.filter(lambda row: len(row) % 2 == 1))
def test_the_night_in_the_middle_is_usual(earlier: list[float]) -> None:
    assert judge(sorted(earlier)[len(earlier) // 2], earlier, floor=FLOOR) is None


@given(numbers, st.integers(LEAST_NIGHTS, 2 * NIGHTS))
def test_of_equal_nights_none_is_unusual(value: float, count: int) -> None:
    assert judge_all([value] * count, floor=FLOOR) == [None] * count


@given(st.lists(numbers, max_size=2 * NIGHTS))
def test_each_night_is_judged_by_those_before_it(values: list[float]) -> None:
    expected = [judge(value, values[:place], floor=FLOOR) for place, value in enumerate(values)]
    assert judge_all(values, floor=FLOOR) == expected


@given(enough, st.lists(st.floats(1e16, 1e30), max_size=2))
def test_two_odd_nights_hide_no_third(earlier: list[float], odd: list[float]) -> None:
    """Whatever the two were: the MAD does not move with them as long as they are few."""
    steady = [1000.0 + value_before % 100 for value_before in earlier]
    assert found(1e6, steady + odd[: len(steady) // 8]) is Direction.MORE


def test_the_edges_of_the_rule() -> None:
    steady = [1000.0] * NIGHTS
    assert judge(3000, steady, floor=FLOOR) is None
    assert judge(3001, steady, floor=FLOOR) == Unusual(Direction.MORE, 1000)
    assert judge(334, steady, floor=FLOOR) is None
    assert judge(333, steady, floor=FLOOR) == Unusual(Direction.LESS, 1000)
    assert found(0, [250.0] * NIGHTS) is None  # the floor is 100: a factor of 2.5
    assert judge(301, [5.0] * NIGHTS, floor=FLOOR) == Unusual(Direction.MORE, 5)
    assert found(3001, steady[:LEAST_NIGHTS]) is Direction.MORE
    assert found(3001, steady[: LEAST_NIGHTS - 1]) is None


def test_four_spreads() -> None:
    """Nights that scatter by a factor of two: MAD is ln 2, and 4 x 1.4826 x ln 2 a factor of 61."""
    scattered = [500.0, 2000.0] * 7 + [1000.0]
    assert found(60_000, scattered) is None
    assert found(62_000, scattered) is Direction.MORE


def test_weeks_are_usual_and_what_is_far_beyond_them_is_not() -> None:
    """Small weekends and a large dump each Sunday night, as servers have them."""
    week = [300.0, 320.0, 310.0, 290.0, 305.0, 20.0, 9000.0]
    history = list(islice(cycle(week), 60))
    floor = 5.0
    assert judge_all(history, floor=floor)[28:] == [None] * 32
    assert found(27_000, history, floor) is None
    assert found(36_000, history, floor) is Direction.MORE
    assert found(5, history, floor) is Direction.LESS


def test_what_goes_on_is_told_three_times() -> None:
    """A night on which everything changes, and those after it: told, and then known."""
    values = [200.0] * 20 + [50_000.0] * 5
    told = [verdict is not None for verdict in judge_all(values, floor=FLOOR)]
    assert told == [False] * 20 + [True] * 3 + [False] * 2


def test_a_floor_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        judge(1, [1.0] * 9, floor=0)


figures = st.builds(Figures, st.integers(0, 10**7), st.integers(0, 10**13), st.integers(0, 10**13))


@given(figures, st.lists(figures, max_size=NIGHTS + 5))
def test_each_figure_is_judged_by_itself(night: Figures, before: list[Figures]) -> None:
    odd = judge_figures(night, before)
    last = before[-NIGHTS:]
    assert odd.get(Figure.FILES) == judge(night.files, [past.files for past in last], floor=FILES_FLOOR)
    assert odd.get(Figure.BYTES) == judge(night.uploaded, [past.uploaded for past in last], floor=BYTES_FLOOR)
    if night.new < BYTES_FLOOR:
        assert Figure.RATIO not in odd, "too little to say anything of its compression"


@given(
    st.integers(1, 1000), st.floats(0.1, 0.6), st.lists(st.floats(0.95, 1.05), min_size=7, max_size=NIGHTS)
)
def test_files_that_were_encrypted_show(mib: int, usual: float, scatter: list[float]) -> None:
    """As many files as ever, and of the same size: but new data cannot be compressed any more."""
    size = max(mib * 2**20, BYTES_FLOOR)
    before = [Figures(100, round(size * usual * factor), size) for factor in scatter]
    odd = judge_figures(Figures(100, size, size), before)
    assert odd[Figure.RATIO].direction is Direction.MORE
    assert judge_figures(Figures(100, round(size * usual), size), before) == {}


@given(st.integers(0, 50), st.integers(1, 40))
def test_each_sunday_a_dump_is_usual(files: int, gib: int) -> None:
    week = [Figures(files, 2**20, 2**20)] * 6 + [Figures(files, gib * 2**30, gib * 2**30)]
    nights = week * 5
    assert judge_figures(nights[-1], nights[:-1]) == {}
    odd = judge_figures(Figures(files + 100_000, gib * 2**30, gib * 2**30), nights[:-1])
    assert list(odd) == [Figure.FILES]
