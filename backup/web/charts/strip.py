"""The strip of nights: a sign for each night, with a shape and a colour of its own for each outcome."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from markupsafe import Markup
from msgspec import Struct

from backup.web.charts.svg import drawing, element


class NightSign(StrEnum):
    """The sign for the outcome of a night."""

    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    BUSY = "busy"
    NONE = "none"


class Night(Struct, frozen=True):
    """A night of a strip, and its tooltip."""

    sign: NightSign
    told: str


CELL, HEIGHT, GAP = 10, 28, 3


def strip(nights: Sequence[Night], label: str) -> Markup:
    """Return the drawing of all nights, the newest at the right."""
    cells = [_cell(number * CELL, night) for number, night in enumerate(nights)]
    return drawing(max(1, len(nights)) * CELL - GAP, HEIGHT, cells, label=label, class_="strip")


def _cell(x: int, night: Night) -> Markup:
    """A full bar; a bar with a notch; a short block with a cross; a dot where there was nothing."""
    wide = CELL - GAP
    tops = {
        NightSign.GOOD: 2,
        NightSign.WARN: 2,
        NightSign.BAD: 2,
        NightSign.BUSY: 12,
        NightSign.NONE: HEIGHT - 6,
    }
    top = tops[night.sign]
    bar = element("rect", x=x, y=top, width=wide, height=HEIGHT - 2 - top, rx=1.5, class_=f"m-{night.sign}")
    cut = {
        NightSign.WARN: element("path", d=f"M{x - 0.5} 15h{wide + 1}", class_="m-cut"),
        NightSign.BAD: element(
            "path", d=f"M{x + 1.2} 11.5l{wide - 2.4:.1f} 5m0-5l-{wide - 2.4:.1f} 5", class_="m-cut"
        ),
    }.get(night.sign, Markup(""))
    # the whole column answers to the pointer
    field = element("rect", x=x - GAP / 2, y=0, width=CELL, height=HEIGHT, fill_opacity=0)
    return element("g", element("title", night.told), bar, cut, field)
