"""Drills by a config: what may be read in a month, and what is read back or opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

from msgspec import Struct
from msgspec.structs import asdict

from backup.app.base.run_context import RunContext, attempt
from backup.app.base.state import State
from backup.app.checks.checks import check_context, quote_sample
from backup.app.money.limits import limit_on
from backup.app.money.prices import Quote, currency_of
from backup.app.restores.contexts import context_of_vault
from backup.checker.read_sample import Piece
from backup.config import Config
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
from backup.kinds import RunKind
from backup.transfer.retry import RetryLimit


class Drill(Struct, frozen=True):
    """A drill of the config, of the grade "opened" if a key is given; it records its run itself."""

    kind: ClassVar[RunKind] = RunKind.DRILL
    of_job: ClassVar[bool] = False
    records_itself: ClassVar[bool] = True
    at: RunContext
    context: DrillContext
    keys: Sequence[RecoveryKey] = ()

    @classmethod
    def of(cls, at: RunContext, name: str, *, keys: Sequence[RecoveryKey] = ()) -> Self:
        """The drill of that name."""
        return cls(at, drill_context(at, name), keys)

    @staticmethod
    def about(config: Config, name: str) -> dict[str, object]:
        """Its name, that it was to read back, and its vault, if the config still has it."""
        vaults = [config.vault_of_drill(drill) for drill in config.drills if drill.name == name]
        about = {"drill": name, "grade": GRADES[Grade.READ_BACK]}
        return {**about, **({"vault": vaults[0]} if vaults else {})}

    @property
    def name(self) -> str:
        """Its name."""
        return self.context.name

    def step(self, retry_limit: RetryLimit | None = None) -> DrillReport:
        """Read what has come, or ask for it; a drill that waits is continued, also one begun by hand.

        `MonthSpentError` if its month allows nothing more, `LimitRefusedError` if it has a limit and the
        price is not known, `LockedError` if another drill is running.
        """
        context = self.context.within(retry_limit)
        about = self.about(self.at.config, self.name)
        if is_opening(context):
            about["grade"] = GRADES[context.with_key]
        recorded = attempt(self.at.inventory, self.at.clock, self.kind, about, makes_good=True)
        with recorded, as_stopped(self.at.stop):
            return step(context, self.keys)

    def rehearse(self, retry_limit: RetryLimit | None = None) -> DrillReport:
        """The same for somebody who sits there: an attempt that fails leaves no record."""
        return step(self.context.within(retry_limit), self.keys)

    def quotes(self) -> list[Quote]:
        """A quote of the next reading for each tier; none if nothing is stored. `MonthSpentError`."""
        chosen = planning.plan(self.context, self.context.with_key if self.keys else Grade.READ_BACK)
        if chosen is None:
            return []
        vault = self.context.vault
        return quote_sample(self.at.config, self.at.config.vault(vault.name), vault.traits, chosen.pieces)


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
        if context.loads:
            from backup.databases import throwaway  # few drills load anything

            throwaway.sweep(context.scratch)
        if keys or begun is not None:
            return opening.step(context, keys)
        return read_back.step(context)


def drill_context(at: RunContext, name: str) -> DrillContext:
    """The context of a drill, with the rights of a restore."""
    config, drill = at.config, at.config.drill(name)
    vault, amount = config.vault_of_drill(drill), drill.amount
    settings = config.vault(vault)
    check = check_context(at, vault, tier=drill.tier)

    def limit_on_reading(pieces: Sequence[Piece]) -> CostLimit:
        quotes = quote_sample(config, settings, check.vault.traits, pieces)
        monthly, setting = drill.max_cost_per_month, "max_cost_per_month"
        return limit_on(config, settings, quotes, monthly, f"drill {drill.name}", setting=setting)

    return DrillContext(
        **asdict(check),
        name=drill.name,
        jobs=drill.jobs or None,
        sample=Sample(amount.files, amount.bytes),
        limit=drill.max_cost_per_month,
        currency=currency_of(config),
        limit_on=limit_on_reading,
        restore=context_of_vault(at, vault),
        scratch=State(config.state_dir).drills,
        loads=drill.load,
        programs={
            database.kind: database.programs
            for job in config.jobs
            for database in job.database
            if database.programs is not None
        },
    )
