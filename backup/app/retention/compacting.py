"""Compaction by a config: retention rules of each job, prices, horizon."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import closing, nullcontext
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from backup.app.backups.recovery_lines import keep_line_of
from backup.app.backups.run_context import RunContext, attempt
from backup.app.base.opened import opened
from backup.app.money.prices import MEND, money_unknown
from backup.app.retention.pruning import prune_context
from backup.app.status.metrics_file import metrics_after
from backup.config import Config, JobSettings, VaultSettings
from backup.errors import ConfigError, as_stopped
from backup.inventory.records import runs
from backup.inventory.records.runs import Outcome, RunKind
from backup.model import JobName, VaultName
from backup.protocols import Clock, Progress
from backup.pruner.compact import CompactReport, JobRules, compact
from backup.pruner.context import PruneContext


def run_compact(
    config: Config,
    settings: VaultSettings,
    context: PruneContext,
    *,
    min_gain: Decimal = Decimal(0),
    only_plan: bool = False,
) -> CompactReport:
    """Retire the archives of a vault for which that pays; a real compaction is recorded, a plan is not.

    `LockedError` while a backup runs: nothing was done. `ConfigError` without a price, as no gain can be
    computed.
    """
    if context.price is None and (settings.kind != "directory" or min_gain):
        unknown = money_unknown(config)
        raise ConfigError(
            f"there is no price for vault {settings.name}, so no saving can be computed"
            + (f": {unknown}" if unknown else ""),
            advice=MEND if unknown else "add its prices to your own table: docs/prices.md",
        )
    with metrics_after(config, context.backup.clock):
        return _compact(config, settings, context, min_gain, only_plan=only_plan)


def _compact(
    config: Config, settings: VaultSettings, context: PruneContext, min_gain: Decimal, *, only_plan: bool
) -> CompactReport:
    began = context.backup.clock.now()
    inventory, clock = context.backup.inventory, context.backup.clock
    kept_as = (
        nullcontext() if only_plan else attempt(inventory, clock, RunKind.COMPACT, {"vault": settings.name})
    )
    with kept_as, as_stopped(context.stop):
        report = compact(
            context,
            rules_of(config, settings),
            pack_size=settings.pack_size,
            horizon=timedelta(seconds=settings.compact_horizon),
            min_gain=min_gain,
            only_plan=only_plan,
        )
    kept = [text for line in report.recovery_lines.values() for text in keep_line_of(config, line)]
    report = replace(report, warnings=[*report.warnings, *kept])
    if not only_plan:
        _record(context, Outcome.PARTIAL if report.warnings else Outcome.DONE, report.document(), began)
    return report


def _record(context: PruneContext, outcome: Outcome, report: Mapping[str, Any], began: datetime) -> None:
    backup = context.backup
    with backup.inventory.writing() as tx:
        runs.record_of_vault(tx, RunKind.COMPACT, outcome, report, began, backup.clock.now())


def compact_once(
    config: Config, vault: VaultName, *, clock: Clock, progress: Progress, stop: threading.Event
) -> CompactReport:
    """Run a compaction for the daemon."""
    with closing(opened(config)) as inventory, attempt(inventory, clock, RunKind.COMPACT, {"vault": vault}):
        at = RunContext(config=config, inventory=inventory, clock=clock, progress=progress, stop=stop.is_set)
        return run_compact(config, config.vault(vault), prune_context(at, vault))


def rules_of(config: Config, settings: VaultSettings) -> dict[JobName, JobRules]:
    """The retention rules of each configured job of the vault, by name."""
    return {job.name: _rules(job) for job in config.jobs if job.vault == settings.name}


def _rules(job: JobSettings) -> JobRules:
    return JobRules(job.policy, job.when, ZoneInfo(job.zone))
