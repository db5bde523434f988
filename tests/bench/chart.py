"""The tables of JOURNAL.md for users: a chart of seconds against restic's, and two short tables.

`python -m tests.bench.chart` draws docs/performance.svg and writes the tables of docs/performance.md from the
journal; a test holds both to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Final, NamedTuple

JOURNAL: Final = Path(__file__).parent / "JOURNAL.md"
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
    """The rows of the journal's tables, in order."""
    for name, cells in _rows(page):
        if cells[3] != "-":
            yield Bar(name, cells[0], cells[1], cells[2], float(cells[3]))


def _rows(page: str) -> Iterator[tuple[str, list[str]]]:
    """Data set and cells of each row, as medians alone."""
    for name, table in zip(_SET.findall(page), _SET.split(page)[2::2], strict=True):
        for line in table.partition("<!--")[0].splitlines():
            cells = _cells(line)
            if len(cells) == 10 and cells[0] not in {"phase", "---"}:
                yield name, cells


def _cells(line: str) -> list[str]:
    cells = [cell.strip().removesuffix(" \\*") for cell in line.strip("|").split("|")]
    return [cell.partition(" (")[0] for cell in cells]


def tables(journal: str) -> list[str]:
    """The short tables: nightvault beside restic, and a vault's line."""
    beside = [
        "| data set | phase | nightvault | restic | time | CPU | memory | stored |",
        "|---|---|---|---|---|---|---|---|",
    ]
    seconds = {(bar.data, bar.phase, bar.program): bar.seconds for bar in bars(journal)}
    for name, (phase, program, own, *others) in _rows(journal):
        if program == "nightvault":
            ratios = " | ".join(others[0::2])
            beside.append(f"| {name} | {phase} | {own} s | {seconds[name, phase, 'restic']} s | {ratios} |")
    line = ["| way | program | MB/s | CPU s |", "|---|---|---|---|"]
    sent = [_cells(row) for row in journal.partition("<!-- upload: begin -->")[2].splitlines()]
    words = {"sink": "up", "from the sink": "down"}
    line += [f"| {words[c[0]]} | {c[1]} | {c[3]} | {c[6]} |" for c in sent if len(c) == 8 and c[0] in words]
    return ["\n".join(beside), "\n".join(line)]


def page_of(page: str, journal: str) -> str:
    """The page with its tables as the journal has them."""
    for number, table in enumerate(tables(journal), 1):
        begin, end = f"<!-- table {number}: begin -->", f"<!-- table {number}: end -->"
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n{table}\n{end}{rest.partition(end)[2]}"
    return page


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
    """Draw it, and write the tables."""
    journal = JOURNAL.read_text()
    PICTURE.write_text(draw(journal))
    PAGE.write_text(page_of(PAGE.read_text(), journal))


if __name__ == "__main__":
    main()
