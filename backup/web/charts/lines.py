"""A chart of curves over time: size and growth. The value axis begins at zero."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup
from msgspec import Struct

from backup.web.charts.svg import drawing, element

WIDTH, HEIGHT, COLOURS, DASHES = 600, 160, 6, 4


class Series(Struct, frozen=True):
    """A curve: its name, and points (seconds, value) in order of time."""

    name: str
    points: Sequence[tuple[float, float]]


class Curves(Struct, frozen=True):
    """A drawing of curves, and the ends of its scales."""

    drawing: Markup
    top: float
    first: float
    last: float
    names: tuple[str, ...]


def curves(series: Sequence[Series], label: str, *, floor: float = 1.0) -> Curves:
    """Return the drawing of all curves; the area below a single curve is filled."""
    points = [point for line in series for point in line.points]
    first, last = (
        (min(point[0] for point in points), max(point[0] for point in points)) if points else (0.0, 1.0)
    )
    top = rounded_up(max([floor, *(value for _, value in points)]))
    parts = [_grid_line(HEIGHT * part / 4) for part in range(5)]
    for number, line in enumerate(series):
        placed = [_placed(point, first, last, top) for point in line.points]
        parts += _curve(placed, number, fill=len(series) == 1)
    return Curves(
        drawing(WIDTH, HEIGHT, parts, label=label), top, first, last, tuple(line.name for line in series)
    )


def rounded_up(value: float) -> float:
    """Return the next round number for a scale: 1, 2, 3, 4, 5, 6 or 8 times a power of 10 and of 1024."""
    base = 1.0
    while value >= base * 1024:
        base *= 1024
    for decade in (1, 10, 100, 1000):
        for step in (1, 2, 3, 4, 5, 6, 8):
            if value <= base * decade * step:
                return base * decade * step
    return base * 1024


def _grid_line(y: float) -> Markup:
    return element("path", d=f"M0 {y:.1f}H{WIDTH}", class_="grid")


def _placed(point: tuple[float, float], first: float, last: float, top: float) -> tuple[float, float]:
    span = last - first
    x = WIDTH * (point[0] - first) / span if span else WIDTH / 2
    return x, HEIGHT * (1 - point[1] / top)


def _curve(placed: Sequence[tuple[float, float]], number: int, *, fill: bool) -> list[Markup]:
    if not placed:
        return []
    if len(placed) == 1:  # a single night: a short line at its height
        x, y = placed[0]
        placed = [(max(0.0, x - 6), y), (min(float(WIDTH), x + 6), y)]
    way = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
    colour, dash = f"c{number % COLOURS}", f"d{number % DASHES}"
    found = []
    if fill:
        area = f"M{placed[0][0]:.1f} {HEIGHT}L{way}L{placed[-1][0]:.1f} {HEIGHT}Z"
        found.append(element("path", d=area, class_=f"area {colour}"))
    return [*found, element("path", d=f"M{way}", class_=f"curve {colour} {dash}")]


def key_mark(number: int) -> Markup:
    """Return the mark of a curve for the legend."""
    line = element(
        "path", d="M0 6H16", class_=f"curve c{number % COLOURS} d{number % DASHES}", stroke_width=2
    )
    return element("svg", line, viewBox="0 0 16 12", aria_hidden="true", focusable="false")


def key_block(number: int) -> Markup:
    """Return the mark of a bar's part for the legend."""
    block = element("rect", x=2, y=1, width=10, height=10, rx=1.5, class_=f"c{number % COLOURS}")
    return element("svg", block, viewBox="0 0 16 12", aria_hidden="true", focusable="false")
