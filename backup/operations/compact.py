"""Compactions by a config: retention rules of each job, prices, horizon."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import ClassVar
from zoneinfo import ZoneInfo

from backup.app.money.prices import money_unknown
from backup.config import Config, JobSettings, VaultSettings
from backup.cost.limit import MEND
from backup.errors import ConfigError
from backup.kinds import RunKind
from backup.model import JobName
from backup.operations.prune import OfVault
from backup.pruner.compact import CompactReport, JobRules, compact
from backup.pruner.context import PruneContext
from backup.transfer.retry import RetryLimit


class Compact(OfVault, frozen=True):
    """A compaction of one vault; archives that gain less than `min_gain` dollars each are left alone."""

    kind: ClassVar[RunKind] = RunKind.COMPACT
    min_gain: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        """`ConfigError` without a price, as no gain can be computed; a directory needs none."""
        settings = self.config.vault(self.name)
        if self.context.price is not None or (settings.kind == "directory" and not self.min_gain):
            return
        unknown = money_unknown(self.config)
        raise ConfigError(
            f"there is no price for vault {settings.name}, so no saving can be computed"
            + (f": {unknown}" if unknown else ""),
            advice=MEND if unknown else "add its prices to your own table: docs/prices.md",
        )

    def plan(self, retry_limit: RetryLimit | None = None) -> CompactReport:
        """The report of what would be retired now."""
        return self._compact(self.context.within(retry_limit), only_plan=True)

    def step(self, retry_limit: RetryLimit | None = None) -> CompactReport:
        """Retire what pays."""
        return self._compact(self.context.within(retry_limit))

    def _compact(self, context: PruneContext, *, only_plan: bool = False) -> CompactReport:
        settings = self.config.vault(self.name)
        return compact(
            context,
            rules_of(self.config, settings),
            pack_size=settings.pack_size,
            horizon=timedelta(seconds=settings.compact_horizon),
            min_gain=self.min_gain,
            only_plan=only_plan,
        )


def rules_of(config: Config, settings: VaultSettings) -> dict[JobName, JobRules]:
    """The retention rules of each configured job of the vault, by name."""
    return {job.name: _rules(job) for job in config.jobs if job.vault == settings.name}


def _rules(job: JobSettings) -> JobRules:
    return JobRules(job.policy, job.when, ZoneInfo(job.zone))
