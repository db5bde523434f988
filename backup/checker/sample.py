"""Choose the pieces that a check reads next: never read ones, then those read longest ago; pure.

An archive is cut into slices, so that a small sample of a large archive is a small request. Repeated samples
cover everything in time: nothing is read twice before everything was read once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from fractions import Fraction

from msgspec import Struct

from backup.format.treehash import align
from backup.model import ByteRange, FrameRow


class Slice(Struct, frozen=True):
    """Bytes `start` to `end` of an archive, and when a check read them last."""

    archive: int
    start: int
    end: int
    read_at: datetime | None = None

    @property
    def length(self) -> int:
        """Bytes in it."""
        return self.end - self.start


class Amount(Struct, frozen=True):
    """The amount to read: a share of all that is stored, or bytes."""

    share: Fraction | None = None
    size: int = 0

    def of(self, total: int) -> int:
        """The amount in bytes, of a `total`; rounded up."""
        return self.size if self.share is None else -int(-total * self.share // 1)


def slices_of(
    archive: int, size: int, length: int, read: Iterable[tuple[int, int, datetime]] = ()
) -> list[Slice]:
    """An archive in slices of `length` bytes; `read` are ranges that were read, and when."""
    known = sorted(read, key=lambda piece: piece[2])
    slices: list[Slice] = []
    for start in range(0, size, length):
        end = min(start + length, size)
        times = [when for begin, until, when in known if begin <= start and end <= until]
        slices.append(Slice(archive, start, end, times[-1] if times else None))
    return slices


def choose(slices: Sequence[Slice], budget: int, lot: Mapping[int, float]) -> list[Slice]:
    """Slices for `budget` bytes, at least one: first those never read, by archives' `lot`, then the oldest.

    Slices of one archive that were read at the same time stay together, as one request serves them.
    """

    def turn(slice_: Slice) -> tuple[float, float, int, int]:
        return (
            slice_.read_at.timestamp() if slice_.read_at else 0.0,
            lot[slice_.archive],
            slice_.archive,
            slice_.start,
        )

    chosen: list[Slice] = []
    for slice_ in sorted(slices, key=turn):
        budget -= slice_.length
        if chosen and budget < 0:
            break
        chosen.append(slice_)
    return chosen


def join(slices: Iterable[Slice]) -> list[Slice]:
    """The slices, with adjacent ones of an archive merged."""
    joined: list[Slice] = []
    for slice_ in sorted(slices, key=lambda slice_: (slice_.archive, slice_.start)):
        last = joined[-1] if joined else None
        if last is not None and (last.archive, last.end) == (slice_.archive, slice_.start):
            joined[-1] = Slice(slice_.archive, last.start, slice_.end)
        else:
            joined.append(Slice(slice_.archive, slice_.start, slice_.end))
    return joined


def frames_in(slice_: Slice, frames: Iterable[FrameRow]) -> list[FrameRow]:
    """The frames that begin in a slice: each belongs to one slice only."""
    return sorted(
        (row for row in frames if slice_.start <= row.offset < slice_.end), key=lambda row: row.offset
    )


def extent_of(slice_: Slice, size: int, frames: Sequence[FrameRow]) -> ByteRange:
    """The range to retrieve for a slice and the frames that begin in it, aligned as the vault demands."""
    ends = [slice_.end, *(row.offset + row.sealed_length for row in frames)]
    return align(ByteRange(slice_.start, min(size, max(ends))), size)
