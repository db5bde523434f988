"""What every run is given: clock, progress, stop, retry limit; a run with a vault, and the inventory, too."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct, field

from backup.inventory.store.database import Inventory
from backup.protocols import Clock, Progress, Vault
from backup.transfer.retry import RetryLimit, RetryPolicy


class RunBase(Struct, frozen=True, kw_only=True):
    """What every run is given; `stop` says whether it is asked to end."""

    clock: Clock
    progress: Progress
    stop: Callable[[], bool] = lambda: False
    retry_limit: RetryLimit = field(default_factory=RetryLimit)

    @property
    def patience(self) -> RetryPolicy:
        """The retry policy for requests to a vault."""
        return self.retry_limit.patience(self.clock, self.progress)


class VaultRun(RunBase, frozen=True, kw_only=True):
    """What a run with a vault is given; the contexts of its kinds add what is their own."""

    inventory: Inventory
    vault: Vault
