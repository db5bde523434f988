"""Bars of a table's column, drawn with rich's blocks: an eighth of a cell is the finest step."""

from __future__ import annotations

from rich.bar import END_BLOCK_ELEMENTS, FULL_BLOCK

BAR = 24
"""Cells of the longest bar."""


def bar(value: float, most: float, cells: int = BAR) -> str:
    """A bar as long as `value` is in proportion to `most`, which has so many cells; what is there is seen."""
    if value <= 0 or most <= 0:
        return ""
    steps = len(END_BLOCK_ELEMENTS)
    eighths = max(1, round(min(value, most) / most * cells * steps))
    return FULL_BLOCK * (eighths // steps) + END_BLOCK_ELEMENTS[eighths % steps].strip()
