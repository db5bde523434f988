"""An installation on a Glacier vault whose hours pass when a test says so."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from backup.inventory.records import retrievals
from backup.inventory.records.retrievals import Restore, Retrieval
from backup.model import Tier
from backup.restorer.restore import begin_restore, plan_restore
from backup.vault.glacier import GlacierVault
from tests.support.backups import Site
from tests.support.doubles import NO_LIMIT, Fault, FaultyVault, ManualClock
from tests.support.emulated import RunningEmulator
from tests.support.rigs import HOUR


@dataclass
class Cold:
    """An installation on a Glacier vault, and hands on the emulator behind it."""

    site: Site
    emulator: RunningEmulator
    client: Any
    vault: GlacierVault
    source: Path
    clock: ManualClock

    def pass_hours(self, hours: float) -> None:
        """Let time pass, there and here."""
        self.emulator.advance(hours * HOUR)
        self.clock.advance(timedelta(hours=hours))

    def jobs(self) -> list[dict[str, Any]]:
        """Every retrieval that the service was ever asked for and remembers."""
        answer = self.client.list_jobs(vaultName=self.vault._vault)
        assert answer.get("Marker") is None
        return list(answer["JobList"])

    def begin(self, out: Path, path: str = "") -> Restore:
        """What the command does first: plan, begin."""
        world = self.site.restore_world
        plan = plan_restore(self.site.snapshot(), os.fsencode(self.source / path), world)
        return begin_restore(
            plan, os.fsencode(out), world, NO_LIMIT, tier=Tier.STANDARD, keys=lambda: [self.site.key]
        )

    def known(self, restore: Restore) -> Sequence[Retrieval]:
        """The retrievals as they are recorded."""
        with self.site.inventory.reading() as tx:
            return retrievals.retrievals_of(tx, restore.number)

    def behind(self, *faults: Fault) -> FaultyVault:
        """From now on the site reaches its vault through these faults."""
        vault = FaultyVault(self.vault, *faults)
        self.site = self.site.reopen(vault)
        return vault
