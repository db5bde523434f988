"""Ranges of archives that a restore needs: merged and aligned; pure.

A range begins and ends on whole MiB (or at the archive's end), as the vault demands. The rule: a request
costs as much as `gap` bytes, so ranges that lie at most so far apart become one. That gives the least cost
that any choice of ranges has, for a gap's bytes and the request that they save concern no other gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backup.format.treehash import align
from backup.model import MIB, ByteRange, FrameRow

NEAR = 4 * MIB


@dataclass(frozen=True, slots=True)
class RangePlan:
    """A range of one archive to retrieve, and the frames to read out of it, by offset."""

    archive: int
    extent: ByteRange
    frames: tuple[FrameRow, ...]


def plan_ranges(
    archive: int, size: int, frames: Iterable[FrameRow], *, whole: bool = False, gap: int = NEAR
) -> list[RangePlan]:
    """The ranges that hold the wanted `frames` of an archive of `size` bytes; all of it if `whole`."""
    ordered = sorted(frames, key=lambda row: row.offset)
    if not ordered:
        return []
    if whole:
        return [RangePlan(archive, ByteRange(0, size), tuple(ordered))]
    groups: list[tuple[ByteRange, list[FrameRow]]] = []
    for row in ordered:
        extent = align(ByteRange(row.offset, row.offset + row.sealed_length), size)
        if groups and extent.start - groups[-1][0].end <= gap:
            before, rows = groups[-1]
            groups[-1] = (ByteRange(before.start, max(before.end, extent.end)), [*rows, row])
            continue
        groups.append((extent, [row]))
    return [RangePlan(archive, extent, tuple(rows)) for extent, rows in groups]


def cover(plans: Sequence[RangePlan], asked: Sequence[tuple[int, ByteRange]]) -> list[RangePlan]:
    """The frames of `plans` laid out over the ranges that were asked for already (archive, range).

    A frame comes once, in the first range that holds it. Frames that lie in none are left out: compare counts
    to see whether something is missing.
    """
    wanted: dict[int, dict[int, FrameRow]] = {}
    for plan in plans:
        wanted.setdefault(plan.archive, {}).update((row.number, row) for row in plan.frames)
    laid: list[RangePlan] = []
    for archive, extent in asked:
        left = wanted.get(archive, {})
        rows = sorted((row for row in left.values() if _within(row, extent)), key=lambda row: row.offset)
        for row in rows:
            del left[row.number]
        laid.append(RangePlan(archive, extent, tuple(rows)))
    return laid


def _within(row: FrameRow, extent: ByteRange) -> bool:
    return extent.start <= row.offset and row.offset + row.sealed_length <= extent.end
