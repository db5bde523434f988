"""Holes are found where the file system has them, never read, and data is cut as if they were not there."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from backup.format.chunker import Chunker
from backup.format.holes import Layout, pack_holes
from backup.source import holes
from backup.source.holes import SparseFile, find_holes
from backup.source.read import FileUnreadableError

KIB, MIB = 1024, 1024 * 1024
BLOCK = 64 * KIB  # a hole of every file system that we know
LENGTHS = st.integers(1, 20).map(lambda blocks: blocks * BLOCK)
BYTES = random.Random(7).randbytes(12 * MIB)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[int]:
    handle = os.open(tmp_path / "sparse", os.O_RDWR | os.O_CREAT)
    yield handle
    os.close(handle)


def fill(handle: int, stretches: list[tuple[bool, int]]) -> tuple[list[tuple[int, int]], bytes]:
    """Holes and data by turns; where the holes are, and the data joined."""
    os.ftruncate(handle, 0)
    made: list[tuple[int, int]] = []
    place, joined = 0, b""
    for is_hole, length in stretches:
        if is_hole:
            if made and sum(made[-1]) == place:
                made[-1] = (made[-1][0], made[-1][1] + length)
            else:
                made.append((place, length))
        else:
            data = BYTES[len(joined) : len(joined) + length]
            os.pwrite(handle, data, place)
            joined += data
        place += length
    os.ftruncate(handle, place)
    return made, joined


def read(handle: int) -> tuple[SparseFile, list[bytes]]:
    sparse = find_holes(handle, os.fstat(handle))
    assert sparse is not None
    return sparse, [bytes(chunk.view) for chunk in sparse.chunks(Chunker(7))]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 20).map(lambda n: n * BLOCK)), min_size=1, max_size=8)
)
@example([(True, BLOCK)])
@example([(False, 3 * MIB), (True, 100 * BLOCK), (False, 5 * MIB), (True, BLOCK)])
def test_holes_are_exact_and_cuts_are_those_of_the_data(
    opened: int, stretches: list[tuple[bool, int]]
) -> None:
    made, joined = fill(opened, stretches)
    if not made:
        assert find_holes(opened, os.fstat(opened)) is None
        return
    sparse, chunks = read(opened)
    assert sparse.holes == pack_holes(made)
    assert sparse.size == os.fstat(opened).st_size
    assert b"".join(chunks) == joined
    assert [len(chunk) for chunk in chunks] == list(Chunker(7).cuts(joined, final=True))


def test_a_file_without_holes_costs_no_call(opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    os.write(opened, BYTES[: 5 * KIB])
    found = os.fstat(opened)

    def never(*_: object) -> int:
        raise AssertionError("not for an ordinary file")

    monkeypatch.setattr(os, "lseek", never)
    assert find_holes(opened, found) is None


def test_fewer_blocks_without_a_hole_leave_the_file_at_its_start(opened: int) -> None:
    """As where a file system compresses."""
    os.write(opened, BYTES[:MIB])
    found = os.stat_result(os.fstat(opened), {"st_blocks": 0})
    assert find_holes(opened, found) is None
    assert os.read(opened, 10) == BYTES[:10]


def test_a_file_system_that_knows_no_holes(opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    os.ftruncate(opened, MIB)

    def unknown(*_: object) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "lseek", unknown)
    assert find_holes(opened, os.fstat(opened)) is None


@pytest.mark.parametrize("call", ["lseek", "preadv"])
def test_a_failing_disk_is_told_in_our_words(opened: int, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    fill(opened, [(True, MIB), (False, MIB)])

    def failing(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(FileUnreadableError, match="Input/output error"):
        read(opened)


@pytest.mark.parametrize(("cut", "holes_left"), [(3 * MIB, [(0, MIB)]), (1 * MIB, [(0, MIB)])])
def test_a_file_cut_short_while_it_is_read_is_what_was_read(
    opened: int, monkeypatch: pytest.MonkeyPatch, cut: int, holes_left: list[tuple[int, int]]
) -> None:
    fill(opened, [(True, MIB), (False, 4 * MIB), (True, MIB), (False, MIB)])
    sparse = find_holes(opened, os.fstat(opened))
    os.ftruncate(opened, cut)
    assert sparse is not None
    joined = b"".join(chunk.view for chunk in sparse.chunks(Chunker(7)))
    assert sparse.size == cut
    assert sparse.holes == pack_holes(holes_left)
    assert Layout(sparse.holes, sparse.size).data_size == len(joined)
    assert joined == BYTES[: cut - MIB]


def test_of_too_many_holes_the_short_ones_are_read_as_zeros(
    opened: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holes, "MOST_HOLES", 10)
    small = [(index % 2 == 0, BLOCK) for index in range(60)]
    fill(opened, [(False, BLOCK), (True, 4 * MIB), *small[1:], (True, 8 * MIB), (False, BLOCK)])
    sparse, chunks = read(opened)
    assert 0 < len(sparse.holes) <= 10 * 16
    layout = Layout(sparse.holes, sparse.size)
    whole, data = bytearray(sparse.size), b"".join(chunks)
    for place, first, end in layout.pieces(0, len(data)):
        whole[place : place + end - first] = data[first:end]
    assert bytes(whole) == os.pread(opened, sparse.size, 0)
    assert layout.data_size < sparse.size - 8 * MIB
