"""Finds the snapshots of a job that contain values out of range and are left out; the others stay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

_MOST: Final = 10_000  # held apart; more are told as one


class _SpoiledSpan(NamedTuple):
    first: int
    end: int | None  # None: until nobody knows when
    why: str


class Spoiled:
    """The spoiled snapshots of a job, collected while its catalogs are applied, in bounded memory."""

    def __init__(self) -> None:
        self._spans: list[_SpoiledSpan] = []
        self._open: dict[int, _SpoiledSpan] = {}  # by the number of an entry that has not ended yet

    def span(self, first: int, end: int | None, why: str) -> None:
        """Mark snapshots from `first` up to, not including, `end`."""
        self._spans.append(_SpoiledSpan(first, end, why))
        if len(self._spans) > _MOST:
            self._spans = [_SpoiledSpan(min(span.first for span in self._spans), None, self._spans[0].why)]

    def entry(self, number: int, first: int, end: int | None, why: str) -> None:
        """Mark the snapshots that would contain an entry that is left out; its end may still come."""
        if end is not None:
            self.span(first, end, why)
            return
        self._open[number] = _SpoiledSpan(first, None, why)
        if len(self._open) > _MOST:
            spans = list(self._open.values())
            self._open.clear()
            self.span(min(span.first for span in spans), None, spans[0].why)

    def closed(self, numbers: Iterable[int], removed_in: int) -> None:
        """Mark the end of such entries."""
        if not self._open:
            return
        for number in numbers:
            span = self._open.pop(number, None)
            if span is not None:
                self.span(span.first, removed_in, span.why)

    def among(self, numbers: Sequence[int]) -> dict[int, str]:
        """Return the spoiled ones of the snapshots, each with the reason."""
        spans = [*self._spans, *self._open.values()]
        found: dict[int, str] = {}
        for number in numbers:
            for first, end, why in spans:
                if first <= number and (end is None or number < end):
                    found[number] = why
                    break
        return found
