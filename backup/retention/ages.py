"""Ages of stored bytes, and the rest of their minimum duration; pure.

An archive that was stored on day D, by UTC, is billed for the minimum duration of its class at least. The
first whole day on which it can be deleted without a fee is D + minimum + 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec import Struct

from backup.model import PackKind
from backup.retention.nights import Amount

if TYPE_CHECKING:
    from backup.cost import Price
    from backup.inventory.questions.stats import Stored

AGE_STEPS = (0, 30, 90, 180, 365, 730)
"""Ages in days at which a class of age begins; the last has no end."""

_Prices = Mapping[PackKind, "Price | None"]


class Minimum(Struct, frozen=True):
    """Archives whose minimum duration is not over yet.

    The first of them can be deleted without a fee from day `first` on, all of them from `last` on; deleting
    all today costs `early`.
    """

    running: Amount
    first: date | None
    last: date | None
    early: Decimal


class Age(Struct, frozen=True):
    """Archives that are `least` days old or older, but not `most` (None: however old)."""

    least: int
    most: int | None
    held: Amount
    minimum: Minimum


def ages_of(rows: Sequence[Stored], prices: _Prices, today: date) -> list[Age]:
    """All classes of age, youngest first; an archive dated after `today` (by a wrong clock) counts as new."""
    ends = (*AGE_STEPS[1:], None)
    found: list[Age] = []
    for least, most in zip(AGE_STEPS, ends, strict=True):
        some = [row for row in rows if least <= _age(row, today) < (most or timedelta.max.days)]
        held = sum((Amount(row.archives, row.bytes, row.short) for row in some), Amount())
        found.append(Age(least, most, held, minimum_of(some, prices, today)))
    return found


def _age(row: Stored, today: date) -> int:
    return max(0, (today - row.day).days)


def free_from(day: date, minimum_days: int) -> date:
    """The first whole day on which an archive stored on `day` can be deleted without a fee."""
    return day + timedelta(days=min(minimum_days + 1, (date.max - day).days)) if minimum_days else day


def minimum_of(rows: Iterable[Stored], prices: _Prices, today: date) -> Minimum:
    """Those of the archives that cannot be deleted without a fee yet."""
    running, days, early = Amount(), list[date](), Decimal(0)
    for row in rows:
        price = prices.get(row.kind)
        free = free_from(row.day, price.minimum_days if price else 0)
        if price is None or free <= today or not price.minimum_days:
            continue
        running += Amount(row.archives, row.bytes, row.short)
        days.append(free)
        age = max(0, (today - row.day).days - 1)
        early += price.deleting(row.bytes, row.archives, age, short=row.short)
    return Minimum(running, min(days, default=None), max(days, default=None), early)
