"""Compaction by a config: the rules by which each job's snapshots go, prices, horizon."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from backup.app.metrics import metrics_after
from backup.app.recovery_lines import keep_line_of
from backup.config import Config, JobSettings, VaultSettings
from backup.model import JobName
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
    """Retire what is worth it in one vault, and keep the recovery lines that come of it.

    `LockedError` while a backup runs: nothing was done.
    """
    with metrics_after(config, context.backup.clock):
        report = compact(
            context,
            rules_of(config, settings),
            pack_size=settings.pack_size,
            horizon=timedelta(seconds=settings.compact_horizon),
            min_gain=min_gain,
            only_plan=only_plan,
        )
    kept = [text for line in report.recovery_lines.values() for text in keep_line_of(config, line)]
    return replace(report, warnings=[*report.warnings, *kept])


def rules_of(config: Config, settings: VaultSettings) -> dict[JobName, JobRules]:
    """How the snapshots of each configured job of the vault will go."""
    return {job.name: _rules(job) for job in config.jobs if job.vault == settings.name}


def _rules(job: JobSettings) -> JobRules:
    return JobRules(job.policy, job.when, ZoneInfo(job.zone))
