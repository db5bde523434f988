"""Price tables, and quotes of restores by them, one for each tier of a vault."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from importlib import resources
from typing import Protocol

from msgspec import Struct

from backup.config import Config, VaultSettings
from backup.cost import Bill, Figure, Load, Price, PriceTable, parse_prices
from backup.errors import ConfigError
from backup.files import read_small
from backup.inventory.content.archives import Archive
from backup.model import PackKind, RetrievalId, Tier
from backup.protocols import VaultTraits
from backup.restorer.ranges import NEAR, RangePlan

_NO_ID = RetrievalId("")
_MOST_BYTES = 4 << 20  # of a price table


class Priced(Protocol):
    """The part of a restore's plan that its price depends on."""

    @property
    def ranges(self) -> Sequence[RangePlan]:
        """The ranges to retrieve."""
        ...

    @property
    def archives(self) -> Mapping[int, Archive]:
        """The archives to read from, by number."""
        ...

    def laid(self, gap: int) -> Priced:
        """Return the plan for a vault and tier in which a request costs as much as `gap` bytes."""
        ...


class Quote(Struct, frozen=True):
    """The retrievals and the cost of a restore with one tier; `bill` is None if no price is known.

    `unverified` are the figures in it that are taken from another region or kind.
    """

    tier: Tier
    load: Load
    ranges: Sequence[RangePlan]
    bill: Bill | None
    hours: tuple[float, float] | None
    unverified: tuple[Figure, ...] = ()


OWN_FILE = "prices.toml"
"""The file below the state directory that goes before the table inside nightvault, if [prices] names none."""


def builtin_prices() -> str:
    """Return the text of the built-in table."""
    return resources.files("backup").joinpath("prices.toml").read_text(encoding="utf-8")


def price_table(config: Config) -> PriceTable:
    """Return the built-in table updated with the user's own figures, or the user's own complete table.

    `ConfigError` says what is wrong with the user's.
    """
    text = own_text(config)
    return builtin_table() if text is None else _own_table(text, own_file(config))


def known_table(config: Config) -> PriceTable | None:
    """Return the table in force; None if the user's has a mistake, for callers that set no cost limit."""
    try:
        return price_table(config)
    except ConfigError:
        return None


def money_unknown(config: Config) -> str | None:
    """Return a sentence on why no prices are known; None if they are."""
    try:
        price_table(config)
    except ConfigError as error:
        return f"money: not known, because {error}"
    return None


def currency_of(config: Config) -> str:
    """Return the currency of the table in force; that of the built-in table if the user's cannot be read."""
    return (known_table(config) or builtin_table()).currency


@lru_cache(maxsize=4)
def _own_table(text: str, origin: str) -> PriceTable:
    """Return the table of such a file, cached, as a daemon needs the same one again and again."""
    return parse_prices(text, origin, builtin_table())


@cache
def builtin_table() -> PriceTable:
    """Return the built-in table."""
    return parse_prices(builtin_prices(), "built in")


def own_file(config: Config) -> str:
    """Return the path of the user's own prices: [prices] file, else one in the state directory, if any."""
    return config.prices.file or os.path.join(config.state_dir, OWN_FILE)


def own_text(config: Config) -> str | None:
    """Return the text of the user's own file; None if the default file does not exist. `ConfigError`."""
    path = own_file(config)
    try:
        return read_small(path, _MOST_BYTES).decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"the price table {path} is not UTF-8 text") from error
    except OSError as error:
        if config.prices.file is None and isinstance(error, FileNotFoundError | NotADirectoryError):
            return None
        raise ConfigError(f"cannot read the price table {path}: {error.strerror}") from error


def kind_of(vault: VaultSettings, packs: PackKind = PackKind.DATA) -> str:
    """Return a vault's kind in the words of the price table; of catalogs, if `packs` are these."""
    if vault.kind != "s3":
        return vault.kind
    return f"s3:{vault.storage_class if packs is PackKind.DATA else vault.catalog_class}"


def price_of(config: Config, vault: VaultSettings, packs: PackKind = PackKind.DATA) -> Price | None:
    """Return the price of a vault; None if it is free, not in the table, or the table cannot be read."""
    table = None if vault.kind == "directory" else known_table(config)
    return None if table is None else table.find(vault.region, kind_of(vault, packs))


def gap_for(price: Price | None, tier: Tier) -> int:
    """Return the largest gap, in bytes, across which two ranges are requested as one."""
    if price is None:
        return NEAR
    return price.worth(tier) or NEAR


def quotes(
    plan: Priced, price: Price | None, kind: str, traits: VaultTraits, *, copy_days: int
) -> list[Quote]:
    """Return a quote for each tier that the vault has."""
    found: list[Quote] = []
    for tier in tiers_of(price, kind, traits):
        ranges = plan.laid(gap_for(price, tier)).ranges
        load = load_of({number: archive.size for number, archive in plan.archives.items()}, ranges)
        found.append(priced(tier, load, ranges, price, kind, copy_days=copy_days))
    return found


def tiers_of(price: Price | None, kind: str, traits: VaultTraits) -> list[Tier]:
    """Return the tiers that a vault has."""
    return tiers_where(price, kind, waits=traits.waits)


def tiers_where(price: Price | None, kind: str, *, waits: bool) -> list[Tier]:
    """Same as `tiers_of`, given only whether the vault `waits`."""
    if not waits:
        return [Tier.STANDARD]
    known = price.retrieval if price else builtin_table().hours(kind)
    return [tier for tier in Tier if not known or tier in known]


def priced(
    tier: Tier, load: Load, ranges: Sequence[RangePlan], price: Price | None, kind: str, *, copy_days: int
) -> Quote:
    """Return a quote for that load; without a known price only its hours."""
    if price is None or tier not in price.retrieval:
        return Quote(tier, load, ranges, None, builtin_table().hours(kind).get(tier))
    bill = price.retrieving(load, tier, copy_days=copy_days)
    return Quote(tier, load, ranges, bill, price.retrieval[tier].hours, price.unverified(tier))


def load_of(sizes: Mapping[int, int], ranges: Sequence[RangePlan]) -> Load:
    """Return bytes and requests of ranges in archives of these sizes.

    Only pieces that hold wanted frames are fetched.
    """
    from backup.transfer.retrieve import PIECE, ReadyRange, wanted_pieces

    pieces = fetched = 0
    for plan in ranges:
        size = sizes[plan.archive]
        for piece in wanted_pieces(ReadyRange(_NO_ID, size, plan.extent, plan.frames), PIECE):
            pieces, fetched = pieces + 1, fetched + piece.length
    return Load(
        archives=len({plan.archive for plan in ranges}),
        requests=len(ranges),
        wanted=sum(row.sealed_length for plan in ranges for row in plan.frames),
        retrieved=sum(plan.extent.length for plan in ranges),
        fetched=fetched,
        downloads=pieces,
    )
