"""Which archives are worth storing anew in part: gains as worked out by hand, and laws."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from backup.app.money.prices import builtin_table
from backup.cost import GB
from backup.model import MIB
from backup.retention.compact import CompactRules, Partly, plan_compact

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
RULES = CompactRules(730 * DAY, 3 * DAY, 224 * MIB)
PRICE = builtin_table().find("us-east-1", "glacier")
assert PRICE is not None
ONE = Partly(
    number=1,
    pack_id=b"p" * 16,
    size=GB,
    stored_at=NOW - 100 * DAY,
    free_at=NOW - 10 * DAY,
    length=2 * GB,
    live=GB // 5,
    needed_until=NOW,
)


def test_the_gain_is_the_old_archives_storage_less_the_new_ones() -> None:
    (chosen,) = plan_compact([ONE], RULES, PRICE, now=NOW)
    assert PRICE is not None
    assert chosen.archive.stored_anew == GB // 10
    assert chosen.gone_at == NOW + 4 * DAY
    old = PRICE.storage * 726 / 30
    new = PRICE.storage * 730 / 30 / 10
    assert chosen.gain is not None
    assert abs(chosen.gain - (old - new)) < Decimal("0.001")


def test_early_deletion_is_waited_for_and_paid_for_with_time() -> None:
    young = replace(ONE, free_at=NOW + 80 * DAY)
    (chosen,) = plan_compact([young], RULES, PRICE, now=NOW)
    (older,) = plan_compact([ONE], RULES, PRICE, now=NOW)
    assert chosen.gone_at == young.free_at
    assert chosen.gain is not None
    assert older.gain is not None
    assert chosen.gain < older.gain


def test_what_is_needed_beyond_the_horizon_is_left_alone() -> None:
    assert not plan_compact([replace(ONE, needed_until=NOW + 729 * DAY)], RULES, PRICE, now=NOW)
    assert not plan_compact([replace(ONE, needed_until=None)], RULES, PRICE, now=NOW)


def test_a_least_gain_is_heeded() -> None:
    (chosen,) = plan_compact([ONE], RULES, PRICE, now=NOW)
    assert chosen.gain is not None
    above = replace(RULES, min_gain=chosen.gain + Decimal("0.01"))
    assert not plan_compact([ONE], above, PRICE, now=NOW)
    assert plan_compact([ONE], replace(RULES, min_gain=chosen.gain), PRICE, now=NOW)


def test_without_prices_space_decides_and_nothing_may_need_the_rest() -> None:
    assert plan_compact([ONE], RULES, None, now=NOW)
    assert not plan_compact([replace(ONE, needed_until=NOW + DAY)], RULES, None, now=NOW)
    assert not plan_compact([replace(ONE, live=ONE.length * 9 // 10)], RULES, None, now=NOW)


@given(
    live=st.integers(0, 2 * GB),
    until=st.integers(0, 800),
    free=st.integers(-100, 100),
    known=st.booleans(),
)
def test_nothing_is_chosen_at_a_loss(live: int, until: int, free: int, known: bool) -> None:
    one = replace(ONE, live=live, needed_until=NOW + until * DAY, free_at=NOW + free * DAY)
    for chosen in plan_compact([one], RULES, PRICE if known else None, now=NOW):
        assert 0 < live < one.length
        assert chosen.freed > 0
        assert chosen.gone_at >= max(one.needed_until or NOW, one.free_at)
        assert (chosen.gain is not None and chosen.gain > 0) == known
