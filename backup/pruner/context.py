"""The context of a prune: keys that seal, the vault by two roles, prices, grace."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from msgspec import Struct

from backup.catalogs.amend import KeepLine
from backup.catalogs.context import BackupContext, Keys, Sending
from backup.cost import Price
from backup.model import JobName, PackKind
from backup.protocols import Vault
from backup.pruner.prices import Prices
from backup.retention.prune import DEFAULT_GRACE, DEFAULT_KEEP_RUNS
from backup.transfer.retry import RetryPolicy


class PruneContext(Struct, frozen=True):
    """All inputs of a prune.

    `backup` stores catalogs by the backup role; `deleting` is the same vault by the prune role, None where
    this server only condemns. `price` is None where none is known. `threads`: how many deletions are sent at
    once. `may_shrink`: jobs whose sources may lose everything. `keep_line` is called with each recovery line.
    """

    keys: Keys
    backup: BackupContext
    sending: Sending
    deleting: Vault | None
    price: Price | None = None
    catalog_price: Price | None = None
    grace: timedelta = DEFAULT_GRACE
    keep_runs: timedelta = DEFAULT_KEEP_RUNS
    threads: int = 8
    may_shrink: frozenset[JobName] = frozenset()
    keep_line: KeepLine | None = None
    stop: Callable[[], bool] = lambda: False

    @property
    def prices(self) -> Prices:
        """The prices by kind of pack."""
        return Prices({PackKind.DATA: self.price, PackKind.CATALOG: self.catalog_price or self.price})

    @property
    def patience(self) -> RetryPolicy:
        """The retry policy for a vault that does not answer."""
        return self.backup.retry_limit.patience(self.backup.clock, self.backup.progress)
