"""What storing, retrieving and deleting early costs, by a dated table of prices; pure, money is Decimal.

table = parse_prices(text, "prices.toml")
price = table.find("us-east-1", "glacier")             # None: the table has none
price and price.retrieving(load, Tier.BULK).total      # dollars
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from backup.errors import ConfigError
from backup.model import Tier

GB = 1024**3
"""Bytes that AWS bills as a GB (S3 FAQ, "How will I be charged")."""

_MONTH = Decimal(30)  # days
_CENT = Decimal("0.01")
_Money = Annotated[Decimal, Meta(description="must be a number of dollars, 0 or more")]


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


class TierPrice(Struct, frozen=True, forbid_unknown_fields=True):
    """A tier: dollars for a GB and for 1,000 requests, and how many hours it takes, from and to."""

    gb: _Money
    requests: _Money
    hours: tuple[float, float]


class Price(Struct, frozen=True, forbid_unknown_fields=True):
    """What one kind of vault costs in one region; prices.toml says what each word means."""

    region: str
    kind: str
    storage: _Money
    overhead: Annotated[int, Meta(ge=0)]
    minimum_days: Annotated[int, Meta(ge=0)]
    upload: _Money
    download: _Money
    egress: _Money
    copy: _Money
    retrieval: Mapping[Tier, TierPrice]

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


class PriceTable(Struct, frozen=True):
    """All prices that we know; `origin` is the file they are from."""

    origin: str
    date: date
    currency: str
    sources: tuple[str, ...]
    prices: tuple[Price, ...]

    def find(self, region: str | None, kind: str) -> Price | None:
        """The price of that kind of vault in a region."""
        return next((one for one in self.prices if (one.region, one.kind) == (region, kind)), None)


class _File(Struct, forbid_unknown_fields=True):
    date: date
    currency: str
    sources: tuple[str, ...]
    price: tuple[Price, ...]


def parse_prices(text: str, origin: str) -> PriceTable:
    """The table in a TOML file. `ConfigError` says what is wrong with it."""
    try:
        document = tomllib.loads(text, parse_float=Decimal)
        read = msgspec.convert(document, _File, strict=False)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(
            f"{origin} is no table of prices: {error}",
            advice="`nightvault prices --toml` prints one that is",
        ) from error
    for one in read.price:
        if min(_all_money(one)) < 0:
            raise ConfigError(f"{origin}: {one.kind} in {one.region} has a price below 0")
    return PriceTable(origin, read.date, read.currency, read.sources, read.price)


def _all_money(one: Price) -> list[Decimal]:
    tiers = [money for tier in one.retrieval.values() for money in (tier.gb, tier.requests)]
    return [one.storage, one.upload, one.download, one.egress, one.copy, *tiers]


def _gb(size: int) -> Decimal:
    return Decimal(size) / GB
