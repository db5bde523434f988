"""Rebuilds by a config: the inventory is made anew in its place, in steps that may be hours apart."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from backup.app.rebuilds.rebuilds import rebuild_context
from backup.config import Config
from backup.format.keys import RecoveryKey
from backup.model import VaultName
from backup.protocols import Clock, Progress
from backup.rebuilder.context import Wish
from backup.rebuilder.rebuild import rebuild
from backup.rebuilder.report import RebuildReport
from backup.transfer.retry import RetryLimit


class Rebuild(Struct, frozen=True):
    """A rebuild from one vault; no inventory can record it. The caller has `alone_on_state`."""

    config: Config
    vault: VaultName
    wish: Wish
    keys: Sequence[RecoveryKey]
    clock: Clock
    progress: Progress

    def step(self, retry_limit: RetryLimit) -> RebuildReport:
        """Rebuild, or wait for the vault. `NightvaultError` if there is an inventory already."""
        context = rebuild_context(self.config, self.vault, self.keys, self.clock, self.progress)
        return rebuild(self.wish, context.within(retry_limit))
