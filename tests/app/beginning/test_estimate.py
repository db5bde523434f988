"""Prices of what was found, reckoned by hand from the table's figures."""

from __future__ import annotations

from decimal import Decimal

import pytest

from backup.app.beginning.estimate import CLASSES, estimate
from backup.app.money.prices import builtin_table
from backup.model import Tier

GB = 1024**3


def test_a_month_and_a_restore_are_as_the_table_has_them() -> None:
    """A TB in GLACIER_IR: no overhead, no wait; storing, retrieving, egress and requests of 64 MiB packs."""
    found = estimate("eu-central-1", "s3:GLACIER_IR", 1024 * GB)
    assert found is not None
    prices = {(known.region, known.kind): known for known in builtin_table().prices}
    price = prices["eu-central-1", "s3:GLACIER_IR"]
    assert found.month == 1024 * price.storage
    (restore,) = found.restores
    tier = price.retrieval[Tier.STANDARD]
    assert 0 <= restore.cost - 1024 * (tier.gb + price.egress) < 1024 * 1024 * Decimal("0.0001")
    assert sum(restore.hours) == 0
    assert found.days == 90


@pytest.mark.parametrize("kind", ["glacier", *(f"s3:{storage_class}" for storage_class in CLASSES)])
def test_more_costs_more_and_the_cheapest_is_the_cheapest(kind: str) -> None:
    small, large = estimate("eu-central-1", kind, GB), estimate("eu-central-1", kind, 900 * GB)
    assert small is not None
    assert large is not None
    assert small.month < large.month
    assert all(
        restore.cost < other.cost for restore, other in zip(small.restores, large.restores, strict=True)
    )
    assert large.cheapest.cost == min(restore.cost for restore in large.restores)
    assert large.quickest.hours[1] <= large.cheapest.hours[1]


def test_where_nobody_knows_a_price_there_is_none() -> None:
    assert estimate("eu-central-1", "s3:NOPE", GB) is None
