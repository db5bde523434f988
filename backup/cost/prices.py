"""The prices of one kind of vault in one region, and their arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from backup.model import Tier

GB = 1024**3
"""Bytes that AWS bills as a GB (S3 FAQ, "How will I be charged")."""

_MONTH = Decimal(30)  # days
_CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Load:
    """What a restore asks of a vault: of the `retrieved` bytes that it makes readable `fetched` come down.

    `requests` are retrievals, `downloads` requests that fetch their outputs.
    """

    archives: int
    requests: int
    wanted: int
    retrieved: int
    fetched: int
    downloads: int

    @property
    def amplification(self) -> float:
        """Bytes retrieved for each byte wanted; 0 where nothing is wanted."""
        return self.retrieved / self.wanted if self.wanted else 0.0


@dataclass(frozen=True, slots=True)
class Bill:
    """What a retrieval costs, part by part, in the table's currency."""

    retrieval: Decimal = Decimal(0)
    requests: Decimal = Decimal(0)
    egress: Decimal = Decimal(0)
    copies: Decimal = Decimal(0)

    @property
    def total(self) -> Decimal:
        """All of it, to the cent, rounded up: a limit must not be passed by rounding."""
        exact = self.retrieval + self.requests + self.egress + self.copies
        return exact.quantize(_CENT, rounding="ROUND_CEILING")


@dataclass(frozen=True, slots=True)
class TierPrice:
    """A tier: dollars for a GB and for 1,000 requests, and how many hours it takes, from and to."""

    gb: Decimal
    requests: Decimal
    hours: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a price: what it is called, its value, and from where it is known.

    `as_in` is empty for a figure of this very region and kind; else it says whose it is: nobody has verified
    it here.
    """

    name: str
    value: object
    source: str
    date: date
    as_in: str = ""


@dataclass(frozen=True, slots=True)
class Price:
    """What one kind of vault costs in one region; prices.toml says what each word means."""

    region: str
    kind: str
    storage: Decimal
    overhead: int
    minimum_days: int
    upload: Decimal
    download: Decimal
    egress: Decimal
    copy: Decimal
    retrieval: Mapping[Tier, TierPrice]
    figures: tuple[Figure, ...] = field(default=(), repr=False)

    @property
    def date(self) -> date:
        """The age of the oldest figure that is money."""
        return min(one.date for one in self.figures if isinstance(one.value, Decimal))

    def unverified(self, tier: Tier) -> tuple[Figure, ...]:
        """The figures of a retrieval with `tier` that are known of another region or kind only."""
        used = {"download", "egress", "copy", f"{tier}.gb", f"{tier}.requests"}
        return tuple(one for one in self.figures if one.as_in and one.name in used)

    def storing(self, size: int, archives: int, days: int) -> Decimal:
        """`size` bytes in so many archives, for so many days."""
        return _gb(size + archives * self.overhead) * self.storage * days / _MONTH

    def deleting(self, size: int, archives: int, age_days: int) -> Decimal:
        """Deleting what is `age_days` old: the rest of the shortest time that is charged for."""
        return self.storing(size, archives, max(0, self.minimum_days - age_days))

    def uploading(self, requests: int) -> Decimal:
        """So many requests that send data."""
        return self.upload * requests / 1000

    def retrieving(self, load: Load, tier: Tier, *, copy_days: int = 0) -> Bill | None:
        """What a restore costs with `tier`; None if there is no such tier here.

        `copy_days` is how long a temporary copy of what was retrieved is kept, where the vault makes one.
        """
        price = self.retrieval.get(tier)
        if price is None:
            return None
        return Bill(
            retrieval=_gb(load.retrieved) * price.gb,
            requests=(price.requests * load.requests + self.download * load.downloads) / 1000,
            egress=_gb(load.fetched) * self.egress,
            copies=_gb(load.retrieved) * self.copy * copy_days / _MONTH,
        )

    def worth(self, tier: Tier) -> int | None:
        """How many bytes of retrieval cost as much as one request; None if neither costs anything."""
        price = self.retrieval.get(tier)
        if price is None or not (price.gb or price.requests):
            return None
        if not price.gb:
            return GB  # bytes are free: one request for all
        return int(price.requests / 1000 / price.gb * GB)


def _gb(size: int) -> Decimal:
    return Decimal(size) / GB
