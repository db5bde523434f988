"""Data and holes make the file again, and a list of holes that cannot be is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.errors import FormatError
from backup.format.holes import MOST_HOLES, Layout, pack_holes


@st.composite
def runs(draw: st.DrawFn) -> list[tuple[bool, int]]:
    """Stretches of a file by turns, (is a hole, length)."""
    is_hole = draw(st.booleans())
    lengths = draw(st.lists(st.integers(1, 50), max_size=12))
    return [((number % 2 == 0) is is_hole, length) for number, length in enumerate(lengths)]


@given(runs(), st.data())
def test_pieces_put_every_byte_in_its_place(stretches: list[tuple[bool, int]], data: st.DataObject) -> None:
    whole, joined, holes = b"", b"", []
    for is_hole, length in stretches:
        if is_hole:
            holes.append((len(whole), length))
            whole += bytes(length)
        else:
            written = bytes(1 + (len(joined) + n) % 255 for n in range(length))
            whole, joined = whole + written, joined + written
    layout = Layout(pack_holes(holes), len(whole))
    assert layout.data_size == len(joined)
    made, at = bytearray(len(whole)), 0
    while at < len(joined):
        length = data.draw(st.integers(1, len(joined) - at))
        ends = 0
        for place, first, end in layout.pieces(at, length):
            assert first == ends < end
            ends = end
            made[place : place + end - first] = joined[at + first : at + end]
        assert ends == length
        at += length
    assert made == whole


@pytest.mark.parametrize(
    "holes",
    [
        [(0, 0)],
        [(5, 0)],
        [(5, 6)],
        [(0, 2), (2, 2)],
        [(4, 2), (2, 1)],
        [(4, 2), (5, 2)],
        [(2**63, 2**63)],
    ],
)
def test_what_cannot_be_is_refused(holes: list[tuple[int, int]]) -> None:
    with pytest.raises(FormatError, match="holes"):
        Layout(pack_holes(holes), 10)


def test_halves_and_hosts_are_refused() -> None:
    with pytest.raises(FormatError):
        Layout(bytes(8), 10)
    with pytest.raises(FormatError):
        Layout(bytes(7), 10)
    many = [(2 * n, 1) for n in range(MOST_HOLES + 1)]
    with pytest.raises(FormatError, match="holes"):
        Layout(pack_holes(many), 2 * len(many))
    assert Layout(pack_holes(many[1:]), 2 * len(many)).data_size == 2 * len(many) - MOST_HOLES


def test_a_file_of_the_largest_size_may_be_one_hole() -> None:
    size = 2**63 - 1
    assert Layout(pack_holes([(0, size)]), size).data_size == 0
    with pytest.raises(FormatError, match="holes"):
        Layout(pack_holes([(0, size)]), size + 1)
