"""The prices of one kind of vault in one region, and their arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal

from msgspec import Struct

from backup.model import Tier

GB = 1024**3
"""Bytes that AWS bills as a GB (S3 FAQ, "How will I be charged")."""

SMALLEST = 128 * 1024
"""Bytes that an object is billed at least, in classes that have such a minimum."""

_MONTH = Decimal(30)  # days
_CENT = Decimal("0.01")


def shortfall(size: int) -> int:
    """The bytes that an object lacks of the minimum billable size."""
    return max(0, SMALLEST - size)


class Load(Struct, frozen=True):
    """A restore's load on a vault: it makes `retrieved` bytes readable, of which `fetched` are downloaded.

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


class Bill(Struct, frozen=True):
    """The cost of a retrieval, part by part, in the table's currency."""

    retrieval: Decimal = Decimal(0)
    requests: Decimal = Decimal(0)
    egress: Decimal = Decimal(0)
    copies: Decimal = Decimal(0)

    @property
    def total(self) -> Decimal:
        """The sum, rounded up to the cent: a limit must not be passed by rounding."""
        exact = self.retrieval + self.requests + self.egress + self.copies
        return exact.quantize(_CENT, rounding="ROUND_CEILING")


class TierPrice(Struct, frozen=True):
    """A tier's price: dollars for a GB and for 1,000 requests, and its hours, from and to."""

    gb: Decimal
    requests: Decimal
    hours: tuple[float, float]


class Figure(Struct, frozen=True):
    """One figure of a price: its name, its value, and its source.

    `as_in` is empty for a figure of this very region and kind; else it names the region or kind from which it
    was taken, unverified for this one.
    """

    name: str
    value: object
    source: str
    date: date
    as_in: str = ""


class Price(Struct, frozen=True):
    """The prices of one kind of vault in one region; prices.toml explains each word."""

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
    figures: tuple[Figure, ...] = ()
    complete: Decimal | None = None  # None: as `upload`
    index: int = 0
    minimum_size: int = 0

    @property
    def date(self) -> date:
        """The date of the oldest figure that is a price."""
        return min(figure.date for figure in self.figures if isinstance(figure.value, Decimal))

    def unverified(self, tier: Tier) -> tuple[Figure, ...]:
        """The figures for a retrieval with `tier` that are known only of another region or kind."""
        used = {"download", "egress", "copy", f"{tier}.gb", f"{tier}.requests"}
        return tuple(figure for figure in self.figures if figure.as_in and figure.name in used)

    def storing(self, size: int, archives: int, days: int, *, short: int = 0) -> Decimal:
        """The cost of storing `size` bytes in `archives` archives for `days` days.

        `short` is the sum of what these archives lack of the minimum billable size (`shortfall`).
        """
        index = _gb(archives * self.index) * self.copy * days / _MONTH
        return self._in_class(size, archives, days, short) + index

    def deleting(self, size: int, archives: int, age_days: int, *, short: int = 0) -> Decimal:
        """The cost of deleting data `age_days` old: the rest of the minimum duration."""
        return self._in_class(size, archives, max(0, self.minimum_days - age_days), short)

    def on_top(self, archives: int, short: int) -> int:
        """The overhead in bytes that is billed on top of the size of these archives."""
        return archives * (self.overhead + self.index) + (short if self.minimum_size else 0)

    def uploading(self, archives: int, requests: int) -> Decimal:
        """The cost of `requests` that send `archives` archives; each needs one more that completes it."""
        complete = self.upload if self.complete is None else self.complete
        return (self.upload * requests + complete * archives) / 1000

    def _in_class(self, size: int, archives: int, days: int, short: int) -> Decimal:
        billed = size + archives * self.overhead + (short if self.minimum_size else 0)
        return _gb(billed) * self.storage * days / _MONTH

    def retrieving(self, load: Load, tier: Tier, *, copy_days: int = 0) -> Bill | None:
        """The cost of a restore with `tier`; None if there is no such tier here.

        `copy_days` is how long a temporary copy of what was retrieved is kept, where the vault makes one: S3
        keeps it until the midnight (UTC) after these days, so up to a day longer, which is counted in full.
        """
        price = self.retrieval.get(tier)
        if price is None:
            return None
        kept_days = copy_days + 1 if copy_days else 0
        return Bill(
            retrieval=_gb(load.retrieved) * price.gb,
            requests=(price.requests * load.requests + self.download * load.downloads) / 1000,
            egress=_gb(load.fetched) * self.egress,
            copies=_gb(load.retrieved) * self.copy * kept_days / _MONTH,
        )

    def worth(self, tier: Tier) -> int | None:
        """The bytes of retrieval that cost as much as one request; None if neither costs anything."""
        price = self.retrieval.get(tier)
        if price is None or not (price.gb or price.requests):
            return None
        if not price.gb:
            return GB  # bytes are free: one request for everything
        return int(price.requests / 1000 / price.gb * GB)


def _gb(size: int) -> Decimal:
    return Decimal(size) / GB
