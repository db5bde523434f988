"""Rows come back from their columns whatever their order, and bad columns are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.errors import FormatError
from backup.format import rows
from backup.format.rows import ChunkColumns
from backup.model import MIB, ChunkRow, FrameRow

U32 = st.integers(0, 2**32 - 1)


@st.composite
def frame_rows(draw: st.DrawFn) -> FrameRow:
    raw = draw(st.integers(1, 8 * MIB))
    sealed = draw(st.integers(17, raw + 16))
    digest = draw(st.binary(min_size=16, max_size=16))
    return FrameRow(draw(U32), draw(st.integers(0, 2**62 - 1)), sealed, raw, draw(st.integers(0, 1)), digest)


@st.composite
def chunk_rows(draw: st.DrawFn) -> ChunkRow:
    offset = draw(st.integers(0, 8 * MIB - 1))
    length = draw(st.integers(1, 8 * MIB - offset))
    return ChunkRow(draw(st.binary(min_size=32, max_size=32)), draw(st.integers(0, 3)), offset, length)


@given(st.lists(frame_rows(), max_size=8))
def test_frames_come_back(frames: list[FrameRow]) -> None:
    packed = rows.pack_frames(frames)
    assert len(packed) == rows.FRAME_ROW_SIZE * len(frames)
    assert rows.unpack_frames(packed) == frames
    assert all(type(row) is FrameRow for row in rows.unpack_frames(memoryview(packed)))


@given(st.lists(chunk_rows(), max_size=8))
def test_chunks_come_back_in_any_order(chunks: list[ChunkRow]) -> None:
    packed = rows.pack_chunks(chunks)
    assert len(packed) == rows.CHUNK_ROW_SIZE * len(chunks)
    assert rows.unpack_chunks(packed) == chunks
    assert all(type(row) is ChunkRow for row in rows.unpack_chunks(memoryview(packed)))


@pytest.mark.parametrize(("offset", "length"), [(0, 0), (8 * MIB, 1), (1, 8 * MIB), (2**32 - 1, 1)])
def test_chunks_beyond_a_frame_are_refused(offset: int, length: int) -> None:
    with pytest.raises(FormatError, match="claims"):
        rows.unpack_chunks(rows.pack_chunks([ChunkRow(bytes(32), 0, offset, length)]))


def test_frames_beyond_any_pack_are_refused() -> None:
    with pytest.raises(FormatError, match="out of range"):
        rows.unpack_frames(rows.pack_frames([FrameRow(0, 2**62, 17, 1, 0, bytes(16))]))


def test_neighbours_have_gaps_of_zero() -> None:
    packed = rows.pack_chunks([ChunkRow(bytes(32), 0, 0, 5), ChunkRow(bytes(32), 0, 5, 9)])
    assert packed[72:80] == bytes(8)


@given(st.binary(max_size=300))
def test_any_columns_are_frames_or_refused(data: bytes) -> None:
    try:
        found = rows.unpack_frames(data)
    except FormatError:
        return
    assert rows.pack_frames(found) == data


@given(st.binary(max_size=300))
def test_any_columns_are_chunks_or_refused(data: bytes) -> None:
    try:
        found = rows.unpack_chunks(data)
    except FormatError:
        return
    assert rows.pack_chunks(found) == data


@given(st.lists(U32, max_size=20), st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_numbers_come_back(small: list[int], large: list[int]) -> None:
    assert rows.unpack_u32(rows.pack_u32(small)) == small
    assert rows.unpack_u64(rows.pack_u64(large)) == large
    assert rows.pack_u32(iter(small)) == b"".join(number.to_bytes(4, "little") for number in small)
    assert rows.pack_u64(large) == b"".join(number.to_bytes(8, "little") for number in large)


@pytest.mark.parametrize("number", [-1, 2**32, 2**64])
def test_numbers_that_do_not_fit_are_refused(number: int) -> None:
    with pytest.raises(FormatError, match="fit"):
        rows.pack_u32([1, number])
    with pytest.raises(FormatError, match="column"):
        rows.unpack_u32(b"abc")
    with pytest.raises(FormatError, match="column"):
        rows.unpack_u64(b"abcd")


def test_ids_have_one_size() -> None:
    with pytest.raises(FormatError, match="32 bytes"):
        rows.pack_chunks([ChunkRow(bytes(31), 0, 0, 1), ChunkRow(bytes(33), 0, 1, 1)])
    with pytest.raises(FormatError, match="16 bytes"):
        rows.pack_frames([FrameRow(0, 0, 17, 1, 0, b"")])


@given(st.lists(chunk_rows(), max_size=8), st.integers(0, 8), st.integers(0, 8))
def test_columns_are_the_rows_that_they_stand_for(chunks: list[ChunkRow], start: int, end: int) -> None:
    columns = ChunkColumns.of(chunks)
    assert ChunkColumns.of(columns) is columns
    assert (len(columns), list(columns)) == (len(chunks), chunks)
    assert columns == chunks
    assert columns[start:end] == chunks[start:end]
    assert [columns[place] for place in range(len(chunks))] == chunks
    assert rows.pack_chunks(columns) == rows.pack_chunks(chunks)
    assert columns != [*chunks, ChunkRow(bytes(32), 0, 0, 1)]
