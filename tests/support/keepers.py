"""A keeper beside a test's server: it has the vault, the recovery key and a folder, and no inventory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from backup.protocols import Clock, Vault
from backup.pruner.keeper.keep import KeeperContext, keep
from backup.pruner.keeper.report import InventoryReport, KeeperReport
from backup.transfer.fetching.wants import LimitOnWants
from tests.support.backups import Site, recovery_key
from tests.support.doubles import Silent, no_limit

FLOOR = timedelta(days=30)
MOST_STEPS = 30


@dataclass
class Keeper:
    """Steps of `keep`; `wait` lets the hours pass that a cold vault takes."""

    folder: Path
    vault: Vault
    clock: Clock
    keep_within: timedelta = FLOOR
    wait: Callable[[], object] = lambda: None
    progress: Silent = field(default_factory=Silent)
    accept: Sequence[str] = ()
    who: str = "somebody"
    limit_on: LimitOnWants = no_limit

    def context(self) -> KeeperContext:
        """Its context."""
        return KeeperContext(
            vault=self.vault,
            clock=self.clock,
            progress=self.progress,
            recovery_keys=[recovery_key()],
            folder=str(self.folder),
            limit_on=self.limit_on,
            keep_within=self.keep_within,
            accept=self.accept,
            who=self.who,
        )

    def step(self, *, only_plan: bool = False) -> KeeperReport:
        """One step; nothing of a rebuilt inventory is left after it."""
        try:
            return keep(self.context(), only_plan=only_plan)
        finally:
            assert os.listdir(self.folder / "scratch") == []

    def keep(self, *, only_plan: bool = False) -> KeeperReport:
        """All steps of it."""
        for _ in range(MOST_STEPS):
            report = self.step(only_plan=only_plan)
            if report.state != "waiting":
                return report
            self.wait()
        raise AssertionError(f"it waits for ever for {report.waits_for}")

    def only(self, *, only_plan: bool = False) -> InventoryReport:
        """What it did for the only server there is."""
        report = self.keep(only_plan=only_plan)
        assert len(report.inventories) == 1
        return report.inventories[0]


def keeper_of(site: Site, folder: Path, **options: object) -> Keeper:
    """A keeper of that server's vault."""
    return Keeper(folder, site.vault, site.clock, **options)  # type: ignore[arg-type]


def intruder_with(site: Site, folder: Path) -> Site:
    """Somebody with a copy of all that a server has: its keys, its inventory, its spool."""
    site.inventory.close()
    shutil.copytree(site.folder, folder)
    return Site.attach(folder, site.vault, site.job.sources, clock=site.clock)
