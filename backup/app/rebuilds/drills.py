"""Rebuild drills by a config, each recorded as a run of its vault, and the price of a real rebuild."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

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
from backup.inventory.store.database import Inventory
from backup.kinds import Outcome, RunKind
from backup.model import PackKind, VaultName
from backup.protocols import Clock, Progress
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
    """A rebuild drill of one vault, in steps that may be hours apart."""

    config: Config
    inventory: Inventory
    vault: VaultName
    wish: Wish
    keys: Sequence[RecoveryKey]
    clock: Clock
    progress: Progress

    def step(self, retry_limit: RetryLimit | None = None) -> RebuildDrillReport:
        """Run one step.

        A drill that ends is recorded: done, partial (the vault lacks something) or failed.
        """
        check_keys(self.config, self.keys)
        context = RebuildDrillContext(
            vault=make_vault(self.config, self.vault, Purpose.RESTORE, self.clock),
            clock=self.clock,
            progress=self.progress,
            recovery_keys=self.keys,
            inventory=self.inventory,
            state_directory=self.config.state_dir,
            limit_on=limit_on_catalogs(self.config, self.config.vault(self.vault), "rebuild"),
            retry_limit=retry_limit or RetryLimit(),
        )
        began = self.clock.now()
        try:
            report = drill(self.wish, context)
        except _NO_DRILL:
            raise
        except NightvaultError as error:
            if not error.retryable:
                self._record(Outcome.FAILED, {"vault": self.vault, **failure_report(error)}, began)
            raise
        if not report.waits:
            self._record(outcome_of(report), _kept(report), report.began or began)
        return report

    def _record(self, outcome: Outcome, report: dict[str, object], began: datetime) -> None:
        with self.inventory.writing() as tx:
            runs.record_of_vault(tx, RunKind.REBUILD_DRILL, outcome, report, began, self.clock.now())


def outcome_of(report: RebuildDrillReport) -> Outcome:
    """Return the outcome of a drill: failed, if the rebuilt inventory differs from the one in use."""
    if not report.are_same:
        return Outcome.FAILED
    return Outcome.PARTIAL if report.rebuilt.is_partial else Outcome.DONE


def _kept(report: RebuildDrillReport) -> dict[str, object]:
    """The report as the run keeps it: without what is long, or the same each time."""
    document = report.document()
    rebuilt = document.pop("rebuilt")
    for name in ("unknowable", "dry_run", "state", "waits_for"):
        del document[name]
    if not report.are_same:
        first = document["differences"][0] if document["differences"] else None
        document["error"] = "a rebuilt inventory would differ from this one" + (
            f": {first['table']}, {first['kind']} ({first['count']})" if first else ""
        )
    return {**document, "jobs": rebuilt["jobs"], "suspicions": rebuilt["suspicions"][:20]}


def rebuild_quotes(
    config: Config, settings: VaultSettings, catalogs: CatalogsRead, clock: Clock
) -> list[Quote]:
    """Return a quote of a real rebuild from these catalogs, for each tier."""
    terms = terms_of(config, known_table(config), settings)
    price, kind = terms.prices[PackKind.CATALOG], terms.classes[PackKind.CATALOG]
    traits = make_vault(config, settings.name, Purpose.RESTORE, clock).traits
    load = load_of_whole(catalogs.count, catalogs.size)
    return [priced(tier, load, (), price, kind, copy_days=0) for tier in tiers_of(price, kind, traits)]
