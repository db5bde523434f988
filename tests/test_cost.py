"""Prices: the table that comes with nightvault, its arithmetic by hand, and tables that are wrong."""

from __future__ import annotations

from decimal import Decimal
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.cost import GB, Bill, Load, Price, PriceTable, parse_prices
from backup.errors import ConfigError
from backup.model import MIB, Tier

TEXT = resources.files("backup").joinpath("prices.toml").read_text()
TABLE = parse_prices(TEXT, "built in")
TIB = 1024 * GB


def price(kind: str) -> Price:
    found = TABLE.find("us-east-1", kind)
    assert found is not None
    return found


def load(retrieved: int = 0, requests: int = 0, fetched: int = 0, downloads: int = 0) -> Load:
    return Load(1, requests, retrieved, retrieved, fetched, downloads)


def bill(kind: str, what: Load, tier: Tier, **terms: int) -> Bill:
    found = price(kind).retrieving(what, tier, **terms)
    assert found is not None
    return found


def test_the_table_names_its_date_sources_and_origin() -> None:
    assert isinstance(TABLE, PriceTable)
    assert TABLE.date.year >= 2025
    assert (TABLE.origin, TABLE.currency) == ("built in", "USD")
    assert TABLE.sources
    assert TABLE.find("eu-central-1", "glacier") is None
    assert TABLE.find("us-east-1", "s3:NOTHING") is None


# By hand, from the reference: 1 TiB of Deep Archive is $2.56 in bulk and $20.48 in standard retrieval.
@pytest.mark.parametrize(
    ("kind", "tier", "retrieval"),
    [
        ("s3:DEEP_ARCHIVE", Tier.BULK, "2.56"),
        ("s3:DEEP_ARCHIVE", Tier.STANDARD, "20.48"),
        ("s3:GLACIER", Tier.BULK, "0"),
        ("s3:GLACIER", Tier.STANDARD, "10.24"),
        ("glacier", Tier.EXPEDITED, "30.72"),
    ],
)
def test_a_tebibyte(kind: str, tier: Tier, retrieval: str) -> None:
    assert bill(kind, load(TIB), tier).retrieval == Decimal(retrieval)


def test_requests_egress_and_copies() -> None:
    assert bill("glacier", load(requests=1000), Tier.EXPEDITED).requests == 10
    assert bill("glacier", load(fetched=1000 * GB), Tier.BULK).egress == 90
    assert bill("s3:GLACIER", load(downloads=5000), Tier.BULK).requests == Decimal("0.002")
    assert bill("s3:GLACIER", load(30 * GB), Tier.BULK, copy_days=10).copies == Decimal("0.23")
    assert bill("glacier", load(30 * GB), Tier.BULK, copy_days=10).copies == 0
    assert price("s3:DEEP_ARCHIVE").retrieving(load(1), Tier.EXPEDITED) is None


def test_a_total_is_rounded_up() -> None:
    assert Bill(retrieval=Decimal("0.0001")).total == Decimal("0.01")
    assert Bill(Decimal("1.00"), Decimal("0.005"), Decimal("0.005")).total == Decimal("1.01")
    assert Bill().total == 0


def test_storing_and_deleting_early() -> None:
    flexible = price("glacier")
    assert flexible.storing(1000 * GB, 0, 30) == Decimal("3.6")
    assert flexible.storing(0, 32768, 30) == Decimal("0.0036")  # overhead: 32,768 times 32 KiB are 1 GB
    assert flexible.deleting(1000 * GB, 0, 60) == Decimal("3.6")
    assert flexible.deleting(1000 * GB, 0, 90) == flexible.deleting(1000 * GB, 0, 4000) == 0
    assert flexible.uploading(2000) == Decimal("0.06")


def test_what_a_request_is_worth() -> None:
    assert price("glacier").worth(Tier.STANDARD) == pytest.approx(5.12 * MIB, abs=1)
    assert price("glacier").worth(Tier.EXPEDITED) == pytest.approx(GB / 3, abs=1)
    assert price("s3:GLACIER").worth(Tier.BULK) is None
    assert price("s3:DEEP_ARCHIVE").worth(Tier.EXPEDITED) is None


@given(
    st.integers(0, 2**50),
    st.integers(0, 10_000),
    st.integers(0, 2**50),
    st.sampled_from(TABLE.prices),
    st.data(),
)
def test_more_never_costs_less(size: int, requests: int, more: int, one: Price, data: st.DataObject) -> None:
    tier = data.draw(st.sampled_from(sorted(one.retrieval)))
    less = one.retrieving(load(size, requests, size), tier, copy_days=7)
    greater = one.retrieving(load(size + more, requests + 1, size + more), tier, copy_days=7)
    assert less is not None
    assert greater is not None
    assert Decimal(0) <= less.total <= greater.total


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('currency = "USD"\n', "", "currency"),
        ("egress = 0.09", "egress = -0.09", "below 0"),
        ("egress = 0.09", 'egress = "much"', "egress"),
        ("egress = 0.09", "egrets = 0.09", "egrets"),
        ("date = 2025-07-04", "date = July", "no table of prices"),
        ("standard = {", "instant = {", "instant"),
    ],
)
def test_a_table_that_is_wrong(old: str, new: str, says: str) -> None:
    assert old in TEXT
    with pytest.raises(ConfigError, match=says) as caught:
        parse_prices(TEXT.replace(old, new), "mine.toml")
    assert "mine.toml" in str(caught.value)
