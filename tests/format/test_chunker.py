"""Cuts are the same whatever windows are fed, keep their sizes, and depend on the seed."""

from __future__ import annotations

import random
from itertools import accumulate

import pyfastcdc.py
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyfastcdc import FastCDC

from backup.format.chunker import MAXIMUM, MINIMUM, Chunker

SMALL = {"minimum": 64, "average": 256, "maximum": 1024}


def contents(most: int = 20_000) -> st.SearchStrategy[bytes]:
    noise = st.builds(
        lambda seed, size: random.Random(seed).randbytes(size), st.integers(), st.integers(0, most)
    )
    runs = st.builds(
        lambda piece, times: piece * times, st.binary(min_size=1, max_size=40), st.integers(0, 300)
    )
    return st.lists(noise | runs, max_size=3).map(b"".join)


def windowed(chunker: Chunker, data: bytes, sizes: list[int]) -> list[int]:
    """Cut as a reader does: fill the window, take what is certain, keep the tail."""
    lengths: list[int] = []
    window, place, turn = b"", 0, 0
    while place < len(data):
        piece = data[place : place + sizes[turn % len(sizes)]]
        turn += 1
        place += len(piece)
        window += piece
        cuts = list(chunker.cuts(memoryview(window), final=False))
        lengths += cuts
        window = window[sum(cuts) :]
    return lengths + list(chunker.cuts(window, final=True))


@settings(max_examples=150)
@given(contents(), st.lists(st.integers(1, 5000), min_size=1, max_size=5), st.integers(0, 2**63 - 1))
def test_windows_cut_as_the_whole(data: bytes, sizes: list[int], seed: int) -> None:
    chunker = Chunker(seed, **SMALL)
    whole = list(chunker.cuts(data, final=True))
    assert sum(whole) == len(data)
    assert windowed(chunker, data, sizes) == whole


@given(contents(), st.integers(0, 20_000), st.integers(0, 2**63 - 1))
def test_a_cut_is_certain_once_there_are_two_bytes_after_it(data: bytes, size: int, seed: int) -> None:
    """With one it may be: the cutter looks at pairs."""
    chunker = Chunker(seed, **SMALL)
    window = data[:size]
    ends = list(accumulate(chunker.cuts(data, final=True)))
    certain = [end for end in ends if end + 1 < len(window)]
    found = list(accumulate(chunker.cuts(window, final=False)))
    assert found == ends[: len(found)]
    assert len(found) in {len(certain), len(certain) + 1}
    if found and found[-1] == len(window):
        assert found[-1] - (0, *found)[-2] == SMALL["maximum"]


@given(contents(), st.integers(0, 2**63 - 1))
def test_sizes_keep_their_limits(data: bytes, seed: int) -> None:
    whole = list(Chunker(seed, **SMALL).cuts(data, final=True))
    assert all(64 <= length <= 1024 for length in whole[:-1])
    assert all(0 < length <= 1024 for length in whole[-1:])


@given(contents(8000), contents(2000), st.integers(0, 2**63 - 1))
def test_a_cut_depends_on_nothing_before_it(data: bytes, before: bytes, seed: int) -> None:
    chunker = Chunker(seed, **SMALL)
    cuts = list(chunker.cuts(data, final=True))
    if len(cuts) > 1:
        assert list(chunker.cuts(data[cuts[0] :], final=True)) == cuts[1:]
    whole = list(chunker.cuts(before + data, final=True))
    ends = {sum(whole[: i + 1]) for i in range(len(whole))}
    if len(before) in ends:
        assert whole[-len(cuts) or len(whole) :] == cuts


@settings(max_examples=25)
@given(contents(5000), st.integers(0, 2**63 - 1))
def test_the_paper_in_plain_python_cuts_the_same(data: bytes, seed: int) -> None:
    plain = pyfastcdc.py.FastCDC(256, min_size=64, max_size=1024, normalized_chunking=2, seed=seed)
    assert list(Chunker(seed, **SMALL).cuts(data, final=True)) == [
        chunk.length for chunk in plain.cut_buf(data)
    ]


def test_the_fast_code_is_used() -> None:
    assert FastCDC.__module__ == "pyfastcdc.cy.fastcdc"


@pytest.mark.parametrize("size", [0, 1, MINIMUM])
def test_a_small_file_is_one_chunk(size: int) -> None:
    assert list(Chunker(1).cuts(bytes(size), final=True)) == ([size] if size else [])
    assert list(Chunker(1).cuts(bytes(size), final=False)) == []


def test_defaults_cut_within_their_limits_and_move_little() -> None:
    data = random.Random(5).randbytes(24 * 2**20)
    chunker = Chunker(12345)
    whole = list(chunker.cuts(data, final=True))
    assert len(whole) > 10
    certain = list(chunker.cuts(data, final=False))
    assert whole[: len(certain)] == certain
    assert len(data) - MAXIMUM < sum(certain)
    shifted = list(chunker.cuts(data[:1000] + b"!" + data[1000:], final=True))
    assert shifted[2:] == whole[2:] or shifted[1:] == whole[1:]
    assert list(Chunker(54321).cuts(data, final=True)) != whole


def test_zeros_are_cut_alike() -> None:
    assert set(Chunker(7).cuts(bytes(12 * 2**20), final=True)) == {MAXIMUM}
