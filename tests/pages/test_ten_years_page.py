"""The page of the ten years: its table is what was recorded, and what was recorded held."""

from __future__ import annotations

from decimal import Decimal

from tests.pages import ten_years
from tests.support.emulated import REPOSITORY

HISTORY = 100 * 1024  # bytes for what an inventory remembers of a year's runs
ROUNDED = Decimal("0.000001")  # dollars, as in the record
PAGE = REPOSITORY / "docs" / "ten-years.md"


def test_the_table_is_what_was_recorded() -> None:
    assert ten_years.table(ten_years.recorded()) in PAGE.read_text(), "run python -m tests.pages.ten_years"


def test_what_was_recorded_held() -> None:
    for kind, one in ten_years.recorded().items():
        assert one["wrong"] == [], kind
        for quarter, size in enumerate(one["inventory"][8:], 1):
            assert size <= max(one["inventory"][4:8]) + HISTORY * -(-quarter // 4), kind
        assert not Decimal(one["beside"].get("nobody", 0))
        every = [(span, part) for span in ("money", "money_of_all") for part in one[span]]
        for key, part in every:
            money = one[key][part]
            foretold, charged = Decimal(money["foretold"]), Decimal(money["charged"])
            least = Decimal("0.9") if part == "copies" else Decimal("0.99")
            most = Decimal("1.01")
            if (key, part) == ("money_of_all", "copies"):  # with those of drills
                restores = Decimal(one["money_of_all"]["restores"]["charged"])
                most *= (restores + Decimal(one["beside"]["drill"])) / (restores or 1)
            bounds = foretold * least - ROUNDED, foretold * most + ROUNDED
            assert bounds[0] <= charged <= bounds[1], (kind, part)
