"""A chart of stacked bars, such as cost by month."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup
from msgspec import Struct

from backup.web.charts.lines import COLOURS, HEIGHT
from backup.web.charts.svg import drawing, element

WIDTH = 40  # of one bar with its share of the gaps


class Bar(Struct, frozen=True):
    """A stacked bar: its parts from the bottom, and its tooltip."""

    parts: tuple[float, ...]
    told: str


def bars(row: Sequence[Bar], top: float, label: str) -> Markup:
    """Return the drawing of all bars; `top` is the value at the upper edge."""
    parts = [
        element("path", d=f"M0 {HEIGHT * part / 4:.1f}H{WIDTH * max(1, len(row))}", class_="grid")
        for part in range(5)
    ]
    parts += [_bar(number, bar, top or 1.0) for number, bar in enumerate(row)]
    return drawing(WIDTH * max(1, len(row)), HEIGHT, parts, label=label)


def share(value: float, whole: float, label: str) -> Markup:
    """Return the drawing of a share of a whole, as a horizontal bar."""
    part = 100 * min(1.0, max(0.0, value / whole)) if whole else 0.0
    return drawing(
        100,
        8,
        [
            element("rect", x=0, y=0, width=100, height=8, class_="m-none"),
            element("rect", x=0, y=0, width=part, height=8, class_="m-busy"),
        ],
        label=label,
        class_="bar",
    )


def _bar(number: int, bar: Bar, top: float) -> Markup:
    found, y = [element("title", bar.told)], float(HEIGHT)
    for place, value in enumerate(bar.parts):
        height = HEIGHT * value / top
        y -= height
        found.append(
            element(
                "rect",
                x=number * WIDTH + 7,
                y=y,
                width=WIDTH - 14,
                height=height,
                class_=f"c{place % COLOURS}",
            )
        )
    return element("g", *found)
