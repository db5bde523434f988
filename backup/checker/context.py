"""The context of a check: what is read, how, and with which keys."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from msgspec import field

from backup.format.keys import ChunkSecret, RecoveryKey
from backup.inventory.records.readings import Reading
from backup.inventory.store.connections import Transaction
from backup.model import MIB, Tier
from backup.transfer.retrieve import PIECE
from backup.transfer.succession import NOBODY, Successors
from backup.transfer.vault_run import VaultRun


class CheckContext(VaultRun, frozen=True, kw_only=True):
    """Everything that a check of a vault uses.

    `keys` may be empty: then frames are compared, not opened. At most `round_bytes` are requested and not yet
    read at any time, so that nothing expires unread. Archives are read in slices of `slice_size` bytes, which
    are fetched in pieces of `piece`. `may_ask_again` decides whether a retrieval whose output has expired is
    requested, and paid for, again.
    """

    secret: ChunkSecret
    keys: Sequence[RecoveryKey] = ()
    tier: Tier = Tier.STANDARD
    askers: int = 8
    round_bytes: int | None = None
    slice_size: int = 32 * MIB
    piece: int = PIECE
    chance: random.Random = field(default_factory=random.SystemRandom)
    successors: Successors = NOBODY
    may_ask_again: Callable[[Transaction, Reading], bool] = lambda _tx, _one: True
