"""Prices: the table that comes with nightvault, its arithmetic by hand, and tables that are wrong."""

from __future__ import annotations

from decimal import Decimal
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from backup.cost import GB, SMALLEST, Bill, Load, Price, PriceTable, parse_prices, shortfall
from backup.cost.limit import CostLimit, TierCost
from backup.errors import ConfigError, LimitRefusedError
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
    assert TABLE.find("us-east-1", "s3:NOTHING") is None


def test_every_region_has_prices_and_what_is_not_verified_is_marked() -> None:
    """Prices for all regions; a figure that is another region's says so, in every quote."""
    assert len(TABLE.regions) == 36
    assert len(TABLE.prices) == 36 * len(TABLE.kinds)
    spain = TABLE.find("eu-south-2", "s3:DEEP_ARCHIVE")
    assert spain is not None
    assert (spain.storage, spain.retrieval[Tier.STANDARD].gb) == (Decimal("0.0018"), Decimal("0.024"))
    unverified = {figure.name: figure.as_in for figure in spain.unverified(Tier.STANDARD)}
    assert unverified == {"standard.requests": "us-east-1"}
    assert not any(known.unverified(tier) for known in at_home() for tier in known.retrieval)


def at_home() -> list[Price]:
    return [known for known in TABLE.prices if known.region == "us-east-1"]


def test_a_vault_costs_what_the_class_does_in_the_same_region() -> None:
    found = TABLE.find("eu-central-1", "glacier")
    assert found is not None
    assert (found.storage, found.upload) == (Decimal("0.00405"), Decimal("0.03"))
    marks = {figure.name: figure.as_in for figure in found.figures if figure.as_in}
    assert marks["storage"] == marks["standard.gb"] == "eu-central-1 s3:GLACIER"
    assert "egress" not in marks, "the same for all kinds of a region"
    assert marks["upload"] == marks["bulk.gb"] == marks["standard.requests"] == "us-east-1"
    assert "standard.hours" not in marks


def test_a_region_that_nobody_knows_is_priced_as_the_nearest_and_marked_whole() -> None:
    found = TABLE.find("eu-nowhere-9", "s3:GLACIER")
    assert found is not None
    marks = {figure.name: figure.as_in for figure in found.figures if figure.as_in}
    assert marks["storage"] == marks["standard.gb"] == "eu-central-1"
    assert marks["expedited.gb"] == "us-east-1"
    assert "bulk.gb" not in marks, "free in all regions"
    assert TABLE.find("eu-central-1", "s3:NOTHING") is None


def test_hours_are_known_without_any_price() -> None:
    """Hours are told without a price."""
    assert TABLE.hours("s3:DEEP_ARCHIVE") == {Tier.STANDARD: (0, 12), Tier.BULK: (0, 48)}
    assert TABLE.hours("s3:NOTHING") == {}


def test_each_figure_has_a_source_and_a_date() -> None:
    for known in TABLE.prices:
        for figure in known.figures:
            assert figure.source
            assert 2025 <= figure.date.year <= 2026
        assert known.date == min(figure.date for figure in known.figures if isinstance(figure.value, Decimal))


OWN = """extends = true
[[set]]
key = "eu-central-1/glacier/storage"
value = 0.0045
date = 2026-11-20
[[set]]
key = "eu-central-1/glacier/storage"
value = 0.0046
date = 2026-11-21
"""


def test_figures_of_the_users_own_go_before() -> None:
    table = parse_prices(OWN, "mine.toml", TABLE)
    found = table.find("eu-central-1", "glacier")
    assert found is not None
    assert found.storage == Decimal("0.0046"), "the newest of them"
    (figure,) = (figure for figure in found.figures if figure.name == "storage")
    assert (figure.as_in, figure.source) == ("", "set by hand in mine.toml")
    assert table.find("eu-central-1", "s3:GLACIER") == TABLE.find("eu-central-1", "s3:GLACIER")
    assert table.currency == "USD"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("0.0045", "-1", "below 0"),
        *(("0.0045", text, "no number up to 1,000,000") for text in ("nan", "inf", "1e400", "1000001")),
        ("0.0045", "'sNaN'", "no number up to 1,000,000"),
        ("glacier/storage", "glacier/stowage", "names no figure of a price"),
        ("extends = true", "extends = true\ncurrency = 'EUR'", "currency"),
    ],
)
def test_own_figures_that_are_wrong(old: str, new: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_prices(OWN.replace(old, new), "mine.toml", TABLE)


def test_a_table_that_is_nested_too_deep_is_told_as_none() -> None:
    with pytest.raises(ConfigError, match=r"mine\.toml is no table of prices"):
        parse_prices("price = " + "[" * 5000, "mine.toml", TABLE)


def test_a_table_of_ones_own_must_be_whole() -> None:
    text = 'date = 2026-11-01\ncurrency = "EUR"\n[[price]]\nregion = "eu-central-1"\nkind = "glacier"\n'
    with pytest.raises(ConfigError, match="glacier in eu-central-1 lacks storage, overhead, minimum_days"):
        parse_prices(text, "mine.toml", TABLE)


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
    assert bill("s3:GLACIER", load(30 * GB), Tier.BULK, copy_days=10).copies == Decimal("0.253")
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
    infrequent = price("s3:STANDARD_IA")
    short = shortfall(1000) + shortfall(SMALLEST) + shortfall(10**9)
    assert short == SMALLEST - 1000
    assert infrequent.storing(1000, 1, 30, short=short) == infrequent.storing(SMALLEST, 1, 30)
    assert infrequent.deleting(1000, 1, 0, short=short) == infrequent.deleting(SMALLEST, 1, 0) > 0
    assert flexible.storing(1000, 1, 30, short=short) == flexible.storing(1000, 1, 30)
    assert flexible.deleting(1000 * GB, 0, 90) == flexible.deleting(1000 * GB, 0, 4000) == 0
    assert flexible.uploading(1000, 3000) == Decimal("0.12")  # 4,000 requests at 0.03 for 1,000


def test_a_bucket_bills_an_index_at_another_price_and_completing_at_that_of_the_class() -> None:
    deep = price("s3:DEEP_ARCHIVE")
    archives = 131_072  # 8 KiB of each are 1 GB of S3 Standard, 32 KiB are 4 GB of the class
    assert deep.storing(0, archives, 30) == Decimal("0.023") + 4 * Decimal("0.00099")
    assert deep.deleting(0, archives, 150) == 4 * Decimal("0.00099"), "the index has no minimum duration"
    assert deep.uploading(1000, 3000) == 3 * Decimal("0.005") + Decimal("0.05")
    assert price("s3:STANDARD").uploading(1000, 3000) == 4 * Decimal("0.005")


def test_figures_that_a_table_need_not_have_can_be_set() -> None:
    more = OWN.replace("eu-central-1/glacier/storage", "eu-central-1/glacier/index")
    more = more.replace("0.0045", "4096").replace("0.0046", "8192")
    more += '\n[[set]]\nkey = "eu-central-1/glacier/complete"\nvalue = 0.07\ndate = 2026-11-22\n'
    found = parse_prices(more, "mine.toml", TABLE).find("eu-central-1", "glacier")
    assert found is not None
    assert (found.index, found.complete) == (8192, Decimal("0.07"))


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
        ("egress = 0.09", "egress = inf", "no number up to 1,000,000"),
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


def limited(amount: str | None, *costs: str | None, setting: str = "") -> CostLimit:
    """A limit on what costs this with bulk, then with standard."""
    told = [
        TierCost(tier, None if cost is None else Decimal(cost), ["taken from elsewhere"])
        for tier, cost in zip((Tier.BULK, Tier.STANDARD), costs, strict=False)
    ]
    place = "eu-central-1 and kind glacier"
    most = None if amount is None else Decimal(amount)
    return CostLimit(
        most, "this check", told, TABLE, "why not", place=place, setting=setting, less="check less"
    )


def test_what_costs_no_more_than_its_limit_passes() -> None:
    for limit in (limited("5", "5", "5"), limited(None, "9", "9"), limited(None)):
        limit.hold(Tier.STANDARD)
    assert limited("5", "1", "5").remarks(Tier.STANDARD) == [
        "within the limit of 5 by prices taken from elsewhere"
    ]
    assert limited("5", "1", "6").remarks(Tier.STANDARD) == [], "it is not within the limit"
    assert limited(None).remarks(Tier.STANDARD) == ["why not"]
    assert limited(None).cost(Tier.STANDARD) is None


@pytest.mark.parametrize(
    ("limit", "says", "advice"),
    [
        (
            limited("5", "1", "6"),
            "would cost 6 USD with standard, more than 5 (prices of",
            "limit: --tier bulk (1)",
        ),
        (limited("5", "9", "6"), "taken from elsewhere", "no tier fits: check less, or raise the limit"),
        (limited("5", "1", "6", setting="most"), "more than most, 5 (", "check less, or raise the limit"),
        (
            limited("5", "1"),
            "has no prices for eu-central-1 and kind glacier with standard",
            "add them to a table",
        ),
        (limited("5", "1", None), "it is unknown whether this check stays below 5: the price table", "add"),
        (replace(limited("5"), table=None), "stays below 5: why not", "mend the table, or move it away; or"),
    ],
)
def test_what_costs_more_or_nobody_knows_what_is_refused(limit: CostLimit, says: str, advice: str) -> None:
    with pytest.raises(LimitRefusedError) as refused:
        limit.hold(Tier.STANDARD)
    assert says in str(refused.value)
    assert advice in str(refused.value.advice)
