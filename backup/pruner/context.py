"""The context of a prune: keys that seal, the vault by two roles, prices, grace."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import timedelta

from backup.catalogs.amend import Amender, KeepLine, amending
from backup.catalogs.context import BackupContext, Keys, Sending
from backup.cost import Price
from backup.inventory.content import copied
from backup.inventory.store.connections import Transaction
from backup.model import JobName, PackKind, VaultName
from backup.protocols import Vault
from backup.pruner.prices import Prices
from backup.retention.prune import DEFAULT_GRACE, DEFAULT_KEEP_RUNS


class PruneContext(BackupContext, frozen=True, kw_only=True):
    """All inputs of a prune.

    `vault` stores catalogs by the backup role; `deleting` is the same vault by the prune role, None where
    this server only condemns. `price` is None where none is known. `threads`: how many deletions are sent at
    once. `may_shrink`: jobs whose sources may lose everything. `keep_line` is called with each recovery line.
    `copied_to`: other vaults that the config has copies of its jobs in.
    """

    keys: Keys
    sending: Sending
    deleting: Vault | None
    price: Price | None = None
    catalog_price: Price | None = None
    grace: timedelta = DEFAULT_GRACE
    keep_runs: timedelta = DEFAULT_KEEP_RUNS
    threads: int = 8
    may_shrink: frozenset[JobName] = frozenset()
    copied_to: frozenset[VaultName] = frozenset()
    keep_line: KeepLine | None = None

    @property
    def prices(self) -> Prices:
        """The prices by kind of pack."""
        return Prices({PackKind.DATA: self.price, PackKind.CATALOG: self.catalog_price or self.price})

    def unread_copies(self, tx: Transaction) -> list[VaultName]:
        """Other vaults of which it is not known since a rebuild what copies in them still lack."""
        if not self.inventory.ancestors:
            return []
        return sorted(name for name in self.copied_to if not copied.is_known(tx, name))

    def amending(self, *, only_plan: bool) -> AbstractContextManager[Amender]:
        """Amend the vault's jobs under the lock of backups, as `catalogs.amend.amending` does."""
        return amending(self.keys, self, self.sending, only_plan=only_plan, keep_line=self.keep_line)
