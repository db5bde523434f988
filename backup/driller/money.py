"""The rest of a drill's monthly limit, from costs that are recorded before they arise; pure.

Months are calendar months in UTC. A cost dated in a later month was recorded while the clock was ahead, or
the clock is behind now: it counts in this month, too, until a later run shows that it is older. So a jumping
clock never makes a drill cost more than its limit in any month that the clock shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal

from backup.inventory.records.drills import Charge

MILLIONTHS = 1_000_000


def first_of(month: int) -> datetime:
    """Return the first moment of a month."""
    return datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)


def millionths(money: Decimal) -> int:
    """Return an amount in millionths, rounded up."""
    return int((money * MILLIONTHS).to_integral_value(rounding="ROUND_CEILING"))


def money_of(cost: int) -> Decimal:
    """Return millionths as an amount."""
    return Decimal(cost) / MILLIONTHS


def spent(charges: Iterable[Charge], month: int, is_older: Callable[[int], bool]) -> int:
    """Return the millionths that count in a month; `is_older`: whether a run certainly began before it."""
    return sum(
        charge.cost
        for charge in charges
        if charge.month == month or (charge.month > month and not is_older(charge.run))
    )
