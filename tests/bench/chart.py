"""What docs/performance.md tells in tables, as a chart: seconds against restic's, for each phase and program.

`python -m tests.bench.chart` draws docs/performance.svg from the page; a test holds it to the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Final, NamedTuple

PAGE: Final = Path(__file__).parents[2] / "docs" / "performance.md"
PICTURE: Final = PAGE.with_suffix(".svg")
_SET = re.compile(r"### Data set (\w+)\n")
_WIDTH, _LEFT, _BAR, _GAP = 720, 190, 15, 10
_MOST: Final = 2.5  # times restic's: what is longer is cut, and says how long it is
_STYLE = """
text { font: 13px ui-sans-serif, system-ui, sans-serif; fill: #1f2933 }
.set { font-weight: 600 } .other { fill: #b8c4ce } .own { fill: #2a7f6f } .one { stroke: #7b8794 }
@media (prefers-color-scheme: dark) { text { fill: #e6eaee } .other { fill: #5a6672 } .own { fill: #4fb3a0 } }
"""


class Bar(NamedTuple):
    """One row of a table; `ratio` is its time to restic's."""

    data: str
    phase: str
    program: str
    seconds: str
    ratio: float


def bars(page: str) -> Iterator[Bar]:
    """The rows of the page's tables, in order."""
    for name, table in zip(_SET.findall(page), _SET.split(page)[2::2], strict=True):
        for line in table.partition("<!--")[0].splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if len(cells) == 10 and cells[0] not in {"phase", "---"} and cells[3] != "-":
                phase, program, seconds, ratio = cells[:4]
                yield Bar(name, phase.removesuffix(" \\*"), program, seconds.partition(" ")[0], float(ratio))


def draw(page: str) -> str:
    """The chart as SVG, for light and dark pages."""
    parts: list[str] = []
    y, before = 8, ("", "")
    scale = (_WIDTH - _LEFT - 130) / _MOST
    for bar in bars(page):
        if bar.data != before[0]:
            y += 2 * _GAP + 8
            parts.append(f'<text class="set" x="8" y="{y}">Data set {escape(bar.data)}</text>')
        if (bar.data, bar.phase) != before:
            y += _GAP
            parts.append(f'<text x="8" y="{y + 12}">{escape(bar.phase)}</text>')
            before = bar.data, bar.phase
        length = min(bar.ratio, _MOST) * scale
        kind = "own" if bar.program.startswith("nightvault") else "other"
        parts += [
            f'<text x="{_LEFT - 8}" y="{y + 12}" text-anchor="end">{escape(bar.program)}</text>',
            f'<rect class="{kind}" x="{_LEFT}" y="{y}" width="{length:.0f}" height="{_BAR - 3}"/>',
            f'<text x="{_LEFT + length + 6:.0f}" y="{y + 11}">{bar.seconds} s, {bar.ratio:.2f}</text>',
        ]
        y += _BAR + 1
    one = f'<line class="one" x1="{_LEFT + scale:.0f}" x2="{_LEFT + scale:.0f}" y1="8" y2="{y}"/>'
    title = "Seconds of each program, and their ratio to restic's"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + 12}" role="img">'
        f"<title>{title}</title><style>{_STYLE}</style>\n" + "\n".join([one, *parts]) + "\n</svg>\n"
    )


def main() -> None:
    """Draw it."""
    PICTURE.write_text(draw(PAGE.read_text()))


if __name__ == "__main__":
    main()
