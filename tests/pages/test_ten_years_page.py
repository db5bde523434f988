"""The page of the ten years: its table is what was recorded, and what was recorded held."""

from __future__ import annotations

from decimal import Decimal

from tests.pages import ten_years
from tests.support.emulated import REPOSITORY

PAGE = REPOSITORY / "docs" / "ten-years.md"


def test_the_table_is_what_was_recorded() -> None:
    assert ten_years.table(ten_years.recorded()) in PAGE.read_text(), "run python -m tests.pages.ten_years"


def test_what_was_recorded_held() -> None:
    for kind, one in ten_years.recorded().items():
        assert one["wrong"] == [], kind
        for part, money in one["money"].items():
            foretold, charged = Decimal(money["foretold"]), Decimal(money["charged"])
            least = Decimal("0.9") if part == "copies" else Decimal("0.99")
            most = Decimal("1.07") if part == "restores" else Decimal("1.01")
            assert foretold * least <= charged <= foretold * most, (kind, part)
