"""A column reads the same in memory and in a file, and leaves nothing behind."""

from __future__ import annotations

import resource
import struct
import sys
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.model import MIB
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


@pytest.mark.parametrize("most", [SMALL, 2**30])
def test_a_field_of_each_row_is_read_in_order(tmp_path: Path, most: int) -> None:
    row = struct.Struct("<4xI4x")
    column = Column(Scratch(str(tmp_path), most))
    assert list(column.each(row)) == []
    count = 2 * MIB // row.size + 3
    column.add(b"".join(struct.pack("<III", 1, number, 2) for number in range(count)))
    assert list(column.each(row)) == list(range(count))
    assert b"".join(column.pieces(row.size)) == bytes(column.values)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_who_reads_all_of_it_holds_a_piece(tmp_path: Path) -> None:
    column = Column(Scratch(str(tmp_path), SMALL))
    column.add(bytes(12 * MIB))
    held = [_mapped_of(tmp_path) for at, _ in enumerate(column.each(struct.Struct("1024s"))) if not at % 512]
    assert len(held) == 24
    assert 0 < max(held) <= 2 * MIB
    assert column.values[-1] == 0


def _mapped_of(folder: Path) -> int:
    """The bytes in memory of this process's maps of files below a folder, also of files without a name."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    found = (next(rest for rest in lines if rest.startswith("Rss:")) for line in lines if str(folder) in line)
    return sum(int(rest.split()[1]) * 1024 for rest in found)


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


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """No file may become larger meanwhile: to write beyond fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 5 * SMALL, 1000])
def test_on_a_full_disk_all_comes_back_into_memory(tmp_path: Path, room: int) -> None:
    scratch = Scratch(str(tmp_path), SMALL)
    column, other = Column(scratch, "I"), Column(scratch, "I")
    expected = list(range(500))
    with no_file_beyond(room):
        for number in expected:
            column.append(number)
            assert len(column) == number + 1
        assert list(column.values) == expected
        assert isinstance(column.values, array)
        other.extend(expected)
        assert isinstance(other.values, array)


def test_a_disk_is_not_filled_to_its_end(tmp_path: Path) -> None:
    column = Column(Scratch(str(tmp_path), SMALL, least_free=2**60), "I")
    column.extend(range(1000))
    assert list(column.values) == list(range(1000))
    assert isinstance(column.values, array)


def test_a_change_that_the_disk_refuses_is_made_in_memory(tmp_path: Path) -> None:
    column = Column(Scratch(str(tmp_path), SMALL))
    column.add(bytes(SMALL))
    column.add(b"behind")
    with no_file_beyond(SMALL - 1):
        column.change(SMALL - 2, b"wxyz")
    assert bytes(column.values[SMALL - 3 :]) == b"\0wxyzhind"
    assert isinstance(column.values, array)
