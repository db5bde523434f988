"""Frame and chunk rows as packed little-endian columns, the same in a pack's directory and in catalogs."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
from operator import add, and_, eq, mul, sub
from typing import overload

from backup.errors import FormatError
from backup.format.frame import DIGEST_SIZE, LARGEST_FRAME, check_frame
from backup.model import ChunkRow, FrameRow


class ChunkColumns(Sequence[ChunkRow]):
    """Many chunk rows as columns: a sequence of rows that takes a fifth of the memory and time."""

    __slots__ = ("frames", "ids", "lengths", "offsets")
    __hash__ = None  # type: ignore[assignment]  # it may grow

    def __init__(
        self,
        ids: Sequence[bytes] = (),
        frames: Sequence[int] = (),
        offsets: Sequence[int] = (),
        lengths: Sequence[int] = (),
    ) -> None:
        self.ids, self.frames, self.offsets, self.lengths = ids, frames, offsets, lengths

    @classmethod
    def of(cls, rows: Sequence[ChunkRow]) -> ChunkColumns:
        """The same rows as columns."""
        if isinstance(rows, ChunkColumns):
            return rows
        return cls(*zip(*rows, strict=True)) if rows else cls()

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[ChunkRow]:
        return map(ChunkRow, self.ids, self.frames, self.offsets, self.lengths)

    @overload
    def __getitem__(self, index: int) -> ChunkRow: ...

    @overload
    def __getitem__(self, index: slice) -> ChunkColumns: ...

    def __getitem__(self, index: int | slice) -> ChunkRow | ChunkColumns:
        if isinstance(index, slice):
            return ChunkColumns(self.ids[index], self.frames[index], self.offsets[index], self.lengths[index])
        return ChunkRow(self.ids[index], self.frames[index], self.offsets[index], self.lengths[index])

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ChunkColumns):
            return self._columns() == other._columns()
        return isinstance(other, Sequence) and list(self) == list(other)

    def _columns(self) -> list[list[bytes] | list[int]]:
        return [list(self.ids), list(self.frames), list(self.offsets), list(self.lengths)]


FRAME_ROW_SIZE = 40  # number 4, flags 4, offset 8, sealed length 4, raw length 4, digest 16
CHUNK_ROW_SIZE = 44  # id 32, frame 4, gap 4, length 4
ID_SIZE = 32
_WRAP = 2**32 - 1


def pack_u32(numbers: Iterable[int]) -> bytes:
    """Numbers below 2**32 as little-endian u32, one after the other. FormatError for others."""
    return _column("I", numbers)


def unpack_u32(data: bytes | memoryview) -> list[int]:
    """The numbers of `pack_u32`. FormatError when the bytes are no whole number of them."""
    return _numbers("I", data)


def pack_u64(numbers: Iterable[int]) -> bytes:
    """Numbers below 2**64 as little-endian u64, one after the other. FormatError for others."""
    return _column("Q", numbers)


def unpack_u64(data: bytes | memoryview) -> list[int]:
    """The numbers of `pack_u64`. FormatError when the bytes are no whole number of them."""
    return _numbers("Q", data)


def pack_frames(rows: Sequence[FrameRow]) -> bytes:
    """Frame rows as columns, 40 bytes a row."""
    if not rows:
        return b""
    numbers, offsets, sealed, raw, flags, digests = zip(*rows, strict=True)
    columns = [pack_u32(numbers), pack_u32(flags), pack_u64(offsets), pack_u32(sealed), pack_u32(raw)]
    return b"".join([*columns, _blobs(digests, DIGEST_SIZE)])


def unpack_frames(data: bytes | memoryview) -> list[FrameRow]:
    """The rows of `pack_frames`, each within the limits of a frame. FormatError otherwise."""
    count = _count(data, FRAME_ROW_SIZE, "frame")
    view = memoryview(data)
    numbers, flags = unpack_u32(view[: 4 * count]), unpack_u32(view[4 * count : 8 * count])
    offsets = unpack_u64(view[8 * count : 16 * count])
    sealed, raw = unpack_u32(view[16 * count : 20 * count]), unpack_u32(view[20 * count : 24 * count])
    digests = _cut(bytes(view[24 * count :]), DIGEST_SIZE)
    rows = list(map(FrameRow, numbers, offsets, sealed, raw, flags, digests))
    for row in rows:
        check_frame(row)
    return rows


def pack_chunks(rows: Sequence[ChunkRow]) -> bytes:
    """Chunk rows as columns, 44 bytes a row.

    A chunk's offset is stored as its gap from the end of the row before, in the same frame (modulo 2**32), or
    from the frame's start: zeros nearly always, which cost nothing once compressed.
    """
    chunks = ChunkColumns.of(rows)
    ends = map(add, chunks.offsets, chunks.lengths)
    goes_on = map(eq, chunks.frames, chain([None], chunks.frames))  # in the frame of the row before
    gaps = map(sub, chunks.offsets, map(mul, chain([0], ends), goes_on))
    columns = [
        _blobs(chunks.ids, ID_SIZE),
        pack_u32(chunks.frames),
        pack_u32(map(and_, gaps, repeat(_WRAP))),
        pack_u32(chunks.lengths),
    ]
    return b"".join(columns)


def unpack_chunks(data: bytes | memoryview) -> Sequence[ChunkRow]:
    """The rows of `pack_chunks`, each within the largest frame. FormatError otherwise."""
    count = _count(data, CHUNK_ROW_SIZE, "chunk")
    view = memoryview(data)
    ids = _cut(bytes(view[: 32 * count]), ID_SIZE)
    frames, gaps = unpack_u32(view[32 * count : 36 * count]), unpack_u32(view[36 * count : 40 * count])
    lengths = unpack_u32(view[40 * count :])
    offsets: list[int] = []
    before, end = -1, 0
    for frame, gap, length in zip(frames, gaps, lengths, strict=True):
        offset = (gap + end if frame == before else gap) & _WRAP
        before, end = frame, offset + length
        if not length or end > LARGEST_FRAME:
            raise FormatError(f"a chunk claims {length} bytes at {offset} of frame {frame}")
        offsets.append(offset)
    return ChunkColumns(ids, frames, offsets, lengths)


def _column(code: str, numbers: Iterable[int]) -> bytes:
    try:
        column = array(code, numbers)
    except (OverflowError, TypeError) as error:
        raise FormatError("a number does not fit its column") from error
    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()


def _numbers(code: str, data: bytes | memoryview) -> list[int]:
    column = array(code)
    if len(data) % column.itemsize:
        raise FormatError(f"{len(data)} bytes are no column of {column.itemsize}-byte numbers")
    column.frombytes(data)
    if sys.byteorder == "big":
        column.byteswap()
    return column.tolist()


def _blobs(blobs: Sequence[bytes], size: int) -> bytes:
    joined = b"".join(blobs)
    if len(joined) != size * len(blobs) or any(map(int.__ne__, map(len, blobs), repeat(size))):
        raise FormatError(f"an id or digest has not {size} bytes")
    return joined


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def _count(data: bytes | memoryview, size: int, what: str) -> int:
    count, rest = divmod(len(data), size)
    if rest:
        raise FormatError(f"{len(data)} bytes are no {what} rows of {size} bytes")
    return count
