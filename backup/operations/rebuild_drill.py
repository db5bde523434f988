"""Rebuild drills by a config, each recorded as a run of its vault, and the price of a real rebuild."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import asdict

from backup.app.base.run_context import RunContext
from backup.app.base.vaults import Purpose, make_vault
from backup.app.money.limits import limit_on_catalogs, load_of_whole
from backup.app.money.prices import Quote, known_table, priced, tiers_of
from backup.app.money.stats import terms_of
from backup.app.rebuilds.rebuilds import check_keys
from backup.config import Config, VaultSettings
from backup.errors import (
    InterruptedRunError,
    LimitRefusedError,
    LockedError,
    NightvaultError,
    RecoveryKeyError,
    SpoolError,
    UsageError,
    failure_report,
)
from backup.format.keys import RecoveryKey
from backup.inventory.rebuilt.drill_queries import CatalogsRead
from backup.inventory.records import runs
from backup.kinds import Outcome, RunKind
from backup.model import PackKind, VaultName
from backup.protocols import Clock
from backup.rebuilder.context import Wish
from backup.rebuilder.drill import RebuildDrillContext, RebuildDrillReport, drill
from backup.transfer.retry import RetryLimit

_NO_DRILL = (
    LockedError,
    UsageError,
    LimitRefusedError,
    RecoveryKeyError,
    SpoolError,
    InterruptedRunError,
)
"""Errors that say nothing of the vault: nothing was tried of it, or the wrong key was given."""


class RebuildDrill(Struct, frozen=True):
    """A rebuild drill of one vault, in steps that may be hours apart; it records its run itself.

    An attempt that says nothing of the vault, or that may be repeated at once, leaves no record.
    """

    kind: ClassVar[RunKind] = RunKind.REBUILD_DRILL
    at: RunContext
    vault: VaultName
    wish: Wish
    keys: Sequence[RecoveryKey]

    def step(self, retry_limit: RetryLimit | None = None) -> RebuildDrillReport:
        """Rebuild, or wait for the vault; a drill that is over is recorded."""
        at = self.at.within(retry_limit)
        check_keys(at.config, self.keys)
        context = RebuildDrillContext(
            **asdict(at.of_vault(self.vault, Purpose.RESTORE)),
            recovery_keys=self.keys,
            state_directory=at.config.state_dir,
            limit_on=limit_on_catalogs(at.config, at.config.vault(self.vault), "rebuild"),
        )
        began = at.clock.now()
        try:
            report = drill(self.wish, context)
        except _NO_DRILL:
            raise
        except NightvaultError as error:
            if not error.retryable:
                self._record(Outcome.FAILED, {"vault": self.vault, **failure_report(error)}, began)
            raise
        if not report.waits_for:
            self._record(report.outcome, report.summary(), report.began or began)
        return report

    def _record(self, outcome: Outcome, report: dict[str, object], began: datetime) -> None:
        with self.at.inventory.writing() as tx:
            runs.record_of_vault(tx, self.kind, outcome, report, began, self.at.clock.now())


def rebuild_quotes(
    config: Config, settings: VaultSettings, catalogs: CatalogsRead, clock: Clock
) -> list[Quote]:
    """Return a quote of a real rebuild from these catalogs, for each tier."""
    terms = terms_of(config, known_table(config), settings)
    price, kind = terms.prices[PackKind.CATALOG], terms.classes[PackKind.CATALOG]
    traits = make_vault(config, settings.name, Purpose.RESTORE, clock).traits
    load = load_of_whole(catalogs.count, catalogs.size)
    return [priced(tier, load, (), price, kind, copy_days=0) for tier in tiers_of(price, kind, traits)]
