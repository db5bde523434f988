"""The holes of a sparse file as packed bytes, and the layout of the data between them.

A sparse file's chunks hold its data without its holes, joined in order; the holes are a list beside it. Both
and the size determine every byte of the file.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from backup.errors import FormatError
from backup.format.rows import pack_u64, unpack_u64

MOST_HOLES: Final = 32_768  # of one file: half a MiB in its row
_LARGEST: Final = 2**63 - 1


def pack_holes(holes: Iterable[tuple[int, int]]) -> bytes:
    """Offset and length of each hole as u64, in order; no bytes for no holes."""
    return pack_u64(chain.from_iterable(holes))


class Layout:
    """The layout of a file of `size` bytes: offsets of its data in the file; no `holes`, one stretch.

    FormatError unless the holes lie within the file, rise, and neither touch nor are empty.
    """

    def __init__(self, holes: bytes, size: int) -> None:
        numbers = unpack_u64(holes)
        if len(numbers) % 2 or len(numbers) > 2 * MOST_HOLES or size > _LARGEST:
            raise FormatError("a file's list of holes is damaged")
        self.size = size
        self._starts: list[int] = []  # file offset of each stretch of data
        self._befores: list[int] = []  # bytes of data before it
        end = data = 0
        for start, length in zip(numbers[::2], numbers[1::2], strict=True):
            if not length or start + length > size or (start <= end and (end or start)):
                raise FormatError("a file's list of holes is damaged")
            self._add(end, start - end, data)
            data += start - end
            end = start + length
        self._add(end, size - end, data)
        self.data_size = data + size - end

    def _add(self, start: int, length: int, before: int) -> None:
        if length:
            self._starts.append(start)
            self._befores.append(before)

    def pieces(self, at: int, length: int) -> Iterator[tuple[int, int, int]]:
        """The places in the file of `length` bytes of data from `at` on: (offset in the file, first, end).

        `first` and `end` count from `at`; one piece for each stretch of the file between holes.
        """
        first = 0
        index = bisect_right(self._befores, at) - 1
        while first < length:
            within = at + first - self._befores[index]
            last = index + 1 == len(self._befores)
            room = length if last else self._befores[index + 1] - at
            end = min(length, room)
            yield self._starts[index] + within, first, end
            first, index = end, index + 1

    def stretches(self, offset: int, length: int) -> Iterator[tuple[int | None, int]]:
        """The stretches of a range of the file: where each begins in its data, None for a hole."""
        end = min(offset + length, self.size)
        index = bisect_right(self._starts, offset) - 1
        while offset < end:
            upto = self.size if index + 1 == len(self._starts) else self._starts[index + 1]
            if index >= 0:
                start, before = self._starts[index], self._befores[index]
                last = index + 1 == len(self._starts)
                data_end = start + (self.data_size if last else self._befores[index + 1]) - before
                if offset < data_end:
                    count = min(end, data_end) - offset
                    yield before + offset - start, count
                    offset += count
            if offset < min(end, upto):
                yield None, min(end, upto) - offset
                offset = min(end, upto)
            index += 1
