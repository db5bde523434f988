"""Values in words, as the page says them."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from backup.cost.prices import Figure
from backup.web.pages.html import Words
from backup.web.pages.quote import borrowed
from backup.web.texts import Texts
from tests.support.doubles import START


@pytest.mark.parametrize(
    ("amount", "said"),
    [("0", "0.00 EUR"), ("0.00002", "< 0.0001 EUR"), ("0.0012", "0.0012 EUR"), ("1234.5", "1,234.50 EUR")],
)
def test_money_is_never_shown_as_nothing(amount: str, said: str) -> None:
    assert Words(Texts("en"), START).money(Decimal(amount), "EUR") == said


@pytest.mark.parametrize(
    ("name", "what"),
    [("standard.requests", "1,000 requests of tier standard"), ("storage", "storage")],
)
def test_a_price_of_another_region_is_told_in_words(name: str, what: str) -> None:
    figure = Figure(name, Decimal(1), "list", date(2026, 8, 2), "us-east-1")
    assert borrowed(figure) == f"{what}: as in us-east-1, not verified for this region"
