"""Prunes by a config: who may delete, prices, grace; each prune is recorded as a run of its vault."""

from __future__ import annotations

import threading
from contextlib import closing
from datetime import datetime, timedelta
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from backup.app.metrics_file import refresh_metrics
from backup.app.opened import opened
from backup.app.prices import kind_of, price_of, price_table
from backup.app.recovery_lines import keep_line_of
from backup.app.run_context import RunContext
from backup.app.runs import backup_context, read_keys, sending_to
from backup.app.vaults import Purpose, make_vault
from backup.config import Config, VaultSettings
from backup.cost import Price
from backup.errors import InterruptedRunError, LockedError, NightvaultError, failure_report
from backup.inventory import runs
from backup.inventory.runs import Outcome, RunKind
from backup.inventory.stages import StepStage
from backup.model import VaultName
from backup.protocols import Clock, Progress
from backup.pruner.context import PruneContext
from backup.pruner.prune import prune
from backup.pruner.report import PruneReport
from backup.transfer.retry import Reach


class Prune(Struct, frozen=True):
    """A prune of one vault: its context, the most that deleting early may cost, whether it is only a plan."""

    config: Config
    context: PruneContext
    max_fee: Decimal = Decimal(0)
    only_plan: bool = False

    def step(self, reach: Reach | None = None) -> PruneReport:
        """One step; "waiting" while the vault makes its list. One that ends is recorded, done or failed.

        The recovery lines that come of it are kept. `LockedError` while a backup runs: nothing was done.
        """
        context = self.context
        if reach is not None:
            context = replace(context, backup=replace(context.backup, reach=reach))
        began = context.backup.clock.now()
        try:
            report = prune(context, max_fee=self.max_fee, only_plan=self.only_plan)
        except LockedError:
            raise
        except NightvaultError as error:
            self._record_failure(error, began)
            raise
        if report.is_plan or report.state is not StepStage.DONE:
            return report
        kept = [text for line in report.recovery_lines.values() for text in keep_line_of(self.config, line)]
        report = replace(report, warnings=[*report.warnings, *kept])
        self._record(Outcome.PARTIAL if is_partial(report) else Outcome.DONE, report.document(), began)
        return report

    def _record_failure(self, error: NightvaultError, began: datetime) -> None:
        if self.only_plan:
            return
        stopped = isinstance(error, InterruptedRunError)
        outcome = Outcome.INTERRUPTED if stopped else Outcome.FAILED
        self._record(outcome, {"vault": self.context.backup.vault.name, **failure_report(error)}, began)

    def _record(self, outcome: Outcome, report: dict[str, object], began: datetime) -> None:
        backup = self.context.backup
        with backup.inventory.writing() as tx:
            runs.record_of_vault(tx, RunKind.PRUNE, outcome, report, began, backup.clock.now())
        refresh_metrics(self.config, backup.clock)


def is_partial(report: PruneReport) -> bool:
    """Whether something needs an admin's eye: a refusal without a day, or a warning."""
    return bool(report.warnings) or any(one.until is None for one in report.refused)


def deletes_here(config: Config, settings: VaultSettings) -> bool:
    """Whether this server may delete: as the config says, else as its rights let expect."""
    if settings.deletes is not None:
        return settings.deletes == "here"
    if settings.kind == "directory" or settings.prune_role_arn is not None:
        return True
    return config.identity is None or settings.role_arn is None  # else by a role that should not be able to


def prune_context(at: RunContext, vault: VaultName) -> PruneContext:
    """The context of a prune: catalogs are stored by the backup role, archives deleted by the prune role."""
    config, settings = at.config, at.config.vault(vault)
    may_delete = deletes_here(config, settings)
    return PruneContext(
        keys=read_keys(config, at.inventory),
        backup=backup_context(at, vault),
        sending=sending_to(config, vault),
        deleting=make_vault(config, vault, Purpose.PRUNE, at.clock, stop=at.stop) if may_delete else None,
        price=price_of(config, settings),
        catalog_price=_catalog_price(config, settings),
        grace=timedelta(seconds=settings.prune_grace),
        keep_runs=timedelta(seconds=config.keep_runs),
        stop=at.stop,
        may_shrink=frozenset(job.name for job in config.jobs if job.may_shrink),
    )


def _catalog_price(config: Config, settings: VaultSettings) -> Price | None:
    """The price of catalogs, which a bucket keeps in a class of their own."""
    if settings.kind == "directory":
        return None
    kind = f"s3:{settings.catalog_class}" if settings.kind == "s3" else kind_of(settings)
    return price_table(config).find(settings.region, kind)


def prune_once(
    config: Config, vault: VaultName, *, clock: Clock, progress: Progress, stop: threading.Event
) -> PruneReport:
    """One step of a prune, as the daemon does it: "waiting" while the vault makes its list."""
    with closing(opened(config)) as inventory:
        at = RunContext(config=config, inventory=inventory, clock=clock, progress=progress, stop=stop.is_set)
        return Prune(config, prune_context(at, vault)).step()
