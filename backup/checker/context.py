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
    """Everything that a check of a vault uses.

    `keys` may be empty: then frames are compared, not opened. At most `round_bytes` are requested and not yet
    read at any time, so that nothing expires unread. Archives are read in slices of `slice_size` bytes, which
    are fetched in pieces of `piece`. `may_ask_again` decides whether a retrieval whose output has expired is
    requested, and paid for, again.
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
        """The retry policy for requests to the vault."""
        return self.retry_limit.patience(self.clock, self.progress)
