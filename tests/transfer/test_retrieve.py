"""Frames come back as they were sealed; what is wrong is fetched again, then given up alone."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.errors import RetrievalExpiredError, UnreachableError, VaultError
from backup.format.frame import digest
from backup.format.treehash import align, is_tree_aligned, tree_hash
from backup.model import MIB, ByteRange, Fetched, FrameRow, RetrievalId
from backup.protocols import VaultTraits
from backup.transfer.retrieve import TRIES, Fetcher, ReadyRange
from tests.support.doubles import ManualClock, PowerCut

ID = RetrievalId("retrieval")
DATA = random.Random(1).randbytes(24 * MIB + 12345)
Spoil = Callable[[int, ByteRange, bytes], bytes]


def _traits(*, is_free: bool) -> VaultTraits:
    return VaultTraits(True, False, False, timedelta(0), 1, 1, 1, fetches_for_nothing=is_free)


@dataclass
class Shelf:
    """A vault of one archive, of which only `fetch` is ever called; `spoil` may change what call n gives."""

    extent: ByteRange
    spoil: Spoil = lambda _number, _extent, data: data
    hashed: bool = True
    asked: list[ByteRange] = field(default_factory=list)
    most_at_once: int = 0
    traits: VaultTraits = field(default_factory=lambda: _traits(is_free=False))
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fetch(self, retrieval_id: RetrievalId, extent: ByteRange) -> Fetched:
        assert retrieval_id == ID
        assert 0 <= extent.start < extent.end <= self.extent.length
        with self._lock:
            number = len(self.asked)
            self.asked.append(extent)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            start = self.extent.start
            place = ByteRange(start + extent.start, start + extent.end)
            data = DATA[place.start : place.end]
            aligned = is_tree_aligned(place, len(DATA))
            hashed = tree_hash(data) if self.hashed and aligned else None
            return Fetched(self.spoil(number, place, data), hashed)
        finally:
            with self._lock:
                self._at_once -= 1


def frames_at(*places: tuple[int, int]) -> list[FrameRow]:
    return [
        FrameRow(number, offset, length, length - 16, 0, digest(DATA[offset : offset + length]))
        for number, (offset, length) in enumerate(places)
    ]


def fetched(
    shelf: Shelf, rows: list[FrameRow], *, piece: int = 4 * MIB, ahead: int = 2
) -> dict[int, bytes | memoryview | None]:
    """All frames, fetched from the shelf's range."""
    ready = ReadyRange(ID, len(DATA), shelf.extent, rows)
    with Fetcher(shelf, ManualClock(), ahead=ahead, piece=piece) as fetcher:  # type: ignore[arg-type]
        return {row.number: sealed for row, sealed in fetcher.frames(ready)}


def right(rows: list[FrameRow]) -> dict[int, bytes | memoryview | None]:
    return {row.number: DATA[row.offset : row.offset + row.sealed_length] for row in rows}


@st.composite
def wanted_frames(draw: st.DrawFn) -> list[FrameRow]:
    offset = draw(st.integers(0, 2 * MIB))
    places: list[tuple[int, int]] = []
    while len(places) < 12:
        length = draw(st.integers(17, 3 * MIB))
        if offset + length > len(DATA):
            break
        places.append((offset, length))
        offset += length + draw(st.sampled_from([0, 0, 1, 5 * MIB]))
    return frames_at(*places)


@settings(max_examples=40, deadline=None)
@given(wanted_frames(), st.sampled_from([MIB, 4 * MIB, 16 * MIB]), st.integers(1, 4), st.booleans())
def test_every_frame_comes_as_it_was(rows: list[FrameRow], piece: int, ahead: int, narrow: bool) -> None:
    extent = ByteRange(0, len(DATA))
    if narrow and rows:
        extent = align(ByteRange(rows[0].offset, rows[-1].offset + rows[-1].sealed_length), len(DATA))
    shelf = Shelf(extent)
    assert fetched(shelf, rows, piece=piece, ahead=ahead) == right(rows)
    assert shelf.most_at_once <= ahead
    assert len(set(shelf.asked)) == len(shelf.asked)
    for asked in shelf.asked:  # nothing that holds no wanted frame
        start, end = asked.start + extent.start, asked.end + extent.start
        assert any(row.offset < end and start < row.offset + row.sealed_length for row in rows)
        assert asked.length <= piece


@settings(max_examples=40, deadline=None)
@given(wanted_frames(), st.sampled_from([MIB, 4 * MIB, 16 * MIB]), st.integers(1, 4))
def test_no_frame_is_in_two_pieces_where_fetches_cost_nothing(
    rows: list[FrameRow], piece: int, ahead: int
) -> None:
    shelf = Shelf(ByteRange(0, len(DATA)), hashed=False, traits=_traits(is_free=True))
    assert fetched(shelf, rows, piece=piece, ahead=ahead) == right(rows)
    assert len(shelf.asked) <= len(rows)
    ends = {(row.offset, row.offset + row.sealed_length) for row in rows}
    for asked in shelf.asked:
        assert asked.start in {start for start, _ in ends}
        assert asked.end in {end for _, end in ends}
        assert asked.length <= min(piece, 4 * MIB) or (asked.start, asked.end) in ends


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, MIB), st.integers(17, MIB)), max_size=12))
def test_frames_that_overlap_come_where_fetches_cost_nothing(places: list[tuple[int, int]]) -> None:
    rows = frames_at(*sorted(places))
    shelf = Shelf(ByteRange(0, len(DATA)), hashed=False, traits=_traits(is_free=True))
    assert fetched(shelf, rows) == right(rows)


def test_pieces_that_are_passed_are_let_go() -> None:
    rows = frames_at(*((start, MIB) for start in range(0, 24 * MIB, MIB)))
    given: list[bytes] = []

    def keep(_number: int, _extent: ByteRange, data: bytes) -> bytes:
        given.append(bytes(bytearray(data)))  # an object of its own
        return given[-1]

    shelf = Shelf(ByteRange(0, len(DATA)), keep, hashed=False)
    most = 0
    with Fetcher(shelf, ManualClock(), ahead=2, piece=MIB) as fetcher:  # type: ignore[arg-type]
        for _ in fetcher.frames(ReadyRange(ID, len(DATA), shelf.extent, rows)):
            most = max(most, sum(sys.getrefcount(given[place]) > 2 for place in range(len(given))))
    assert len(given) == 24
    assert 1 < most <= 4


def test_pieces_without_wanted_frames_are_not_fetched() -> None:
    rows = frames_at((100, 1000), (20 * MIB, 1000))
    shelf = Shelf(ByteRange(0, len(DATA)))
    assert fetched(shelf, rows) == right(rows)
    assert shelf.asked == [ByteRange(0, 4 * MIB), ByteRange(20 * MIB, 24 * MIB)]


def test_a_wrong_tree_hash_is_fetched_again() -> None:
    def spoil(number: int, _extent: ByteRange, data: bytes) -> bytes:
        return bytes([data[0] ^ 1]) + data[1:] if number == 0 else data

    rows = frames_at((0, 1000))
    shelf = Shelf(ByteRange(0, len(DATA)), spoil)
    assert fetched(shelf, rows) == right(rows)
    assert shelf.asked == [ByteRange(0, 4 * MIB)] * 2


def test_without_a_tree_hash_the_frames_digest_decides() -> None:
    def spoil(number: int, _extent: ByteRange, data: bytes) -> bytes:
        return bytes([data[0] ^ 1]) + data[1:] if number == 0 else data

    rows = frames_at((0, 1000), (1000, 500))
    shelf = Shelf(ByteRange(0, len(DATA)), spoil, hashed=False)
    assert fetched(shelf, rows) == right(rows)
    assert shelf.asked == [ByteRange(0, 4 * MIB), ByteRange(0, 1000)]


@pytest.mark.parametrize("hashed", [True, False])
def test_what_stays_wrong_is_none_and_spoils_nothing_else(hashed: bool) -> None:
    place = 5000

    def spoil(_number: int, extent: ByteRange, data: bytes) -> bytes:
        if not extent.start <= place < extent.end:
            return data
        bad = bytearray(data)
        bad[place - extent.start] ^= 0x80
        return bytes(bad)

    rows = frames_at((0, 4000), (4000, 4000), (8000, 4000))
    shelf = Shelf(ByteRange(0, len(DATA)), spoil, hashed)
    assert fetched(shelf, rows) == {**right(rows), 1: None}
    assert len(shelf.asked) == (TRIES if hashed else 1) + TRIES


def test_frames_that_overlap_are_read_all_the_same() -> None:
    rows = frames_at((0, 4000), (1000, 4000), (1000, 100), (6000, 10))
    assert fetched(Shelf(ByteRange(0, len(DATA))), rows) == right(rows)


def test_a_cut_connection_is_tried_again() -> None:
    def spoil(number: int, _extent: ByteRange, data: bytes) -> bytes:
        if number in {0, 2}:
            raise UnreachableError("cut")
        return data

    rows = frames_at((0, 1000), (4 * MIB, 1000))
    assert fetched(Shelf(ByteRange(0, len(DATA)), spoil), rows, ahead=1) == right(rows)


def test_too_few_bytes_are_the_vaults_error() -> None:
    shelf = Shelf(ByteRange(0, len(DATA)), lambda _number, _extent, data: data[:-1])
    with pytest.raises(VaultError, match="not the 4194304 that were asked for"):
        fetched(shelf, frames_at((0, 1000)))


@pytest.mark.parametrize("error", [RetrievalExpiredError("gone"), PowerCut()])
def test_other_failures_come_out_as_they_are(error: BaseException) -> None:
    def spoil(number: int, _extent: ByteRange, data: bytes) -> bytes:
        if number == 1:
            raise error
        return data

    with pytest.raises(type(error)):
        fetched(Shelf(ByteRange(0, len(DATA)), spoil), frames_at((0, 1000), (20 * MIB, 9)), ahead=1)


def test_threads_end_with_the_fetcher() -> None:
    def frames() -> Iterator[tuple[FrameRow, bytes | memoryview | None]]:
        shelf = Shelf(ByteRange(0, len(DATA)))
        rows = frames_at(*((place * MIB, 1000) for place in range(24)))
        with Fetcher(shelf, ManualClock()) as fetcher:  # type: ignore[arg-type]
            yield from fetcher.frames(ReadyRange(ID, len(DATA), shelf.extent, rows))

    before = threading.active_count()
    reader = frames()
    next(reader)
    reader.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
