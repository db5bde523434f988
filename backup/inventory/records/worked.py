"""The times at which a server last stored into a vault and read from it, as proof of its rights."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import raw_rows
from backup.inventory.store.times import micros, moment
from backup.model import VaultName

_OF = "JOIN domains d ON d.number = a.domain JOIN vaults v ON v.number = d.vault"

# What a rebuild found there was stored by another inventory, and has no run.
_STORED = f"""SELECT v.name, max(a.stored_at) FROM archives a {_OF}
WHERE a.run IS NOT NULL AND a.archive_id IS NOT NULL AND a.stored_at <= ? GROUP BY v.name"""

_RETRIEVED = f"""SELECT v.name, max(q.requested_at) FROM (
    SELECT archive, requested_at FROM retrievals WHERE retrieval_id IS NOT NULL
    UNION ALL
    SELECT archive, requested_at FROM readings WHERE retrieval_id IS NOT NULL
) AS q JOIN archives a ON a.number = q.archive {_OF}
WHERE q.requested_at <= ? GROUP BY v.name"""


def last_stored(tx: Transaction, now: datetime) -> Mapping[VaultName, datetime]:
    """The last time until now at which each vault accepted an archive of a run of this inventory."""
    return _dates(tx, _STORED, now)


def last_retrieved(tx: Transaction, now: datetime) -> Mapping[VaultName, datetime]:
    """The last time until now at which each vault accepted a retrieval request."""
    return _dates(tx, _RETRIEVED, now)


def _dates(tx: Transaction, sql: str, now: datetime) -> Mapping[VaultName, datetime]:
    return {VaultName(vault): moment(at) for vault, at in raw_rows(tx, sql, (micros(now),)) if at}
