"""What a drill may still cost in a month, by what was recorded before it was spent; pure.

Months are those of the calendar, in UTC. What is dated in a later month was recorded while the clock was
ahead, or the clock is behind now: it counts in this month, too, until a later run shows that it is older.
So no clock that jumps makes a drill cost more than its limit in any month that the clock shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal

from backup.inventory.records.drills import Charge

MILLIONTHS = 1_000_000


def first_of(month: int) -> datetime:
    """When a month begins."""
    return datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)


def millionths(money: Decimal) -> int:
    """An amount in millionths, rounded up."""
    return int((money * MILLIONTHS).to_integral_value(rounding="ROUND_CEILING"))


def money_of(cost: int) -> Decimal:
    """Millionths as an amount."""
    return Decimal(cost) / MILLIONTHS


def spent(charges: Iterable[Charge], month: int, is_older: Callable[[int], bool]) -> int:
    """The millionths that count in a month; `is_older` says whether a run certainly began before it."""
    return sum(
        charge.cost
        for charge in charges
        if charge.month == month or (charge.month > month and not is_older(charge.run))
    )
