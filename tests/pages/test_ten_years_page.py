"""The page of the ten years: its table is what was recorded, and what was recorded held."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

from tests.pages import ten_years
from tests.support.emulated import REPOSITORY

BALANCE, FLAT = 9, Decimal("1.03")  # quarters after which an inventory's file grows no more, but for so much
COPIES = Decimal("0.8125")  # of the eight days that a quote counts a copy lies for seven, less twelve hours
ROUNDED = Decimal("0.000001")  # dollars, as in the record
PAGE = REPOSITORY / "docs" / "ten-years.md"


def test_the_table_is_what_was_recorded() -> None:
    assert ten_years.table(ten_years.recorded()) in PAGE.read_text(), "run python -m tests.pages.ten_years"


def test_what_was_recorded_held() -> None:
    for kind, year in ten_years.recorded().items():
        assert year["wrong"] == [], kind
        assert max(year["old_runs"]) <= 30, kind
        for sizes in _by_inventory(year["inventory"]):
            assert max(sizes) <= max(sizes[:BALANCE]) * FLAT, (kind, sizes)
        assert not Decimal(year["beside"].get("nobody", 0))
        every = [(span, part) for span in ("money", "money_of_all") for part in year[span]]
        for key, part in every:
            money = year[key][part]
            foretold, charged = Decimal(money["foretold"]), Decimal(money["charged"])
            least = COPIES if part == "copies" else Decimal("0.99")
            most = Decimal("1.01")
            if (key, part) == ("money_of_all", "copies"):  # with those of drills
                restores = Decimal(year["money_of_all"]["restores"]["charged"])
                most *= (restores + Decimal(year["beside"]["drill"])) / (restores or 1)
            bounds = foretold * least - ROUNDED, foretold * most + ROUNDED
            assert bounds[0] <= charged <= bounds[1], (kind, part)


def _by_inventory(sizes: list[int]) -> list[list[int]]:
    """The sizes of each inventory's file, which becomes smaller by a rebuild alone."""
    found = [sizes[:1]]
    for before, size in pairwise(sizes):
        if size < before:
            found.append([])
        found[-1].append(size)
    assert len(found) == 4, "it was made, and rebuilt three times"
    return found
