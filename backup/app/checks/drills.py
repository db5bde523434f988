"""Drills by a config: contexts, prices, and single steps for the daemon."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from decimal import Decimal

from msgspec.structs import replace

from backup.app.backups.run_context import attempt
from backup.app.base.opened import opened
from backup.app.base.state import State
from backup.app.checks.checks import check_context, quote_sample
from backup.app.money.prices import MEND, Quote, currency_of, money_unknown
from backup.app.restores.contexts import restore_context
from backup.app.status.metrics_file import metrics_after
from backup.checker.read_sample import Piece
from backup.config import Config, DrillSettings
from backup.driller import planning, read_back
from backup.driller import restore_grade as opening
from backup.driller.context import DrillContext
from backup.driller.report import GRADES, DrillReport
from backup.driller.sample import Sample
from backup.driller.scratch import sweep
from backup.errors import LimitRefusedError, as_stopped
from backup.format.keys import RecoveryKey
from backup.inventory.records import drills
from backup.inventory.records.readings import Grade
from backup.inventory.records.runs import RunKind
from backup.inventory.store.database import Inventory
from backup.model import Tier
from backup.protocols import Clock, Progress, VaultTraits
from backup.transfer.retry import RetryLimit

FREE = ("directory",)
"""Kinds of vaults that cost nothing to read."""


def drill_once(
    config: Config,
    name: str,
    *,
    clock: Clock,
    progress: Progress,
    stop: Callable[[], bool] | None = None,
) -> DrillReport:
    """Run one step of a drill without a key: "waiting" while the vault retrieves what is to be read.

    A waiting drill is continued, also one that was begun by hand. `MonthSpentError` if its month allows
    nothing more, `LimitRefusedError` if it has a limit and the price is not known.
    """
    settings = config.drill(name)
    told = {"drill": name, "grade": GRADES[Grade.READ_BACK], "vault": config.vault_of_drill(settings)}
    with (
        metrics_after(config, clock),
        closing(opened(config)) as inventory,
        attempt(inventory, clock, RunKind.DRILL, told) as report,
        as_stopped(stop or (lambda: False)),
    ):
        context = drill_context(config, inventory, settings, clock=clock, progress=progress, stop=stop)
        if is_opening(context):
            report["grade"] = GRADES[Grade.OPENED]
        return step(context)


def is_opening(context: DrillContext) -> bool:
    """Whether an open drill of the grade "opened" can go on without the key."""
    begun = opening.find(context)
    return begun is not None and not opening.needs_key(begun)


def step(context: DrillContext, keys: Sequence[RecoveryKey] = ()) -> DrillReport:
    """Run one step of a drill, of the grade "opened" if a key is given or if such a drill is open.

    What interrupted drills left is removed first. `LockedError` if another drill is running.
    """
    with context.inventory.locked("drill"):
        begun = opening.find(context)
        if begun is not None and not keys and opening.needs_key(begun):
            opening.give_up(begun, context)
            begun = None
        with context.inventory.reading() as tx:
            keep = drills.open_runs(tx)
        sweep(context.scratch, keep)
        if keys or begun is not None:
            return opening.step(context, keys)
        return read_back.step(context)


def drill_context(
    config: Config,
    inventory: Inventory,
    drill: DrillSettings,
    *,
    clock: Clock,
    progress: Progress,
    stop: Callable[[], bool] | None = None,
    retry_limit: RetryLimit | None = None,
) -> DrillContext:
    """The context of a drill, with the rights of a restore."""
    vault, amount = config.vault_of_drill(drill), drill.amount
    check = check_context(
        config, inventory, vault, clock=clock, progress=progress, tier=drill.tier, retry_limit=retry_limit
    )
    restore = restore_context(
        config, inventory, vault, clock=clock, progress=progress, stop=stop, retry_limit=retry_limit
    )
    return DrillContext(
        name=drill.name,
        jobs=drill.jobs or None,
        sample=Sample(amount.files, amount.bytes),
        limit=drill.max_cost_per_month,
        currency=currency_of(config),
        price=_price(config, drill, check.vault.traits, check.tier),
        check=check,
        restore=replace(restore, vault=check.vault),
        scratch=State(config.state_dir).drills,
    )


def _price(
    config: Config, drill: DrillSettings, traits: VaultTraits, tier: Tier
) -> Callable[[Sequence[Piece]], Decimal | None]:
    """The price of reading pieces with a tier; None if nobody knows.

    `LimitRefusedError` of a drill with a limit if there is a mistake in the table of prices.
    """
    settings = config.vault(config.vault_of_drill(drill))

    def price(pieces: Sequence[Piece]) -> Decimal | None:
        if settings.kind in FREE:
            return Decimal(0)
        unknown = None if drill.max_cost_per_month is None else money_unknown(config)
        if unknown is not None:
            raise LimitRefusedError(
                f"nobody knows what drill {drill.name} would cost, and whether that stays below "
                f"max_cost_per_month, {drill.max_cost_per_month}: {unknown}",
                advice=f"{MEND}; or give the drill no limit",
            )
        quotes = quote_sample(config, settings, traits, pieces)
        bill = next((quote.bill for quote in quotes if quote.tier is tier), None)
        return None if bill is None else bill.total

    return price


def quotes_of(config: Config, context: DrillContext, grade: Grade) -> list[Quote]:
    """Return a quote of the next reading for each tier; none if nothing is stored. `MonthSpentError`."""
    chosen = planning.plan(context, grade)
    if chosen is None:
        return []
    return quote_sample(config, config.vault(context.vault.name), context.vault.traits, chosen.pieces)
