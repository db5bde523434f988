"""Inputs of every run: clock, progress, stop, retry limit; with a vault, that and the inventory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from msgspec import Struct, field
from msgspec.structs import replace

from backup.inventory.store.database import Inventory
from backup.protocols import Clock, Progress, Vault
from backup.transfer.retry import RetryLimit, RetryPolicy


class RunBase(Struct, frozen=True, kw_only=True):
    """Inputs of every run; `stop` says whether it is asked to end."""

    clock: Clock
    progress: Progress
    stop: Callable[[], bool] = lambda: False
    retry_limit: RetryLimit = field(default_factory=RetryLimit)

    @property
    def patience(self) -> RetryPolicy:
        """The retry policy for requests to a vault."""
        return self.retry_limit.patience(self.clock, self.progress)

    def within(self, retry_limit: RetryLimit | None) -> Self:
        """The same, with another limit of retries if one is given."""
        return self if retry_limit is None else replace(self, retry_limit=retry_limit)


class VaultRun(RunBase, frozen=True, kw_only=True):
    """Inputs of a run with a vault; the contexts of its kinds add what is their own."""

    inventory: Inventory
    vault: Vault
