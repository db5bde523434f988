"""Estimates how much of the vaults a `forget` will free, and from which day on without an extra fee."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from backup.app.money.prices import price_of
from backup.config import Config
from backup.inventory.content import need
from backup.inventory.content.need import ArchiveUse
from backup.inventory.store.connections import Transaction
from backup.model import SnapshotId, VaultName


class Freed(Struct, frozen=True):
    """Archives of a vault that only these snapshots need: an estimate, for later backups may need them again.

    `free_now` bytes of them can be deleted today without paying for the rest of the minimum duration, all of
    them from `last` on; None if the vault's minimum is not known.
    """

    vault: VaultName
    archives: int
    bytes: int
    free_now: int | None
    last: datetime | None


def freed_by(
    config: Config, tx: Transaction, goes: Collection[SnapshotId], vaults: Sequence[VaultName], now: datetime
) -> list[Freed]:
    """Estimate, for each vault, what can be deleted once these snapshots are forgotten, and not before.

    It reads the chunk numbers of all entries twice: seconds for a million files.
    """
    if not goes:
        return []
    dead_before = {use.number for use in _dead(tx, ())}
    found = [use for use in _dead(tx, goes) if use.number not in dead_before]
    return [_freed(config, vault, [use for use in found if use.vault == vault], now) for vault in vaults]


def _dead(tx: Transaction, goes: Collection[SnapshotId]) -> Iterator[ArchiveUse]:
    needed = need.needed_chunks(tx, need.kept_snapshots(tx, without=goes))
    return (use for use in need.archive_uses(tx, needed) if use.is_dead)


def _freed(config: Config, vault: VaultName, found: Sequence[ArchiveUse], now: datetime) -> Freed:
    size, minimum = sum(use.size for use in found), _minimum_days(config, vault)
    if minimum is None:
        return Freed(vault, len(found), size, None, None)
    ends = [(use.stored_at + timedelta(days=minimum), use.size) for use in found]
    free_now = sum(size for end, size in ends if end <= now)
    return Freed(vault, len(found), size, free_now, max([now, *(end for end, _ in ends)]))


def _minimum_days(config: Config, vault: VaultName) -> int | None:
    """The minimum duration of the vault; None if the price table does not know it."""
    settings = config.vault(vault)
    if settings.kind == "directory":
        return 0
    price = price_of(config, settings)
    return None if price is None else price.minimum_days
