"""The context of a restore, and the lock that one process at a time holds on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from decimal import Decimal
from functools import partial

from backup.errors import LockedError, NightvaultError, UsageError
from backup.format.keys import ChunkSecret
from backup.inventory.content import archives
from backup.inventory.content.archives import Archive
from backup.inventory.records import retrievals
from backup.inventory.records.restore_state import note_unsound, spend
from backup.inventory.records.retrievals import Restore, Retrieval
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.inventory.store.holders import RESTORE
from backup.inventory.store.states import RestoreStage
from backup.model import MIB, Buffer, ByteRange, Tier, VaultName
from backup.restorer.places import JoinedVaults
from backup.restorer.selection.column import MOST_IN_MEMORY, Scratch
from backup.transfer.retrievals.once import new_token
from backup.transfer.retrieve import PIECE
from backup.transfer.vault_run import VaultRun

CHECKPOINT = 256 * MIB
"""Twice as many bytes are fetched again at most after a power cut; to sync more often slows disks down."""


class RestoreContext(VaultRun, frozen=True, kw_only=True):
    """All inputs of a restore. `key_directory` holds pack keys while a restore waits.

    `numeric_owner`: owners by number, even where this machine knows their names. `askers` requests are sent
    at once; at most `round_bytes` are requested and not yet written at a time, so that nothing expires
    unread. When `stop` returns true, a delivery ends at a point where it can be continued. Nothing at or
    below the paths `spared` is ever removed. Downloads have pieces of `piece` bytes, and `openers` threads
    open their frames; besides this process `makers` others make small files. Written data is synced and
    recorded every `checkpoint` bytes, or so many bytes of small files' blocks. A column of the plan of more
    than `column` bytes is kept in a file without a name in `key_directory`. `may_ask` decides on each planned
    request whether it may be sent: it may have been paid once before. `unattended`: no user confirms the
    target, so only one with the restore's mark file is written. `joined` is the `vault` where copies of
    archives lie in others, too; `cost_of` tells what it costs to read so many ranges of so many bytes from
    one of them, None if that is not known.
    """

    secret: ChunkSecret
    key_directory: str
    numeric_owner: bool = False
    askers: int = 8
    round_bytes: int | None = None
    spared: tuple[str, ...] = ()
    piece: int = PIECE
    openers: int = 1
    makers: int = 1
    unattended: bool = False
    checkpoint: int = CHECKPOINT
    column: int = MOST_IN_MEMORY
    may_ask: Callable[[Retrieval], bool] = lambda _: True
    joined: JoinedVaults | None = None
    cost_of: Callable[[VaultName, int, int, Tier], Decimal | None] = lambda *_: Decimal(0)

    @property
    def scratch(self) -> Scratch:
        """The place for large columns of one plan."""
        return Scratch(self.key_directory, self.column)

    def archives(self, tx: Transaction, numbers: Iterable[int]) -> dict[int, Archive]:
        """Archives by number, each as it lies where it is read from."""
        found = archives.get_archives(tx, sorted(numbers), self.inventory.id)
        return found if self.joined is None else self.joined.places(tx, found)

    def may_read(self, restore: int, vault: VaultName, ranges: int, size: int, tier: Tier) -> bool:
        """Whether what is left of a restore's limit pays for what it had not planned; it is taken from it."""
        cost = self.cost_of(vault, ranges, size, tier)
        if cost == 0:
            return True
        with self.inventory.writing() as tx:
            return spend(tx, restore, cost)

    def elsewhere(self, restore: Restore, retrieval: Retrieval, extent: ByteRange) -> Iterator[Buffer]:
        """A range of an archive, damaged where it is read, from each other vault that answers at once."""
        if self.joined is None or retrieval.retrieval_id is None:
            return
        with self.inventory.reading() as tx:
            found = archives.get_archives(tx, [retrieval.archive], self.inventory.id)[retrieval.archive]
            asked = self.joined.vault_of(retrieval.retrieval_id)
            beside = self.joined.beside(tx, found, asked)
        for vault, archive_id in beside:
            there = self.joined.at(vault)
            request = partial(there.request_retrieval, archive_id, None, Tier.STANDARD, new_token())
            with suppress(NightvaultError):
                if self.may_read(restore.number, vault, 1, extent.length, Tier.STANDARD):
                    fetch = partial(there.fetch, self.patience.call(request), extent)
                    data = self.patience.call(fetch).data
                    self.note_unsound(restore.number, retrieval.archive, asked)
                    yield data

    def note_unsound(self, restore: int, archive: int, vault: VaultName) -> None:
        """Record that a vault did not give an archive back as it was stored."""
        if self.joined is not None and self.joined.unsound.get(archive) != vault:
            self.joined.unsound[archive] = vault
            with self.inventory.writing() as tx:
                note_unsound(tx, restore, archive, vault)


def lock_of(restore: Restore) -> str:
    """Return the name of the lock that a process holds on a restore."""
    return f"{RESTORE}{restore.id}"


@contextmanager
def alone_with(inventory: Inventory, restore: Restore) -> Iterator[None]:
    """Lock an open restore, so that nothing is requested or written twice.

    `LockedError` if another process works on it; `UsageError` if it is over. The lock file of a restore that
    is over is removed.
    """
    name = lock_of(restore)
    with ExitStack() as held:
        try:
            held.enter_context(inventory.locked(name))
        except LockedError as error:
            raise LockedError(f"restore {restore.id} is being carried on by another process") from error
        try:
            _check_open(inventory, restore)
            yield
        finally:
            if _state(inventory, restore) is not RestoreStage.OPEN:
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(inventory.lock_directory, f"{name}.lock"))


def _check_open(inventory: Inventory, restore: Restore) -> None:
    state = _state(inventory, restore)
    if state is not RestoreStage.OPEN:
        raise UsageError(f"restore {restore.id} is {state} already")


def _state(inventory: Inventory, restore: Restore) -> RestoreStage:
    with inventory.reading() as tx:
        return retrievals.find_restore(tx, restore.number).state
