"""The costs of a prune: fees of early deletion, and monthly storage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from msgspec import Struct

from backup.cost import Price, shortfall
from backup.inventory.content.pruning import StoredArchive
from backup.model import PackKind
from backup.retention.prune import PrunedArchive

_MONTH = 30


class Prices(Struct, frozen=True):
    """Prices by kind of pack; None for one that is not known, or free."""

    by_kind: Mapping[PackKind, Price | None]

    def minimum(self, kind: PackKind) -> timedelta | None:
        """Return the minimum duration of this kind of pack; None without a price."""
        price = self.by_kind[kind]
        return None if price is None else timedelta(days=price.minimum_days)

    def fee(self, archive: PrunedArchive, now: datetime) -> Decimal | None:
        """Return the fee for deleting an archive at that time: the rest of its minimum duration."""
        price = self.by_kind[archive.kind]
        if price is None:
            return None
        return price.deleting(archive.size, 1, (now - archive.stored_at).days, short=shortfall(archive.size))

    def month(self, archives: Sequence[PrunedArchive] | Sequence[StoredArchive]) -> Decimal | None:
        """Return what storing these costs a month; None if a price is not known."""
        if not any(self.by_kind.values()):
            return None
        total = Decimal(0)
        for kind in PackKind:
            some = [archive.size for archive in archives if archive.kind is kind]
            price = self.by_kind[kind]
            if some and price is None:
                return None
            if some and price is not None:
                total += price.storing(sum(some), len(some), _MONTH, short=sum(map(shortfall, some)))
        return total
