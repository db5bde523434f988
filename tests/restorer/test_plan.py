"""Ranges: what every plan must hold, whatever frames are wanted."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from backup.format.treehash import align
from backup.model import MIB, ByteRange, FrameRow
from backup.restorer.ranges import NEAR, Frames, RangePlan, cover, plan_ranges


@st.composite
def packs(draw: st.DrawFn) -> tuple[int, list[FrameRow]]:
    """An archive's size, and some of the frames in it, in any order: end to end, or with gaps."""
    rows: list[FrameRow] = []
    offset = draw(st.integers(1000, 3 * MIB))
    for number in range(draw(st.integers(1, 20))):
        length = draw(st.integers(17, 4 * MIB + 17))
        if draw(st.booleans()):
            rows.append(FrameRow(number, offset, length, length - 16, 0, b"d" * 16))
        offset += length + draw(st.sampled_from([0, 0, 0, 10 * MIB]))
    size = offset + draw(st.integers(1, 2 * MIB))
    return size, draw(st.permutations(rows))


gaps = st.sampled_from([0, 1, MIB, NEAR, 64 * MIB])


@given(packs())
def test_packed_frames_are_the_frames(pack: tuple[int, list[FrameRow]]) -> None:
    _, rows = pack
    frames = Frames(rows)
    assert frames == tuple(rows)
    assert tuple(rows) == frames
    assert [frames[at] for at in range(-len(rows), len(rows))] == rows + rows
    assert frames[1:3] == rows[1:3]
    assert (len(frames), frames == rows[1:]) == (len(rows), not rows)
    with pytest.raises(IndexError):
        frames[len(rows)]


@given(packs(), gaps)
def test_every_wanted_frame_lies_in_its_range(pack: tuple[int, list[FrameRow]], gap: int) -> None:
    size, frames = pack
    plans = plan_ranges(7, size, frames, gap=gap)
    assert sorted(row for plan in plans for row in plan.frames) == sorted(frames)
    for plan in plans:
        assert plan.archive == 7
        assert list(plan.frames) == sorted(plan.frames, key=lambda row: row.offset)
        for row in plan.frames:
            assert plan.extent.start <= row.offset
            assert row.offset + row.sealed_length <= plan.extent.end


@given(packs(), gaps)
def test_ranges_are_aligned_disjoint_and_merged_within_the_gap(
    pack: tuple[int, list[FrameRow]], gap: int
) -> None:
    size, frames = pack
    extents = [plan.extent for plan in plan_ranges(1, size, frames, gap=gap)]
    for extent in extents:
        assert extent == align(extent, size)
    for before, after in itertools.pairwise(extents):
        assert after.start - before.end > gap


@given(packs(), gaps)
def test_a_range_holds_no_more_than_its_frames_need(pack: tuple[int, list[FrameRow]], gap: int) -> None:
    size, frames = pack
    for plan in plan_ranges(1, size, frames, gap=gap):
        first, last = plan.frames[0], plan.frames[-1]
        assert plan.extent == align(ByteRange(first.offset, last.offset + last.sealed_length), size)
        needed = [align(ByteRange(row.offset, row.offset + row.sealed_length), size) for row in plan.frames]
        for before, after in itertools.pairwise(needed):
            assert after.start - before.end <= gap


@given(packs())
def test_without_ranges_the_whole_archive_is_one(pack: tuple[int, list[FrameRow]]) -> None:
    size, frames = pack
    plans = plan_ranges(1, size, frames, whole=True)
    assert [plan.extent for plan in plans] == ([ByteRange(0, size)] if frames else [])
    assert sorted(row for plan in plans for row in plan.frames) == sorted(frames)


@given(packs(), packs(), gaps)
def test_what_was_asked_for_covers_the_plan(
    one: tuple[int, list[FrameRow]], other: tuple[int, list[FrameRow]], gap: int
) -> None:
    plans = plan_ranges(1, *one, gap=gap) + plan_ranges(2, *other, gap=gap)
    assert cover(plans, [(plan.archive, plan.extent) for plan in plans]) == plans


@given(packs(), st.data())
def test_frames_outside_of_what_was_asked_for_are_left_out(
    pack: tuple[int, list[FrameRow]], data: st.DataObject
) -> None:
    plans = plan_ranges(1, *pack, gap=0)
    kept = [plan for plan in plans if data.draw(st.booleans())]
    asked = [(plan.archive, plan.extent) for plan in kept]
    assert cover(plans, asked) == kept
    assert [plan.frames for plan in cover([], asked)] == [()] * len(kept)


def test_two_frames_far_apart_are_two_requests() -> None:
    near = FrameRow(0, 100, 1000, 984, 0, b"d" * 16)
    far = FrameRow(9, 40 * MIB + 5, 1000, 984, 0, b"d" * 16)
    plans = plan_ranges(3, 41 * MIB, [far, near])
    assert plans == [
        RangePlan(3, ByteRange(0, MIB), (near,)),
        RangePlan(3, ByteRange(40 * MIB, 41 * MIB), (far,)),
    ]


def test_a_frame_at_the_end_takes_the_archives_end() -> None:
    row = FrameRow(0, 5 * MIB + 1, 99, 83, 0, b"d" * 16)
    assert plan_ranges(3, 5 * MIB + 500, [row])[0].extent == ByteRange(5 * MIB, 5 * MIB + 500)


@settings(max_examples=150, deadline=None)
@given(
    mibs=st.integers(1, 9),
    short=st.integers(0, MIB - 1),
    cells=st.sets(st.integers(0, 8), min_size=1, max_size=5),
    gap=st.integers(0, 4 * MIB),
)
def test_no_choice_of_ranges_is_cheaper(mibs: int, short: int, cells: set[int], gap: int) -> None:
    """Every set of whole MiB that holds the frames, at the price of its bytes and `gap` a run of it."""
    size = mibs * MIB - short
    wanted = {cell for cell in cells if cell < mibs}
    assume(wanted)
    rows = [FrameRow(n, cell * MIB, 1, 1, 0, b"") for n, cell in enumerate(sorted(wanted))]
    planned = plan_ranges(1, size, rows, gap=gap)

    def cost(chosen: int) -> int:
        taken = [cell for cell in range(mibs) if chosen >> cell & 1]
        runs = sum(cell - 1 not in taken for cell in taken)
        return sum(min((cell + 1) * MIB, size) - cell * MIB for cell in taken) + runs * gap

    need = sum(1 << cell for cell in wanted)
    cheapest = min(cost(chosen) for chosen in range(1 << mibs) if chosen & need == need)
    assert sum(plan.extent.length for plan in planned) + len(planned) * gap == cheapest
    assert sorted(row.number for plan in planned for row in plan.frames) == list(range(len(rows)))


def test_a_frame_comes_once_where_ranges_overlap() -> None:
    rows = tuple(FrameRow(n, n * MIB, 10, 10, 0, b"") for n in range(4))
    plan = RangePlan(1, ByteRange(0, 4 * MIB), rows)
    asked = [(1, ByteRange(0, 2 * MIB)), (1, ByteRange(MIB, 4 * MIB)), (2, ByteRange(0, 4 * MIB))]
    laid = cover([plan], asked)
    assert [[row.number for row in part.frames] for part in laid] == [[0, 1], [2, 3], []]
