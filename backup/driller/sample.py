"""Chooses the files of a drill: those never proven first, then those with the oldest proof; pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from msgspec import Struct

from backup.model import JobName


class FileCandidate(Struct, frozen=True, order=True):
    """A file that a drill may choose; candidates are taken in their sort order.

    `proven_at` is the oldest proof among its parts, in seconds since 1970; 0 if a part was never proven. Of
    those with the same time the `lot`, drawn at random, decides.
    """

    proven_at: int
    lot: float
    number: int  # of its row in the inventory
    size: int
    job: JobName
    path: bytes


class Sample(Struct, frozen=True):
    """The size of a sample: `files`, or else files of so many `bytes`; none larger than `largest`."""

    files: int | None = None
    bytes: int = 0
    largest: int | None = None


def choose_files(candidates: Iterable[FileCandidate], sample: Sample) -> list[FileCandidate]:
    """Return the first files by their order, as many as the sample takes; at least one if there is any.

    For a sample in bytes, larger files are skipped, unless there are no others. Memory depends on the sample,
    not on the number of candidates.
    """
    fits = (
        candidate for candidate in candidates if sample.largest is None or candidate.size <= sample.largest
    )
    if sample.files is not None:
        return heapq.nsmallest(sample.files, fits)
    return _within(fits, sample.bytes)


def _within(candidates: Iterable[FileCandidate], budget: int) -> list[FileCandidate]:
    """The longest run of first ones whose sizes fit into a budget; if none fits, the very first."""
    taken: list[_Last] = []  # the last of the order on top
    total = 0
    first: FileCandidate | None = None
    beyond: FileCandidate | None = None  # the first one that did not fit: nothing after it may be taken
    for candidate in candidates:
        if candidate.size > budget:
            first = candidate if first is None or candidate < first else first
            continue
        if beyond is not None and candidate > beyond:
            continue
        heapq.heappush(taken, _Last(candidate))
        total += candidate.size
        while total > budget:
            beyond = heapq.heappop(taken).candidate
            total -= beyond.size
    if not taken:
        return [] if first is None else [first]
    return sorted(last.candidate for last in taken)


class _Last(Struct, frozen=True):
    """A candidate in a heap that has the last one on top."""

    candidate: FileCandidate

    def __lt__(self, other: _Last) -> bool:
        return other.candidate < self.candidate
