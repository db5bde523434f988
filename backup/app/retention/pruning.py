"""Prunes by a config: who may delete, prices, grace. Each prune is recorded as a run of its vault."""

from __future__ import annotations

import threading
from contextlib import closing
from datetime import timedelta
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from backup.app.backups.recovery_lines import keep_line_of
from backup.app.backups.run_context import RunContext, attempt
from backup.app.backups.runs import backup_context, read_keys, sending_to
from backup.app.base.clock import naming_emulator
from backup.app.base.opened import opened
from backup.app.base.vaults import Purpose, make_vault
from backup.app.money.prices import builtin_table, kind_of, known_table, price_of
from backup.app.status.metrics_file import metrics_after
from backup.config import Config, VaultSettings
from backup.config.limits import deletes_here
from backup.cost import Price
from backup.errors import as_stopped
from backup.inventory.records import runs
from backup.inventory.records.runs import Outcome, RunKind
from backup.inventory.store.states import StepStage
from backup.model import VaultName
from backup.protocols import Clock, Progress
from backup.pruner.context import PruneContext
from backup.pruner.prune import prune
from backup.pruner.report import PruneReport
from backup.transfer.retry import RetryLimit


class Prune(Struct, frozen=True):
    """A prune of one vault: its context, the limit of early deletion fees, and whether it is only a plan."""

    config: Config
    context: PruneContext
    max_fee: Decimal = Decimal(0)
    only_plan: bool = False

    def step(self, retry_limit: RetryLimit | None = None) -> PruneReport:
        """Run one step; "waiting" while the vault prepares its list.

        A prune that ends is recorded, done or failed. New recovery lines are saved. `LockedError` while a
        backup runs: nothing was done.
        """
        context = self.context
        if retry_limit is not None:
            context = replace(context, backup=replace(context.backup, retry_limit=retry_limit))
        with naming_emulator(self.config.vault(context.backup.vault.name)):
            return self._step(context)

    def _step(self, context: PruneContext) -> PruneReport:
        if self.only_plan:
            return prune(context, max_fee=self.max_fee, only_plan=True)
        inventory, clock = context.backup.inventory, context.backup.clock
        report = {"vault": context.backup.vault.name}
        recorded = attempt(inventory, clock, RunKind.PRUNE, report)
        with metrics_after(self.config, clock), recorded, as_stopped(context.stop):
            return self._recorded(context)

    def _recorded(self, context: PruneContext) -> PruneReport:
        began = context.backup.clock.now()
        report = prune(context, max_fee=self.max_fee)
        if report.state is not StepStage.DONE:
            return report
        kept = [text for line in report.recovery_lines.values() for text in keep_line_of(self.config, line)]
        report = replace(report, warnings=[*report.warnings, *kept])
        outcome = Outcome.PARTIAL if is_partial(report) else Outcome.DONE
        backup = context.backup
        with backup.inventory.writing() as tx:
            runs.record_of_vault(tx, RunKind.PRUNE, outcome, report.document(), began, backup.clock.now())
        return report


def is_partial(report: PruneReport) -> bool:
    """Whether an admin must look: a refusal without a date, or a warning."""
    return bool(report.warnings) or any(group.until is None for group in report.refused)


def prune_context(at: RunContext, vault: VaultName) -> PruneContext:
    """Return the context of a prune: the backup role stores catalogs, the prune role deletes archives."""
    config, settings = at.config, at.config.vault(vault)
    may_delete = deletes_here(config, settings)
    return PruneContext(
        keys=read_keys(config, at.inventory),
        backup=backup_context(at, vault),
        sending=sending_to(config, vault),
        deleting=make_vault(config, vault, Purpose.PRUNE, at.clock, stop=at.stop) if may_delete else None,
        price=price_of(config, settings),
        catalog_price=catalog_price(config, settings),
        grace=timedelta(seconds=settings.prune_grace),
        keep_runs=timedelta(seconds=config.keep_runs),
        stop=at.stop,
        may_shrink=frozenset(job.name for job in config.jobs if job.may_shrink),
    )


def catalog_price(config: Config, settings: VaultSettings) -> Price | None:
    """Return the price of catalogs, which a bucket keeps in a storage class of their own.

    With a mistake in the user's table the built-in one is used, for its minimum duration.
    """
    if settings.kind == "directory":
        return None
    kind = f"s3:{settings.catalog_class}" if settings.kind == "s3" else kind_of(settings)
    return (known_table(config) or builtin_table()).find(settings.region, kind)


def prune_once(
    config: Config, vault: VaultName, *, clock: Clock, progress: Progress, stop: threading.Event
) -> PruneReport:
    """Run one step of a prune for the daemon: "waiting" while the vault prepares its list."""
    with closing(opened(config)) as inventory, attempt(inventory, clock, RunKind.PRUNE, {"vault": vault}):
        at = RunContext(config=config, inventory=inventory, clock=clock, progress=progress, stop=stop.is_set)
        return Prune(config, prune_context(at, vault)).step()
