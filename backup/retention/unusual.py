"""Detects unusual nights, by numbers (bytes, files, compression) far from those of the nights before; pure.

The rule, with the numbers of up to `NIGHTS` earlier nights, of which there must be at least `LEAST_NIGHTS`:

1. A number below the floor counts as the floor. All that follows is about logarithms, that is, factors.
2. The median is what is usual. The spread is 1.4826 times the median distance from it (MAD), which for
   numbers that scatter normally is the standard deviation.
3. A number is unusual if it is more than four spreads from the median, and by a factor of more than three,
4. unless it has been there before: three of the earlier nights were as far out, but for a factor of three.
   So a large dump each Sunday, and the small nights of a weekend, are usual.

How far new data could be compressed (what was uploaded, by what was new) is judged in the same way by a
factor of one and a half, and only of nights with new data above the floor: data that cannot be compressed any
more is what ransomware makes of text and databases.

Median and MAD do not move as long as fewer than half of the nights are odd, so an odd night hides no other. A
number that differs from the median by less than the floor is never unusual, as a factor of three is more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from math import log

from msgspec import Struct

NIGHTS = 30
"""So many nights before a night say what is usual."""
LEAST_NIGHTS = 7
"""With fewer nights nothing is said."""
BYTES_FLOOR = 16 * 1024 * 1024
"""The floor for bytes that a night uploads, and for new bytes whose compression is judged."""
FILES_FLOOR = 100
"""The floor for files that were new or changed."""

RATIO_FLOOR = 0.01
"""The floor for the compressed part of new data."""

_SPREADS = 4.0
_STEP = log(3)  # a factor of three
_RATIO_STEP = log(1.5)
_BEFORE = 3  # so often it must have been there
_NORMAL = 1.4826  # MAD to standard deviation, for numbers that scatter normally
_NOTHING = 1e-9  # logarithms that differ by rounding alone


class Direction(StrEnum):
    """The way in which a number is unusual; part of the JSON interface."""

    MORE = "more"
    LESS = "less"


class Unusual(Struct, frozen=True):
    """An unusual number: there is more or less than `usual`, the median of the nights before it."""

    direction: Direction
    usual: float


class Figures(Struct, frozen=True):
    """The figures of a night: files new or changed, bytes uploaded, new bytes before compression."""

    files: int
    uploaded: int
    new: int

    @property
    def ratio(self) -> float | None:
        """The compressed part of the new data; None if there is too little new data to decide."""
        return self.uploaded / self.new if self.new >= BYTES_FLOOR else None


class Figure(StrEnum):
    """A figure that may be unusual."""

    FILES = "files"
    BYTES = "bytes"
    RATIO = "ratio"


def judge_figures(night: Figures, earlier: Sequence[Figures]) -> dict[Figure, Unusual]:
    """The figures of a night that are unusual beside those of the nights before it, oldest first."""
    before = earlier[-NIGHTS:]
    ratios = [figures.ratio for figures in before if figures.ratio is not None]
    found = {
        Figure.FILES: judge(night.files, [figures.files for figures in before], floor=FILES_FLOOR),
        Figure.BYTES: judge(night.uploaded, [figures.uploaded for figures in before], floor=BYTES_FLOOR),
        Figure.RATIO: None
        if night.ratio is None
        else judge(night.ratio, ratios, floor=RATIO_FLOOR, step=_RATIO_STEP),
    }
    return {figure: odd for figure, odd in found.items() if odd is not None}


def judge(value: float, earlier: Sequence[float], *, floor: float, step: float = _STEP) -> Unusual | None:
    """Compare a night's number with those of the nights before it (`earlier`, oldest first).

    Return what is unusual about it; None if it is usual, or if there are too few nights to decide. `floor`
    must be above 0; `step` is the logarithm of the least factor.
    """
    if floor <= 0:
        raise ValueError("the floor must be above 0")
    before = [log(max(figure, floor)) for figure in earlier[-NIGHTS:]]
    if len(before) < LEAST_NIGHTS:
        return None
    usual = _middle(before)
    spread = _NORMAL * _middle(abs(figure - usual) for figure in before)
    distance = log(max(value, floor)) - usual
    if abs(distance) <= max(_SPREADS * spread, step) + _NOTHING or _was_there(distance, before, usual, step):
        return None
    return Unusual(Direction.MORE if distance > 0 else Direction.LESS, _middle(earlier[-NIGHTS:]))


def _middle(numbers: Iterable[float]) -> float:
    """The median; the library's would take each nightly command some 4 ms to import."""
    ordered = sorted(numbers)
    half = len(ordered) // 2
    return (ordered[half] + ordered[-half - 1]) / 2


def _was_there(distance: float, before: Sequence[float], usual: float, step: float) -> bool:
    """Whether enough earlier nights were as far out on that side, but for that factor."""
    side = 1 if distance > 0 else -1
    far = (figure for figure in before if (figure - usual) * side >= abs(distance) - step)
    return sum(1 for _ in far) >= _BEFORE


def judge_all(values: Sequence[float], *, floor: float) -> list[Unusual | None]:
    """Each number of a row of nights, oldest first, judged by those before it."""
    return [
        judge(value, values[max(0, place - NIGHTS) : place], floor=floor)
        for place, value in enumerate(values)
    ]
