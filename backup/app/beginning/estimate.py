"""Estimates the monthly cost of storage, and of a full restore, by kind of vault; pure."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct

from backup.app.money.prices import builtin_table, priced, tiers_where
from backup.cost import Load, PriceTable
from backup.model import MIB, Tier
from backup.transfer.retrieve import PIECE

CLASSES = ("DEEP_ARCHIVE", "GLACIER", "GLACIER_IR", "STANDARD_IA", "STANDARD")
"""The classes of S3 that are proposed, the coldest first."""

_COPY_DAYS = 7  # `retrieval_days` by default
_MONTH = 30


class Restore(Struct, frozen=True):
    """A full restore with one tier: its cost, and the hours until the data can be read."""

    tier: Tier
    cost: Decimal
    hours: tuple[float, float]


class Estimate(Struct, frozen=True):
    """The monthly cost of so many bytes in a kind of vault, and its restores, the slowest first.

    `days`: the minimum duration that is billed. `is_unverified`: figures are of another region.
    """

    kind: str
    month: Decimal
    days: int
    restores: tuple[Restore, ...]
    is_unverified: bool

    @property
    def cheapest(self) -> Restore:
        """The restore with the lowest cost."""
        return min(self.restores, key=lambda restore: restore.cost)

    @property
    def quickest(self) -> Restore:
        """The restore that is ready first, by its longest time; expedited ones are for few files."""
        usual = [restore for restore in self.restores if restore.tier is not Tier.EXPEDITED] or list(
            self.restores
        )
        return min(usual, key=lambda restore: restore.hours[1])


def estimate(region: str, kind: str, size: int, table: PriceTable | None = None) -> Estimate | None:
    """Estimate the costs of so many bytes, without compression; None if the table has no price."""
    price = (table or builtin_table()).find(region, kind)
    if price is None:
        return None
    pack = (224 if kind == "glacier" else 64) * MIB
    archives = max(1, -(-size // pack))
    waits = kind in {"glacier", "s3:GLACIER", "s3:DEEP_ARCHIVE"}
    days = _COPY_DAYS if waits and kind != "glacier" else 0
    load = Load(archives, archives, size, size, size, max(archives, -(-size // PIECE)))
    found = [
        priced(tier, load, (), price, kind, copy_days=days) for tier in tiers_where(price, kind, waits=waits)
    ]
    return Estimate(
        kind=kind,
        month=price.storing(size, archives, _MONTH),
        days=price.minimum_days,
        restores=tuple(
            Restore(quote.tier, quote.bill.total, quote.hours or (0.0, 0.0))
            for quote in found
            if quote.bill is not None
        ),
        is_unverified=any(figure.as_in for figure in price.figures),
    )
