"""What is read next: never-read slices first, then the oldest, within the budget; in time, everything."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from backup.checker.sample import Amount, Slice, choose, extent_of, frames_in, join, slices_of
from backup.model import MIB, FrameRow

START = datetime(2026, 1, 1, tzinfo=UTC)
times = st.none() | st.integers(0, 50).map(lambda day: START + timedelta(days=day))


@st.composite
def shelves(draw: st.DrawFn) -> list[Slice]:
    """Slices of some archives, some of them read at some time."""
    slices: list[Slice] = []
    for archive in range(1, draw(st.integers(1, 6)) + 1):
        size = draw(st.integers(1, 9 * MIB))
        slices += slices_of(archive, size, 2 * MIB)
    return [Slice(slice_.archive, slice_.start, slice_.end, draw(times)) for slice_ in slices]


def lots(slices: list[Slice], seed: int = 0) -> dict[int, float]:
    chance = random.Random(seed)
    return {slice_.archive: chance.random() for slice_ in slices}


@given(shelves(), st.integers(1, 60 * MIB), st.integers())
def test_the_budget_holds_and_nothing_younger_is_taken_before_something_older(
    slices: list[Slice], budget: int, seed: int
) -> None:
    chosen = choose(slices, budget, lots(slices, seed))
    assert chosen
    assert len(set(chosen)) == len(chosen)
    assert sum(slice_.length for slice_ in chosen) <= budget or len(chosen) == 1
    left = set(slices) - set(chosen)
    newest = max(slice_.read_at or START - timedelta(1) for slice_ in chosen)
    assert all((slice_.read_at or START - timedelta(1)) >= newest for slice_ in left)
    assert not left or sum(slice_.length for slice_ in chosen) + 2 * MIB > budget


@given(st.integers(1, 40 * MIB), st.integers(1, 8), st.integers(1, 100))
def test_in_time_everything_is_read(size: int, length_mib: int, percent: int) -> None:
    read: list[tuple[int, int, datetime]] = []
    total = slices_of(1, size, length_mib * MIB)
    budget = Amount(share=Fraction(percent, 100)).of(size)
    assert 1 <= budget <= size
    for day in range(len(total)):
        slices = slices_of(1, size, length_mib * MIB, read)
        if all(slice_.read_at for slice_ in slices):
            break
        taken = choose(slices, budget, {1: 0.5})
        assert taken[0].read_at is None
        read += [(slice_.start, slice_.end, START + timedelta(days=day)) for slice_ in taken]
    assert all(slice_.read_at for slice_ in slices_of(1, size, length_mib * MIB, read))


@given(shelves())
def test_joined_slices_are_the_same_bytes(slices: list[Slice]) -> None:
    joined = join(slices)
    assert sum(slice_.length for slice_ in joined) == sum(slice_.length for slice_ in slices)
    assert len(joined) == len({slice_.archive for slice_ in slices}), "neighbours are one"
    some = slices[::2]
    assert {
        (slice_.archive, byte) for slice_ in join(some) for byte in range(slice_.start, slice_.end, MIB)
    } == {(slice_.archive, byte) for slice_ in some for byte in range(slice_.start, slice_.end, MIB)}


@given(st.lists(st.integers(1, 3 * MIB), min_size=1, max_size=30), st.integers(1, 4))
def test_each_frame_belongs_to_one_slice_and_lies_in_its_range(lengths: list[int], length_mib: int) -> None:
    frames, offset = [], 1000
    for number, length in enumerate(lengths):
        frames.append(FrameRow(number, offset, length, length, 0, b""))
        offset += length
    size = offset + 70_000
    met: list[int] = []
    for slice_ in slices_of(1, size, length_mib * MIB):
        mine = frames_in(slice_, frames)
        extent = extent_of(slice_, size, mine)
        assert extent.start <= slice_.start
        assert slice_.end <= extent.end <= size
        assert extent.start % MIB == 0
        assert extent.end % MIB == 0 or extent.end == size
        assert all(
            extent.start <= row.offset and row.offset + row.sealed_length <= extent.end for row in mine
        )
        met += [row.number for row in mine]
    assert met == [row.number for row in frames]


def test_a_range_counts_as_read_only_if_all_of_it_was() -> None:
    first, second = START, START + timedelta(days=1)
    slices = slices_of(
        1, 5 * MIB, 2 * MIB, [(0, 2 * MIB, first), (0, 3 * MIB, second), (4 * MIB, 5 * MIB, first)]
    )
    assert [slice_.read_at for slice_ in slices] == [second, None, first]
