"""Drills by a config: contexts, prices, and single steps for the daemon."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

from msgspec.structs import replace

from backup.app.backups.run_context import attempt
from backup.app.base.opened import opened
from backup.app.base.state import State
from backup.app.checks.checks import check_context, quote_sample
from backup.app.money.limits import limit_on
from backup.app.money.prices import Quote, currency_of
from backup.app.restores.contexts import restore_context
from backup.app.status.metrics_file import metrics_after
from backup.checker.read_sample import Piece
from backup.config import Config, DrillSettings
from backup.cost.limit import CostLimit
from backup.driller import planning, read_back
from backup.driller import restore_grade as opening
from backup.driller.context import DrillContext
from backup.driller.report import GRADES, DrillReport
from backup.driller.sample import Sample
from backup.driller.scratch import sweep
from backup.errors import as_stopped
from backup.format.keys import RecoveryKey
from backup.inventory.records import drills
from backup.inventory.records.readings import Grade
from backup.inventory.store.database import Inventory
from backup.kinds import RunKind
from backup.protocols import Clock, Progress
from backup.transfer.retry import RetryLimit


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
    settings = config.vault(vault)
    check = check_context(
        config, inventory, vault, clock=clock, progress=progress, tier=drill.tier, retry_limit=retry_limit
    )
    restore = restore_context(
        config, inventory, vault, clock=clock, progress=progress, stop=stop, retry_limit=retry_limit
    )

    def limit_on_reading(pieces: Sequence[Piece]) -> CostLimit:
        quotes = quote_sample(config, settings, check.vault.traits, pieces)
        monthly, setting = drill.max_cost_per_month, "max_cost_per_month"
        return limit_on(config, settings, quotes, monthly, f"drill {drill.name}", setting=setting)

    return DrillContext(
        name=drill.name,
        jobs=drill.jobs or None,
        sample=Sample(amount.files, amount.bytes),
        limit=drill.max_cost_per_month,
        currency=currency_of(config),
        limit_on=limit_on_reading,
        check=check,
        restore=replace(restore, vault=check.vault),
        scratch=State(config.state_dir).drills,
    )


def quotes_of(config: Config, context: DrillContext, grade: Grade) -> list[Quote]:
    """Return a quote of the next reading for each tier; none if nothing is stored. `MonthSpentError`."""
    chosen = planning.plan(context, grade)
    if chosen is None:
        return []
    return quote_sample(config, config.vault(context.vault.name), context.vault.traits, chosen.pieces)
