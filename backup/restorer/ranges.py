"""Ranges of archives that a restore needs: merged and aligned; pure.

A range begins and ends on whole MiB (or at the archive's end), as the vault demands. A request costs as much
as `gap` bytes, so ranges with a smaller gap between them are merged. That gives the lowest possible cost, as
each gap can be decided by itself.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final, overload

from msgspec import Struct

from backup.format.treehash import align
from backup.model import MIB, ByteRange, FrameRow

NEAR = 4 * MIB
_FRAME: Final = struct.Struct("<IQIIB16s")


class Frames(Sequence[FrameRow]):
    """Rows of readable frames (`check_frame`), packed: 37 bytes each instead of about 250."""

    def __init__(self, rows: Iterable[FrameRow] = ()) -> None:
        self._packed = b"".join(_FRAME.pack(*row) for row in rows)

    @overload
    def __getitem__(self, key: int) -> FrameRow: ...
    @overload
    def __getitem__(self, key: slice) -> list[FrameRow]: ...
    def __getitem__(self, key: int | slice) -> FrameRow | list[FrameRow]:
        if isinstance(key, slice):
            return [self[position] for position in range(*key.indices(len(self)))]
        if not -len(self) <= key < len(self):
            raise IndexError(key)
        return FrameRow._make(_FRAME.unpack_from(self._packed, key % len(self) * _FRAME.size))

    def __iter__(self) -> Iterator[FrameRow]:
        return map(FrameRow._make, _FRAME.iter_unpack(self._packed))

    def __len__(self) -> int:
        return len(self._packed) // _FRAME.size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(self._packed)


class RangePlan(Struct, frozen=True):
    """A range of one archive to retrieve, and the frames to read from it, by offset."""

    archive: int
    extent: ByteRange
    frames: Sequence[FrameRow]


def plan_ranges(
    archive: int, size: int, frames: Iterable[FrameRow], *, whole: bool = False, gap: int = NEAR
) -> list[RangePlan]:
    """Return the ranges that hold the wanted `frames` of an archive of `size` bytes; all of it if `whole`."""
    ordered = sorted(frames, key=lambda row: row.offset)
    if not ordered:
        return []
    if whole:
        return [RangePlan(archive, ByteRange(0, size), Frames(ordered))]
    groups: list[tuple[ByteRange, list[FrameRow]]] = []
    for row in ordered:
        extent = align(ByteRange(row.offset, row.offset + row.sealed_length), size)
        if groups and extent.start - groups[-1][0].end <= gap:
            before, rows = groups[-1]
            groups[-1] = (ByteRange(before.start, max(before.end, extent.end)), [*rows, row])
            continue
        groups.append((extent, [row]))
    return [RangePlan(archive, extent, Frames(rows)) for extent, rows in groups]


def cover(plans: Sequence[RangePlan], asked: Sequence[tuple[int, ByteRange]]) -> list[RangePlan]:
    """Distribute the frames of `plans` over the ranges that were already requested (archive, range).

    Each frame is in the first range that holds it. Frames in no range are left out: compare counts to see
    whether any is missing.
    """
    planned: dict[int, list[RangePlan]] = {}
    for plan in plans:
        planned.setdefault(plan.archive, []).append(plan)
    laid: dict[int, RangePlan] = {}
    by_archive = sorted(range(len(asked)), key=lambda index: asked[index][0])
    for archive, indexes in groupby(by_archive, key=lambda index: asked[index][0]):
        left = {row.number: row for plan in planned.get(archive, ()) for row in plan.frames}
        for index in indexes:
            extent = asked[index][1]
            rows = sorted((row for row in left.values() if _within(row, extent)), key=lambda row: row.offset)
            for row in rows:
                del left[row.number]
            laid[index] = RangePlan(archive, extent, Frames(rows))
    return [laid[index] for index in range(len(asked))]


def _within(row: FrameRow, extent: ByteRange) -> bool:
    return extent.start <= row.offset and row.offset + row.sealed_length <= extent.end
