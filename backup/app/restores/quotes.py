"""Quotes of restores: the cost of a plan, by the vaults that it reads from, and from each other vault."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import Struct
from msgspec.structs import replace

from backup.app.base.run_context import RunContext
from backup.app.money.limits import FREE
from backup.app.money.prices import Quote, kind_of, price_of, quotes
from backup.app.restores.contexts import context_of_restore
from backup.config import Config, VaultSettings
from backup.inventory.content import copied
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.records import runs
from backup.model import Tier, VaultName
from backup.restorer.context import RestoreContext
from backup.restorer.plan import RestorePlan


def quotes_of(
    config: Config, context: RestoreContext, plan: RestorePlan
) -> tuple[VaultSettings, list[Quote]]:
    """Return a quote of the plan for each tier, and the vault whose prices count.

    Where it reads from several vaults, the quotes of all that cost something, and the first of these.
    """
    parts = parts_of(config, context, plan)
    if len(parts) == 1:
        return parts[0][0], _quotes(config, context, *parts[0])
    costly = [part for part in parts if part[0].kind not in FREE] or parts[:1]
    found: list[Quote] = []
    for part in costly:
        of_part = _quotes(config, context, *part)
        found += [replace(of_part[0], tier=tier) for tier in Tier] if len(of_part) == 1 else of_part
    return costly[0][0], found


def parts_of(
    config: Config, context: RestoreContext, plan: RestorePlan
) -> list[tuple[VaultSettings, RestorePlan]]:
    """Return the plan, by the vaults that it reads from."""
    vaults = sorted({archive.vault for archive in plan.archives.values()} - {context.vault.name})
    if not vaults:
        return [(config.vault(context.vault.name), plan)]
    parts = []
    for vault in (context.vault.name, *vaults):
        some = {number: archive for number, archive in plan.archives.items() if archive.vault == vault}
        ranges = [part for part in plan.ranges if part.archive in some]
        if some:
            parts.append((config.vault(vault), replace(plan, archives=some, ranges=ranges)))
    return parts


def _quotes(
    config: Config, context: RestoreContext, settings: VaultSettings, plan: RestorePlan
) -> list[Quote]:
    days = settings.retrieval_days if settings.kind == "s3" else 0
    vault = context.vault if context.joined is None else context.joined.at(settings.name)
    return quotes(plan, price_of(config, settings), kind_of(settings), vault.traits, copy_days=days)


class QuoteElsewhere(Struct, frozen=True):
    """The quotes of the same restore from another vault alone, one for each tier."""

    vault: VaultSettings
    quotes: list[Quote]

    @property
    def usual(self) -> Quote | None:
        """The quote for the tier of the vault; None if nothing has to be retrieved."""
        of_tier = [quote for quote in self.quotes if quote.tier is self.vault.tier]
        return next(iter(of_tier or self.quotes), None)


def quotes_elsewhere(
    at: RunContext, snapshot: Snapshot, but: VaultName, plan_in: Callable[[RestoreContext], RestorePlan]
) -> Iterator[QuoteElsewhere]:
    """Yield the quotes from each vault, except `but`, in which all lies that is to be restored.

    `plan_in` plans it in a context. Nothing is asked of any vault.
    """
    with at.inventory.reading() as tx:
        home = runs.vault_of_job(tx, snapshot.job_number)
        having = copied.vaults_with(tx, snapshot.job_number, snapshot.number)
    own = [home] if snapshot.forgotten_at is None else []
    configured = {vault.name for vault in at.config.vaults}
    for vault in (*own, *having):
        if vault == but or vault not in configured:
            continue
        context = context_of_restore(at, home, vault)
        plan = plan_in(context)
        if not plan.lost and {archive.vault for archive in plan.archives.values()} <= {vault}:
            settings, found = quotes_of(at.config, context, plan)
            yield QuoteElsewhere(settings, found)
