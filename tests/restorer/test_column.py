"""A column reads the same in memory and in a file, and leaves nothing behind."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.errors import SpoolError
from backup.restorer.selection.column import Column, Scratch

SMALL = 64

NUMBERS = st.integers(0, 2**32 - 1)


@given(st.lists(st.tuples(st.lists(NUMBERS, max_size=40), NUMBERS, NUMBERS), max_size=6))
def test_it_reads_the_same_wherever_it_is(parts: list[tuple[list[int], int, int]]) -> None:
    expected: list[int] = []
    kept, spilled = Column(Scratch(), "I"), Column(Scratch("/tmp", SMALL), "I")
    for some, place, new in parts:
        expected += some
        for column in (kept, spilled):
            column.extend(some)
        if expected:
            at = place % len(expected)
            expected[at] = new
            for column in (kept, spilled):
                column.change(4 * at, array("I", [new]).tobytes())
        for column in (kept, spilled):
            assert list(column.values) == expected
            assert len(column) == len(column.values) == len(expected)
    half = len(expected) // 2
    assert list(spilled.values[half:]) == expected[half:]


def test_a_change_reaches_over_the_end_of_the_file(tmp_path: Path) -> None:
    column = Column(Scratch(str(tmp_path), SMALL))
    column.add(bytes(SMALL))
    column.add(b"behind")
    column.change(SMALL - 2, b"wxyz")
    assert bytes(column.values[SMALL - 3 :]) == b"\0wxyzhind"


def test_its_file_has_no_name_and_takes_no_memory_while_nobody_reads(tmp_path: Path) -> None:
    scratch = Scratch(str(tmp_path), SMALL)
    column = Column(scratch, "Q")
    column.extend(range(1000))
    held = column.values
    scratch.rest()
    assert list(held) == list(range(1000))
    assert isinstance(held, memoryview)
    assert list(tmp_path.iterdir()) == []


def test_what_is_small_makes_no_file(tmp_path: Path) -> None:
    column = Column(Scratch(str(tmp_path / "is-not-there"), SMALL))
    column.add(bytes(SMALL - 1))
    assert isinstance(column.values, array)


@pytest.mark.parametrize("place", [None, "is-not-there"])
def test_without_a_place_all_stays_in_memory(tmp_path: Path, place: str | None) -> None:
    column = Column(Scratch(place and str(tmp_path / place), SMALL), "I")
    column.extend(range(100))
    column.append(7)
    assert list(column.values) == [*range(100), 7]
    assert isinstance(column.values, array)


class FullDisk(Scratch):
    def file(self) -> BinaryIO | None:
        return open("/dev/full", "r+b", buffering=0)


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    column = Column(FullDisk(str(tmp_path), SMALL))
    with pytest.raises(SpoolError, match=r"cannot be kept in .*: No space left") as raised:
        column.add(bytes(SMALL))
    assert "make room" in raised.value.advice
