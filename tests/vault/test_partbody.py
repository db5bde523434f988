"""A part's body reads like any file, and only ours hands its hash over."""

from __future__ import annotations

import io
import os
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from backup.model import KIB, MIB
from backup.vault.partbody import LARGEST_PIECE, SMALLEST_PIECE, SURE_PIECE, PartBody, Stride, _hand_over

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.one_of(st.none(), st.integers(-1, 40))),
        st.tuples(st.just("seek"), st.integers(0, 40)),
        st.tuples(st.just("tell"), st.none()),
    ),
    max_size=12,
)


@given(st.binary(max_size=30), OPERATIONS)
def test_it_reads_like_a_file(data: bytes, operations: list[tuple[str, int | None]]) -> None:
    body, real = PartBody(memoryview(data), b""), io.BytesIO(data)
    assert len(body) == len(data)
    for name, value in operations:
        if name == "read":
            assert bytes(body.read(value)) == real.read(value)
        elif name == "seek":
            body.seek(value or 0)
            real.seek(min(value or 0, len(data)))
        else:
            assert body.tell() == real.tell()


def test_it_can_be_measured_from_its_end() -> None:
    body = PartBody(memoryview(b"abcdef"), b"")
    assert body.seek(0, os.SEEK_END) == 6
    assert body.seek(-2, os.SEEK_CUR) == 4
    assert bytes(body.read()) == b"ef"


def test_reading_copies_nothing() -> None:
    data = bytearray(b"before")
    piece = PartBody(memoryview(data), b"").read(6)
    data[:] = b"after!"
    assert bytes(piece) == b"after!"


def test_only_our_bodies_hand_over_a_hash() -> None:
    def headers_for(body: object) -> Any:
        params: dict[str, Any] = {"body": body, "headers": {}}
        _hand_over(params, model=None)
        return params["headers"]

    assert headers_for(PartBody(memoryview(b""), b"\xab\xcd")) == {"x-amz-content-sha256": "abcd"}
    assert headers_for(b"bytes") == {}


class Line:
    """A stopwatch that stands for a line of so many bytes a second behind a buffer."""

    def __init__(self, rate: int, buffer: int) -> None:
        self._rate = rate
        self._buffer = buffer
        self._now = 0.0

    def __call__(self) -> float:
        return self._now

    def take(self, size: int) -> float:
        """Send a piece; the seconds that it took."""
        absorbed = min(size, self._buffer)
        self._buffer -= absorbed
        seconds = (size - absorbed) / self._rate
        self._now += seconds
        return seconds

    def send(self, body: PartBody) -> tuple[list[int], float]:
        """All of a body as boto3 sends it: the sizes of its pieces, and the longest that one took."""
        body.begin_sending()
        sizes, longest = [], 0.0
        while piece := body.read(SMALLEST_PIECE):
            sizes.append(len(piece))
            longest = max(longest, self.take(len(piece)))
        return sizes, longest


def test_a_fast_line_gets_large_pieces() -> None:
    line = Line(100 * MIB, 4 * MIB)
    data = memoryview(bytes(32 * MIB))
    sizes, _ = line.send(PartBody(data, b"", stopwatch=line))
    assert sum(sizes) == 32 * MIB
    assert len(sizes) < 70
    assert max(sizes) > MIB


@given(st.integers(16 * KIB, MIB), st.integers(0, 4 * MIB))
def test_no_piece_takes_a_slow_line_as_long_as_the_timeout(rate: int, buffer: int) -> None:
    line = Line(rate, buffer)
    sizes, longest = line.send(PartBody(memoryview(bytes(5 * MIB)), b"", stopwatch=line))
    assert sum(sizes) == 5 * MIB
    assert longest <= 16.5  # of CONNECT_TIMEOUT's 20


@given(st.integers(16 * KIB, 40 * MIB), st.integers(0, 4 * MIB))
def test_a_large_piece_is_given_only_to_a_line_that_takes_it_within_a_second(rate: int, buffer: int) -> None:
    line = Line(rate, buffer)
    sizes, _ = line.send(PartBody(memoryview(bytes(24 * MIB)), b"", stopwatch=line))
    assert all(size <= max(SURE_PIECE, rate) for size in sizes)


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 4096 * MIB))))
def test_strides_keep_within_their_bounds(pieces: list[tuple[float, int]]) -> None:
    stride = Stride()
    for seconds, sent in pieces:
        stride = stride.after(seconds, sent)
        assert SMALLEST_PIECE <= stride.size <= LARGEST_PIECE


def test_a_body_that_is_sent_again_begins_anew() -> None:
    body = PartBody(memoryview(bytes(range(100))), b"")
    body.begin_sending()
    body.read(10)
    body.seek(0)
    body.begin_sending()
    assert bytes(body.read(SMALLEST_PIECE)) == bytes(range(100))


def test_nothing_asked_for_is_nothing_given() -> None:
    body = PartBody(memoryview(b"content"), b"")
    body.begin_sending()
    assert (bytes(body.read(0)), body.tell()) == (b"", 0)
    assert bytes(body.read(1)) == b"content"
