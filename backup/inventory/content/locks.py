"""Queries for locks: what has to stay locked in a vault, and the ends of locks as it has answered them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from backup.inventory.content.archives import THERE, ArchiveState, get_or_create_vault
from backup.inventory.content.need import Kept, kept_snapshots
from backup.inventory.content.pruning import needed_catalogs
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import changed, insert_tuples, marks, raw_rows
from backup.inventory.store.times import micros, moment
from backup.model import ArchiveId, VaultName

Needed = Callable[[Transaction, VaultName, Kept], set[int]]
"""Returns the numbers of the archives of a vault that snapshots need (`pruner/needed.py`)."""


def needed_keys(tx: Transaction, vault: VaultName, since: datetime, needed: Needed) -> set[ArchiveId]:
    """The ids of a vault's archives that any state since a time needed, whatever was forgotten meanwhile.

    Each such state was one of the snapshots that are kept, and of those forgotten since then; the catalogs
    that told it are those since the second last full one of that time. Of copies those are needed that were
    not condemned before.
    """
    kept = kept_snapshots(tx, forgotten_since=since)
    numbers = needed(tx, vault, kept) | needed_catalogs(tx, since=since)
    sql = f"""SELECT a.number, a.archive_id FROM archives a JOIN domains d ON d.number = a.domain
              JOIN vaults v ON v.number = d.vault
              WHERE v.name = ? AND a.archive_id IS NOT NULL AND a.state IN ({marks(THERE)})"""
    found = {ArchiveId(key) for number, key in raw_rows(tx, sql, (vault, *THERE)) if number in numbers}
    copied = """SELECT k.archive_id FROM copies k JOIN vaults v ON v.number = k.vault
                WHERE v.name = ? AND k.archive_id IS NOT NULL
                AND (k.state = ? OR k.state = ? AND k.since > ?)"""
    values = (vault, ArchiveState.STORED, ArchiveState.CONDEMNED, micros(since))
    return found | {ArchiveId(key) for (key,) in raw_rows(tx, copied, values)}


def lock_ends(tx: Transaction, vault: VaultName) -> dict[ArchiveId, datetime]:
    """The ends of locks that a vault has answered, by the objects' ids."""
    sql = "SELECT l.key, l.until FROM locks l JOIN vaults v ON v.number = l.vault WHERE v.name = ?"
    return {ArchiveId(key): moment(until) for key, until in raw_rows(tx, sql, (vault,))}


def record_locks(tx: Transaction, vault: VaultName, ends: Mapping[ArchiveId, datetime]) -> None:
    """Record ends of locks that a vault has answered."""
    number = get_or_create_vault(tx, vault)
    forget_locks(tx, vault, ends)
    rows = [(number, key, micros(until)) for key, until in ends.items()]
    insert_tuples(tx, "locks", ("vault", "key", "until"), rows)


def forget_locks(tx: Transaction, vault: VaultName, keys: Iterable[ArchiveId]) -> None:
    """Remove what was recorded of objects that are gone."""
    sql = "DELETE FROM locks WHERE vault = (SELECT number FROM vaults WHERE name = ?) AND key = ?"
    for key in keys:
        changed(tx, sql, (vault, key))
