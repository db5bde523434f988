"""Sums and money: recomputed here by other ways, and by hand."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.cost import GB, Price, parse_prices
from backup.inventory.questions.stats import Contents, Retrieved, Stored, Uploads
from backup.model import MIB, JobName, PackKind, Tier, VaultName
from backup.retention.ages import AGE_STEPS, free_from
from backup.retention.nights import Amount, Night
from backup.retention.stats import Rows, Summary, Terms, months_of, summed

TABLE = parse_prices(resources.files("backup").joinpath("prices.toml").read_text(), "built in")
DATA, CATALOG = PackKind.DATA, PackKind.CATALOG
TODAY = date(2026, 11, 26)
COLD, WEB, DB = VaultName("cold"), JobName("web"), JobName("db")
GLACIER, DEEP, STANDARD = "glacier", "s3:DEEP_ARCHIVE", "s3:STANDARD"


def terms(data: str, catalogs: str | None = None, *, known: bool = True, free: bool = False) -> Terms:
    classes = {DATA: data, CATALOG: catalogs or data}
    prices: dict[PackKind, Price | None] = {
        kind: TABLE.find("us-east-1", name) if known else None for kind, name in classes.items()
    }
    return Terms(COLD, "s3", "us-east-1", free, classes, prices, 32 * MIB)


def stored(
    size: int,
    archives: int = 1,
    *,
    days: int = 0,
    job: JobName | None = WEB,
    kind: PackKind = DATA,
    condemned: bool = False,
) -> Stored:
    return Stored(
        *(COLD, job, kind, TODAY - timedelta(days=days), condemned, archives, size),
        *(2 * size, size),
    )


def nightly(size: int, kind: PackKind) -> list[Night]:
    """Thirty nights that added so much of that kind, in one archive each."""
    none = dict.fromkeys(PackKind, Amount())
    return [
        Night(COLD, WEB, TODAY - timedelta(days=ago), 1, size, 1, False, {**none, kind: Amount(1, size)})
        for ago in range(29, -1, -1)
    ]


def test_a_month_of_a_vault_by_hand() -> None:
    """1,000 GB in 32,768 archives: these are billed a GB more, 32 KiB for each."""
    found = summed(Rows([stored(1000 * GB, 32_768)]), terms(GLACIER), TODAY)
    assert found.month == 1001 * Decimal("0.0036")
    assert found.month_in_a_year is None, "no pace"
    (one,) = found.classes
    assert (one.name, one.held, one.overhead) == (GLACIER, Amount(32_768, 1000 * GB), GB)


def test_a_month_of_a_bucket_has_two_classes() -> None:
    rows = Rows([stored(1000 * GB, 131_072), stored(10 * GB, kind=CATALOG)])
    found = summed(rows, terms(DEEP, STANDARD), TODAY)
    deep = 1004 * Decimal("0.00099") + Decimal("0.023")
    assert [(cost.name, cost.month) for cost in found.classes] == [(DEEP, deep), (STANDARD, Decimal("0.23"))]
    assert found.month == deep + Decimal("0.23")
    assert found.classes[0].overhead == 5 * GB


def test_what_is_condemned_costs_until_it_is_deleted() -> None:
    with_it = summed(Rows([stored(GB), stored(GB, condemned=True)]), terms(GLACIER), TODAY)
    without = summed(Rows([stored(2 * GB, 2)]), terms(GLACIER), TODAY)
    assert with_it.month == without.month
    assert (with_it.condemned, without.condemned) == (Amount(1, GB), Amount())


def test_a_year_at_this_pace_by_hand() -> None:
    rows = Rows([stored(100 * GB, 100)], nights=nightly(GB, DATA))
    found = summed(rows, terms(GLACIER), TODAY)
    gigabytes = 465 + Decimal(465 * 32) / MIB
    assert found.month_in_a_year == pytest.approx(gigabytes * Decimal("0.0036"))
    catalogs = summed(Rows(nights=nightly(GB, CATALOG)), terms(DEEP, STANDARD), TODAY)
    assert catalogs.month == 0
    assert catalogs.month_in_a_year == 365 * Decimal("0.023"), "each class grows for itself"


def test_no_price_and_no_need_of_one() -> None:
    rows = Rows(
        [stored(GB)],
        nights=nightly(GB, DATA),
        uploads=[Uploads(COLD, WEB, DATA, 1, 1)],
        retrieved=[Retrieved(COLD, WEB, DATA, Tier.BULK, 1, GB)],
    )

    def costs(one: Summary) -> list[Decimal | None]:
        return [one.month, one.month_in_a_year, one.requests.total]

    assert costs(summed(rows, terms("unknown", known=False), TODAY)) == [None] * 3
    assert costs(summed(rows, terms("directory", known=False, free=True), TODAY)) == [0] * 3


def test_requests_by_hand() -> None:
    """Begin, 7 parts of 32 MiB, complete for a pack of 224 MiB; begin, 1, complete for a small one."""
    sent = [Uploads(COLD, WEB, DATA, 224, 1000), Uploads(COLD, WEB, CATALOG, 1, 10)]
    asked = [Retrieved(COLD, WEB, DATA, Tier.STANDARD, 20, 100 * GB)]
    found = summed(Rows(uploads=sent, retrieved=asked), terms(GLACIER), TODAY).requests
    assert (found.archives, found.uploads, found.retrievals) == (1010, 9000 + 30, 20)
    assert found.upload_cost == Decimal("0.03") * 9030 / 1000
    assert found.retrieval_cost == 1 + Decimal("0.05") * 20 / 1000
    assert found.total == found.upload_cost + found.retrieval_cost
    deep = summed(Rows(uploads=sent, retrieved=asked), terms(DEEP, STANDARD), TODAY).requests
    assert deep.upload_cost == (
        (Decimal("0.005") * 8000 + Decimal("0.05") * 1000 + Decimal("0.005") * 30) / 1000
    )
    assert deep.retrieval_cost == 2 + Decimal("0.10") * 20 / 1000


def test_parts_grow_with_an_archive_that_needs_more_than_ten_thousand() -> None:
    huge = Uploads(COLD, WEB, DATA, 400_000, 1)  # MiB; 12,500 parts of 32 MiB would be too many
    assert summed(Rows(uploads=[huge]), terms(GLACIER), TODAY).requests.uploads == 2 + 6250


def test_a_tier_without_a_price_is_not_guessed() -> None:
    asked = [Retrieved(COLD, WEB, DATA, Tier.EXPEDITED, 1, GB)]
    assert summed(Rows(retrieved=asked), terms(DEEP), TODAY).requests.total is None


def test_ratios() -> None:
    files = [Contents(COLD, WEB, 10, 300), Contents(COLD, DB, 1, 100)]
    found = summed(Rows([stored(100), stored(999, kind=CATALOG)], versions=files), terms(GLACIER), TODAY)
    assert (found.version_bytes, found.chunk_bytes, found.sealed_bytes) == (400, 200, 100)
    assert (found.deduplication, found.compression) == (2.0, 2.0)
    nothing = summed(Rows(), terms(GLACIER), TODAY)
    assert (nothing.deduplication, nothing.compression) == (None, None)
    assert nothing.month == 0


def test_the_minimum_duration_to_the_day() -> None:
    """Stored some time on day 0: by the end of day 90 its 90 days are over, so day 91 is free."""
    assert free_from(date(2026, 1, 1), 90) == date(2026, 1, 1) + timedelta(days=91)
    for days, runs in ((0, True), (90, True), (91, False), (900, False)):
        minimum = summed(Rows([stored(GB, days=days)]), terms(GLACIER), TODAY).minimum
        assert (minimum.running == Amount(1, GB)) is runs
        assert minimum.last == (TODAY + timedelta(days=91 - days) if runs else None)
    fresh = summed(Rows([stored(1000 * GB, 0)]), terms(GLACIER), TODAY).minimum
    assert fresh.early == 3 * Decimal("3.6"), "three months"
    old = summed(Rows([stored(1000 * GB, 0, days=61)]), terms(GLACIER), TODAY).minimum
    assert old.early == Decimal("3.6")
    assert summed(Rows([stored(GB)]), terms(STANDARD), TODAY).minimum.last is None


def test_each_class_has_a_minimum_duration_of_its_own() -> None:
    rows = Rows([stored(GB, days=100), stored(GB, days=10), stored(7, kind=CATALOG)])
    minimum = summed(rows, terms(DEEP, STANDARD), TODAY).minimum
    assert minimum.running == Amount(2, 2 * GB)
    assert (minimum.first, minimum.last) == (TODAY + timedelta(days=81), TODAY + timedelta(days=171))


rows_of_archives = st.lists(
    st.builds(
        stored,
        st.integers(0, 2**40),
        st.integers(1, 1000),
        days=st.integers(-3, 4000),
        job=st.sampled_from([WEB, DB, None]),
        kind=st.sampled_from(PackKind),
        condemned=st.booleans(),
    ),
    max_size=20,
)


@given(rows_of_archives)
def test_every_archive_is_of_one_age_one_month_and_one_job(rows: list[Stored]) -> None:
    found = summed(Rows(rows), terms(DEEP, STANDARD), TODAY)
    total = Amount(sum(row.archives for row in rows), sum(row.bytes for row in rows))
    assert found.all == total
    assert sum((age.held for age in found.ages), Amount()) == total
    assert [age.least for age in found.ages] == list(AGE_STEPS)
    months = months_of(rows)
    assert sum((held for month in months for held in month.held.values()), Amount()) == total
    assert [month.month for month in months] == sorted(month.month for month in months)
    parts = [summed(Rows(rows).of(COLD, job), terms(DEEP, STANDARD), TODAY) for job in (WEB, DB, None)]
    assert sum((summary.all for summary in parts), Amount()) == total
    assert sum((summary.month or 0 for summary in parts), Decimal(0)) == pytest.approx(found.month)
    running = sum((age.minimum.running for age in found.ages), Amount())
    assert running == found.minimum.running


@given(rows_of_archives)
def test_money_as_another_arithmetic_has_it(rows: list[Stored]) -> None:
    """In floating point, archive by archive."""
    month = early = 0.0
    for row in rows:
        if row.kind is CATALOG:
            month += row.bytes / 2**30 * 0.023
            continue
        billed = (row.bytes + row.archives * 32768) / 2**30 * 0.00099
        month += billed + row.archives * 8192 / 2**30 * 0.023
        age = min(max((TODAY - row.day).days - 1, 0), 180)
        early += billed * (180 - age) / 30
    found = summed(Rows(rows), terms(DEEP, STANDARD), TODAY)
    assert float(found.month or 0) == pytest.approx(month)
    assert float(found.minimum.early) == pytest.approx(early)


def test_rows_are_chosen_by_vault_and_job() -> None:
    other = VaultName("other")
    rows = Rows(
        [stored(1), stored(2, job=DB), stored(4, job=None)],
        [Contents(other, WEB, 1, 1)],
    )
    assert rows.parts == [(COLD, None), (COLD, DB), (COLD, WEB), (other, WEB)]
    assert [row.bytes for row in rows.of(COLD).stored] == [1, 2, 4]
    assert [row.bytes for row in rows.of(COLD, None).stored] == [4]
    assert rows.only(None, DB).parts == [(COLD, DB)]
    assert rows.only(other, None).parts == [(other, WEB)]
