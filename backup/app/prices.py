"""Prices and what a restore would cost by them, for each tier that its vault has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from backup.config import Config, VaultSettings
from backup.cost import Bill, Load, Price, PriceTable, parse_prices
from backup.errors import ConfigError
from backup.model import RetrievalId, Tier
from backup.protocols import VaultTraits
from backup.restorer.plan import NEAR, RangePlan
from backup.restorer.restore import RestorePlan
from backup.transfer.retrieve import PIECE, ReadyRange, wanted_pieces

_NO_ID = RetrievalId("")


@dataclass(frozen=True, slots=True)
class Quote:
    """What a restore would ask for with a tier, and cost; `bill` is None where the table has no price."""

    tier: Tier
    load: Load
    ranges: Sequence[RangePlan]
    bill: Bill | None
    hours: tuple[float, float] | None


def builtin_prices() -> str:
    """The text of the table that comes with nightvault."""
    return resources.files("backup").joinpath("prices.toml").read_text(encoding="utf-8")


def price_table(config: Config) -> PriceTable:
    """The table of the config, or the one that comes with nightvault. `ConfigError`."""
    path = config.prices.file
    if path is None:
        return parse_prices(builtin_prices(), "built in")
    try:
        with open(path, encoding="utf-8") as file:
            return parse_prices(file.read(), path)
    except UnicodeDecodeError as error:
        raise ConfigError(f"the price table {path} is not UTF-8 text") from error
    except OSError as error:
        raise ConfigError(f"cannot read the price table {path}: {error.strerror}") from error


def kind_of(vault: VaultSettings) -> str:
    """The kind of a vault as the price table has it."""
    return f"s3:{vault.storage_class}" if vault.kind == "s3" else vault.kind


def price_of(config: Config, vault: VaultSettings) -> Price | None:
    """What the vault costs; None if it is free, or the table does not say."""
    return None if vault.kind == "directory" else price_table(config).find(vault.region, kind_of(vault))


def gap_for(price: Price | None, tier: Tier) -> int:
    """How far apart two ranges may lie to be asked for as one."""
    if price is None:
        return NEAR
    return price.worth(tier) or NEAR


def quotes(plan: RestorePlan, price: Price | None, traits: VaultTraits, *, copy_days: int) -> list[Quote]:
    """A quote for each tier of the price, or for every tier where there is no price."""
    tiers = [tier for tier in Tier if price is None or tier in price.retrieval]
    if not traits.waits:
        tiers = [Tier.STANDARD]
    return [quote(plan, price, tier, copy_days=copy_days) for tier in tiers]


def quote(plan: RestorePlan, price: Price | None, tier: Tier, *, copy_days: int) -> Quote:
    """What the plan asks for with this tier, and costs."""
    ranges = plan.laid(gap_for(price, tier)).ranges
    load = load_of(plan, ranges)
    bill = price.retrieving(load, tier, copy_days=copy_days) if price else None
    terms = price.retrieval.get(tier) if price else None
    return Quote(tier, load, ranges, bill, terms.hours if terms else None)


def load_of(plan: RestorePlan, ranges: Sequence[RangePlan]) -> Load:
    """Bytes and requests of ranges; what is fetched are the pieces that hold wanted frames."""
    pieces = fetched = 0
    for one in ranges:
        size = plan.archives[one.archive].size
        for piece in wanted_pieces(ReadyRange(_NO_ID, size, one.extent, one.frames), PIECE):
            pieces, fetched = pieces + 1, fetched + piece.length
    return Load(
        archives=len({one.archive for one in ranges}),
        requests=len(ranges),
        wanted=sum(row.sealed_length for one in ranges for row in one.frames),
        retrieved=sum(one.extent.length for one in ranges),
        fetched=fetched,
        downloads=pieces,
    )
