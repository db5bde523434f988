"""What ten simulated years came to, as the page's table and as pictures, from what a run recorded.

NIGHTVAULT_YEARS=10 NIGHTVAULT_YEARS_RECORD=build/years python -m pytest tests/scenarios
python -m tests.pages.ten_years build/years     # records it beside the tests
make pictures
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.pages.drawing import Drawing, Theme
from tests.support.emulated import REPOSITORY

RECORD = REPOSITORY / "tests" / "scenarios" / "ten-years.json"
PAGE = REPOSITORY / "docs" / "ten-years.md"
BEGIN, END = "<!-- made by tests/pages/ten_years.py -->", "<!-- until here -->"
KINDS = {"directory": "directory", "glacier": "Glacier vault", "s3": "bucket, DEEP_ARCHIVE"}
PARTS = ("storage", "uploads", "restores", "copies")
Record = Mapping[str, Mapping[str, Any]]


def recorded() -> Record:
    """The newest record: a result for each kind of vault."""
    found: Record = json.loads(RECORD.read_text())
    return found


def table(record: Record) -> str:
    """The table of the page."""
    results = [record[kind] for kind in KINDS]
    rows: list[tuple[str, Sequence[str]]] = [
        ("years simulated", [f"{result['years']}" for result in results]),
        ("days in them", [f"{result['nights']:,}" for result in results]),
        *_runs(results),
        ("archives made", [f"{result['archives']['made']:,}" for result in results]),
        ("archives deleted", [f"{result['archives']['deleted']:,}" for result in results]),
        ("deletions refused by the vault", [f"{result['refused']:,}" for result in results]),
        ("archives lost, and stored again", [f"{result['archives']['lost']:,}" for result in results]),
        ("certificates renewed", [f"{result['certificates']:,}" for result in results]),
        ("servers lost and rebuilt", [f"{result['rebuilt']:,}" for result in results]),
        (
            "restores of whole snapshots, proven",
            [f"{result['restores']['snapshots']:,}" for result in results],
        ),
        ("files compared in them", [f"{result['restores']['files']:,}" for result in results]),
        *_money(results),
        (
            "inventory after the first year, KiB",
            [f"{result['inventory'][3] // 1024:,}" for result in results],
        ),
        (
            "inventory at its largest in years two and three, KiB",
            [f"{max(result['inventory'][4:12]) // 1024:,}" for result in results],
        ),
        (
            "inventory at its largest from year four on, KiB",
            [f"{max(result['inventory'][12:]) // 1024:,}" for result in results],
        ),
    ]
    head = f"| | {' | '.join(KINDS.values())} |\n|---|{'---:|' * len(KINDS)}\n"
    return head + "".join(f"| {name} | {' | '.join(cells)} |\n" for name, cells in rows)


def _runs(results: Sequence[Mapping[str, Any]]) -> list[tuple[str, Sequence[str]]]:
    kinds = list(results[0]["runs"])
    return [
        (
            f"runs due, done: {kind}",
            [f"{result['runs'][kind]['due']:,}, {result['runs'][kind]['done']:,}" for result in results],
        )
        for kind in kinds
    ]


def _money(results: Sequence[Mapping[str, Any]]) -> list[tuple[str, Sequence[str]]]:
    return [
        (
            f"{part} in {words}: foretold, charged (USD)",
            [_pair(result[key].get(part)) for result in results],
        )
        for words, key in (("the first year", "money"), ("all years", "money_of_all"))
        for part in PARTS
    ]


def _pair(money: Mapping[str, str] | None) -> str:
    if money is None or Decimal(money["foretold"]) == Decimal(money["charged"]) == 0:
        return "free"
    return f"{Decimal(money['foretold']):.6f}, {Decimal(money['charged']):.6f}"


def money_picture(theme: Theme) -> Drawing:
    """Foretold beside charged, by part of the bill, for the two vaults that cost something."""
    record = recorded()
    d = Drawing(theme, 760, 300, "What the first year cost: foretold beside charged by the meter")
    d.text(
        16,
        28,
        "What the first year cost: foretold (upper bar) and charged by the meter (lower bar), in USD",
        bold=True,
    )
    y = 56
    for kind in ("glacier", "s3"):
        money = record[kind]["money"]
        most = max(Decimal(year["foretold"]) for year in money.values()) or Decimal(1)
        d.text(16, y, KINDS[kind], bold=True)
        for part in PARTS:
            if part not in money:
                continue
            y += 24
            d.text(30, y, part)
            for row, word in enumerate(("foretold", "charged")):
                value = Decimal(money[part][word])
                d.bar(
                    130, y - 11 + 9 * row, max(1, int(460 * value / most)), 8, fill=("vault", "server")[row]
                )
            d.text(744, y, _pair(money[part]), end=True)
        y += 34
    return d


def inventory_picture(theme: Theme) -> Drawing:
    """The inventory's size at the end of each quarter."""
    record = recorded()
    d = Drawing(theme, 760, 260, "The inventory's size at the end of each quarter")
    d.text(16, 28, "Size of the inventory's file at the end of each quarter, KiB", bold=True)
    most = max(max(year["inventory"]) for year in record.values())
    longest = max(len(year["inventory"]) for year in record.values())
    for share in (0, 1, 2):
        y = 220 - 80 * share
        d.line(70, y, 590, y)
        d.text(62, y + 4, f"{most * share // 2048:,}", end=True)
    ends: list[tuple[int, int, str]] = []
    for number, (kind, name) in enumerate(KINDS.items()):
        sizes = record[kind]["inventory"]
        points = [
            (70 + 520 * (at + 1) // longest, 220 - int(160 * size / most)) for at, size in enumerate(sizes)
        ]
        d.curve(*points, style=number)
        ends.append((points[-1][1], points[-1][0], name))
    lowest = 260
    for y, x, name in sorted(ends, reverse=True):  # names are kept apart where curves end side by side
        lowest = min(y, lowest - 15)
        d.text(x + 8, lowest + 4, name)
    for year in range(longest // 4 + 1):
        d.text(70 + 520 * 4 * year // longest, 242, f"{year}", middle=True, faint=True)
    d.text(606, 242, "years", faint=True)
    return d


PICTURES = {"ten-years-money": money_picture, "ten-years-inventory": inventory_picture}


def main(folder: str) -> None:
    """Record what a run left in a folder, and write the table into the page."""
    found = {kind: json.loads(Path(folder, f"{kind}.json").read_text()) for kind in KINDS}
    RECORD.write_text(json.dumps(found, indent=1) + "\n")
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + "\n\n" + table(found) + "\n" + END + rest.partition(END)[2])


if __name__ == "__main__":
    main(sys.argv[1])
