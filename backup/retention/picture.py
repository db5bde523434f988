"""Draws a simulation as SVG: one row for each of its `looks`, with a mark for each night still kept; pure.

Time runs downwards from row to row, and to the right from night to night. The picture has no script, fits
light and dark pages, and says in its title and description what can be seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from itertools import pairwise
from typing import Final
from xml.sax.saxutils import escape

from msgspec import Struct

from backup.retention.simulate import SimulatedNight, Simulation, Stay

_COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9")
"""Colours that people who do not see red or green tell apart (Okabe and Ito), once for each rule in turn."""
_STYLE: Final = """
text { font: 12px system-ui, sans-serif; fill: #1f2328; }
.number { text-anchor: end; }
.faint { fill: #59636e; }
.paper { fill: #ffffff; }
.line { stroke: #d1d9e0; stroke-width: 1; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .faint { fill: #9198a1; }
  .paper { fill: #0d1117; }
  .line { stroke: #3d444d; }
}
"""
_WIDTH: Final = 900
_LEFT: Final = 96
_RIGHT: Final = 848
_ROW: Final = 18
_MARK: Final = 11  # its height
_LEAST: Final = 2.0  # its width


class _Axis(Struct, frozen=True):
    """Where a night stands from left to right."""

    first: float
    last: float

    def place(self, moment: float) -> float:
        """The distance of a night from the left edge."""
        span = self.last - self.first or 1.0
        return _LEFT + (moment - self.first) / span * (_RIGHT - 40 - _LEFT)


def picture(simulation: Simulation) -> str:
    """The picture as the text of an SVG file."""
    rules = [str(rule) for rule in simulation.policy.rules()]
    top = 74 + 18 * -(-len(rules) // 3)
    height = top + _ROW * len(simulation.looks) + 34
    title, description = _title(simulation), _description(simulation)
    first, last = simulation.nights[0].timestamp(), simulation.nights[-1].timestamp()
    axis = _Axis(first, last)
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title description">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="description">{escape(description)}</desc>',
        f"<style>{_STYLE}{_rule_colours(len(rules))}</style>",
        f'<rect class="paper" width="{_WIDTH}" height="{height}"/>',
        f'<text x="16" y="26" font-weight="bold">{escape(title)}</text>',
        *_legend(rules),
        f'<text class="faint" x="16" y="{top - 10}">after</text>',
        f'<text class="faint number" x="{_RIGHT + 36}" y="{top - 10}">nights kept</text>',
        *_months(simulation, axis, top, height),
    ]
    for number, look in enumerate(simulation.looks):
        lines += _row(simulation, look, axis, top + _ROW * number)
    note = "A row is what is there after that night; a mark is a night that can be restored."
    lines += [f'<text class="faint" x="16" y="{height - 10}">{note}</text>', "</svg>", ""]
    return "\n".join(lines)


def _title(simulation: Simulation) -> str:
    return f'Kept of "{simulation.schedule.text}": {simulation.policy}'


def _description(simulation: Simulation) -> str:
    """A description of the picture, for people who cannot see it."""
    end = simulation.at_the_end
    return (
        f"Rows from top to bottom are nights from {simulation.local(simulation.looks[0].night):%Y-%m-%d} to "
        f"{simulation.local(end.night):%Y-%m-%d}; the marks in a row are the nights kept then, older ones to "
        f"the left. At the end {len(end.kept)} of {len(simulation.nights)} are kept, the oldest of "
        f"{simulation.local(end.kept[0].night):%Y-%m-%d}."
    )


def _rule_colours(count: int) -> str:
    return "\n".join(f".r{n} {{ fill: {_COLOURS[n % len(_COLOURS)]}; }}" for n in range(count)) + "\n"


def _legend(rules: list[str]) -> Iterator[str]:
    """A mark and words for each rule, three in a line; of rules that keep the same night the first counts."""
    for number, words in enumerate(rules):
        x, y = 16 + 290 * (number % 3), 38 + 18 * (number // 3)
        yield f'<rect class="r{number}" x="{x}" y="{y}" width="11" height="{_MARK}"/>'
        more = "and " if number else ""
        yield f'<text x="{x + 18}" y="{y + 10}">{escape(more + words)}</text>'


def _months(simulation: Simulation, axis: _Axis, top: int, height: int) -> Iterator[str]:
    """A line at the beginning of each month, or of each year if these are many, and its name."""
    begin, end = simulation.local(0), simulation.local(len(simulation.nights) - 1)
    months = (end.year - begin.year) * 12 + end.month - begin.month
    for number in range(begin.month, begin.month + months):
        day = date(begin.year + number // 12, number % 12 + 1, 1)
        if months > 18 and day.month not in (1, 7):
            continue
        moment = begin.replace(year=day.year, month=day.month, day=1, hour=0, minute=0, second=0).timestamp()
        x = axis.place(moment)
        yield f'<line class="line" x1="{x:.1f}" y1="{top - 4}" x2="{x:.1f}" y2="{height - 28}"/>'
        if x < _RIGHT - 90:
            yield f'<text class="faint" x="{x + 3:.1f}" y="{top - 10}">{day:%Y-%m}</text>'


def _row(simulation: Simulation, look: SimulatedNight, axis: _Axis, y: int) -> Iterator[str]:
    """The marks of one row; consecutive nights that the same rule keeps are one mark."""
    yield f'<text x="16" y="{y + 10}">{simulation.local(look.night):%Y-%m-%d}</text>'
    step = _step(simulation)
    for run in _runs(look):
        x = axis.place(simulation.nights[run[0].night].timestamp())
        until = axis.place(simulation.nights[run[-1].night].timestamp() + step)
        width = max(until - x, _LEAST)
        yield (
            f'<rect class="r{run[0].rule}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_MARK}">'
            f"<title>{escape(_hint(simulation, run))}</title></rect>"
        )
    yield f'<text class="number" x="{_RIGHT + 36}" y="{y + 10}">{len(look.kept)}</text>'


def _runs(look: SimulatedNight) -> list[list[Stay]]:
    """The nights of one row, grouped: consecutive nights that the same rule keeps are together."""
    runs: list[list[Stay]] = []
    for stay in look.kept:
        before = runs[-1][-1] if runs else None
        if before is not None and (before.night + 1, before.rule) == (stay.night, stay.rule):
            runs[-1].append(stay)
        else:
            runs.append([stay])
    return runs


def _hint(simulation: Simulation, run: list[Stay]) -> str:
    first, last = (f"{simulation.local(stay.night):%Y-%m-%d %H:%M}" for stay in (run[0], run[-1]))
    if len(run) > 1:
        return f"{len(run)} nights, {first} to {last}"
    return f"{first}: {', '.join(run[0].reasons)}"


def _step(simulation: Simulation) -> float:
    """Seconds between two nights, at the least."""
    return min(
        ((later - earlier).total_seconds() for earlier, later in pairwise(simulation.nights)), default=0.0
    )
