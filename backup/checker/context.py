"""The context of a check: inventory, vault, clock, keys."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from msgspec import Struct, field

from backup.format.keys import ChunkSecret, RecoveryKey
from backup.inventory.records.readings import Reading
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.model import MIB, Tier
from backup.protocols import Clock, Progress, Vault
from backup.transfer.retrieve import PIECE
from backup.transfer.retry import RetryLimit, RetryPolicy
from backup.transfer.succession import NOBODY, Successors


class CheckContext(Struct, frozen=True):
    """All that a check of a vault works with.

    `keys` may be empty: then frames are compared, not opened. No more than `round_bytes` are asked for and
    not yet read at a time, so that nothing expires unread. Archives are read in slices of `slice_size` bytes,
    which are fetched in pieces of `piece`. `may_ask_again` decides on what was asked for and is gone: whether
    it is asked for, and paid, once more.
    """

    inventory: Inventory
    vault: Vault
    clock: Clock
    progress: Progress
    secret: ChunkSecret
    keys: Sequence[RecoveryKey] = ()
    tier: Tier = Tier.STANDARD
    askers: int = 8
    round_bytes: int | None = None
    slice_size: int = 32 * MIB
    piece: int = PIECE
    chance: random.Random = field(default_factory=random.SystemRandom)
    retry_limit: RetryLimit = field(default_factory=RetryLimit)
    successors: Successors = NOBODY
    may_ask_again: Callable[[Transaction, Reading], bool] = lambda _tx, _one: True

    @property
    def patience(self) -> RetryPolicy:
        """For what is asked of the vault."""
        return self.retry_limit.patience(self.clock, self.progress)
