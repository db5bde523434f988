"""Limits of cost, made from a config: the amount, and what retrievals would cost with each tier."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal

from msgspec.structs import replace

from backup.app.money.prices import Quote, kind_of, known_table, money_unknown, price_of, priced
from backup.config import Config, VaultSettings
from backup.cost import Load
from backup.cost.limit import CostLimit, TierCost
from backup.model import PackKind, Tier, VaultName
from backup.transfer.fetching.wants import LimitOnWants, Want
from backup.transfer.whole import PIECE

FREE = {"directory"}
"""Kinds of vaults that cost nothing to read."""


def limit_on(
    config: Config,
    settings: VaultSettings,
    found: Sequence[Quote],
    amount: Decimal | None,
    what: str,
    *,
    setting: str = "",
    less: str = "",
) -> CostLimit:
    """Return the limit `amount`, None: no limit, on retrievals of which these are the quotes.

    Those with the same tier are added up. The other words are those of `CostLimit`.
    """
    if settings.kind in FREE or not any(quote.load.requests for quote in found):
        return CostLimit(amount, what, [TierCost(tier, Decimal(0)) for tier in Tier])
    by_tier: dict[Tier, list[Quote]] = {}
    for quote in found:
        by_tier.setdefault(quote.tier, []).append(quote)
    costs = [
        TierCost(tier, _total(quotes), not_verified(settings, quotes)) for tier, quotes in by_tier.items()
    ]
    return CostLimit(
        amount,
        what,
        costs,
        known_table(config),
        money_unknown(config) or "",
        f"{settings.region} and kind {kind_of(settings)}",
        setting,
        less,
    )


def _total(found: Sequence[Quote]) -> Decimal | None:
    """The sum of the quotes; None if one is not known."""
    bills = [quote.bill for quote in found]
    return None if None in bills else sum((bill.total for bill in bills if bill), Decimal(0))


def limit_on_archives(
    config: Config, settings: VaultSettings, amount: Decimal | None, what: str
) -> Callable[[int, int], CostLimit]:
    """Return what gives the limit `amount` on reading whole data packs: how many, and their bytes.

    `what` asks for them: the command.
    """

    def limit_on_packs(count: int, size: int) -> CostLimit:
        load = load_of_whole(count, size)
        found = [*_quotes_of_load(config, settings, PackKind.DATA, load)] if count else []
        return limit_on(config, settings, found, amount, f"this {what}")

    return limit_on_packs


def cost_of_more(config: Config, vault: VaultName, ranges: int, size: int, tier: Tier) -> Decimal | None:
    """Return the cost of so many more ranges of data packs, together of `size` bytes; None if not known."""
    settings = config.vault(vault)
    if settings.kind in FREE:
        return Decimal(0)
    found = _quotes_of_load(config, settings, PackKind.DATA, load_of_whole(ranges, size))
    bills = [quote.bill for quote in found if quote.tier is tier]
    return bills[0].total if bills and bills[0] else None


def limit_on_catalogs(config: Config, settings: VaultSettings, what: str) -> LimitOnWants:
    """Return what gives the limit `[restore] max_restore_cost` on retrieving catalogs for a rebuild.

    `what` asks for them: the command.
    """

    def limit_on_wants(wants: Sequence[Want]) -> CostLimit:
        found = [
            quote
            for kind in PackKind
            for quote in _quotes(config, settings, kind, [want for want in wants if want.kind is kind])
        ]
        amount = config.restore.max_restore_cost
        return limit_on(config, settings, found, amount, f"this {what}", less=f"{what} less")

    return limit_on_wants


def _quotes(
    config: Config, settings: VaultSettings, kind: PackKind, wants: Sequence[Want]
) -> Iterator[Quote]:
    """A quote for each tier, if anything is wanted."""
    if wants:
        load = load_of_whole(len(wants), sum(want.extent.length for want in wants))
        yield from _quotes_of_load(config, settings, kind, load)


def _quotes_of_load(config: Config, settings: VaultSettings, kind: PackKind, load: Load) -> Iterator[Quote]:
    """A quote for each tier; where there is nothing to wait for, all cost the same."""
    price = price_of(config, settings, kind)
    waits = price is None or any(tier.hours != (0, 0) for tier in price.retrieval.values())
    days = settings.retrieval_days if settings.kind == "s3" and waits else 0
    for tier in Tier:
        quote = priced(
            tier if waits else Tier.STANDARD, load, (), price, kind_of(settings, kind), copy_days=days
        )
        yield replace(quote, tier=tier)


def load_of_whole(count: int, size: int) -> Load:
    """Return the load of so many archives that are fetched whole."""
    return Load(count, count, wanted=size, retrieved=size, fetched=size, downloads=count + size // PIECE)


def not_verified(settings: VaultSettings, found: Sequence[Quote]) -> list[str]:
    """Return clauses that name figures which are not verified for the vault's region, and their origin."""
    names: dict[str, list[str]] = {}
    for figure in dict.fromkeys(figure for quote in found for figure in quote.unverified):
        names.setdefault(figure.as_in, []).append(figure.name)
    here = f"{settings.region}, kind {kind_of(settings)}"
    return [
        f"taken from {region}, not verified for {here}: {', '.join(all_)}" for region, all_ in names.items()
    ]
