"""Queries for restores, their retrievals, and listings: requested now, ready hours later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, Select, delete, insert, select, update

from backup.inventory.bulk import insert_rows
from backup.inventory.database import Transaction
from backup.inventory.schema import (
    listed_archives,
    listings,
    micros,
    moment,
    restores,
    retrievals,
    vaults,
)
from backup.inventory.stages import ListingStage, RestoreStage, RetrievalStage
from backup.model import (
    MIB,
    ByteRange,
    Listing,
    ListingId,
    OnCapacity,
    RetrievalId,
    SnapshotId,
    Tier,
    VaultName,
)

_MAY_BE_IN_USE = timedelta(days=2)
"""So long a listing that a newer one follows is kept: what has begun to compare with it ends in that time."""


@dataclass(frozen=True, slots=True)
class Restore:
    """A restore in progress: `path` in the snapshot is restored below `target`."""

    number: int
    id: str
    snapshot: SnapshotId
    vault: VaultName
    path: bytes
    target: bytes
    tier: Tier
    state: RestoreStage
    created_at: datetime
    finished_at: datetime | None
    on_capacity: OnCapacity = OnCapacity.WAIT
    choice: bytes = b""  # as the restorer wrote it


@dataclass(frozen=True, slots=True)
class Retrieval:
    """A range of an archive, requested or to be requested.

    `asked` is the range of the vault's output, which may be that of another restore's retrieval; needed
    frames before `written_to` are on the target's disk; `until` is when the output may be deleted.
    """

    number: int
    archive: int
    extent: ByteRange
    tier: Tier
    token: str
    retrieval_id: RetrievalId | None
    state: RetrievalStage
    requested_at: datetime | None
    asked: ByteRange | None = None
    written_to: int = 0
    until: datetime | None = None

    @property
    def left(self) -> ByteRange:
        """The aligned range that is still to be fetched."""
        return ByteRange(max(self.extent.start, self.written_to // MIB * MIB), self.extent.end)


def open_restore(
    tx: Transaction,
    *,
    restore_id: str,
    snapshot: SnapshotId,
    vault: VaultName,
    path: bytes,
    target: bytes,
    tier: Tier,
    now: datetime,
    on_capacity: OnCapacity = OnCapacity.WAIT,
    choice: bytes = b"",
    confirmed: bytes = b"",
) -> int:
    """Record a restore before anything is requested; the restorer packs `choice` and `confirmed`."""
    vault_number = tx.execute(select(vaults.c.number).where(vaults.c.name == vault)).scalar_one()
    row = {"id": restore_id, "snapshot": snapshot, "vault": vault_number, "path": path, "target": target}
    query = (
        insert(restores)
        .values(**row, tier=tier, state=RestoreStage.OPEN, created_at=micros(now), on_capacity=on_capacity)
        .values(choice=choice, agreed=confirmed)
    )
    return int(tx.execute(query.returning(restores.c.number)).scalar_one())


def close_restore(tx: Transaction, number: int, state: RestoreStage, now: datetime) -> None:
    """Record that a restore is done or cancelled."""
    tx.execute(
        update(restores)
        .where(restores.c.number == number)
        .values(state=state, finished_at=micros(now), agreed=None)
    )


def list_restores(tx: Transaction, *, only_open: bool = False) -> list[Restore]:
    """Restores, newest first."""
    query = _restores().order_by(restores.c.number.desc())
    if only_open:
        query = query.where(restores.c.state == RestoreStage.OPEN)
    return [_restore(row) for row in tx.execute(query)]


def read_by_restores(tx: Transaction) -> set[SnapshotId]:
    """The snapshots that open restores read."""
    query = select(restores.c.snapshot).where(restores.c.state == RestoreStage.OPEN)
    return {SnapshotId(row.snapshot) for row in tx.execute(query)}


def find_restore(tx: Transaction, number: int) -> Restore:
    """The restore of that number."""
    return _restore(tx.execute(_restores().where(restores.c.number == number)).one())


def plan_retrievals(
    tx: Transaction, restore: int, wanted: Sequence[tuple[int, ByteRange, str]], tier: Tier
) -> None:
    """Record what will be requested: archive number, range, token."""
    columns = ["restore", "archive", "start", "end", "tier", "token", "state"]
    rows = [
        (restore, archive, extent.start, extent.end, tier.value, token, RetrievalStage.PLANNED)
        for archive, extent, token in wanted
    ]
    insert_rows(tx, retrievals, rows, columns)


def retrievals_of(tx: Transaction, restore: int) -> list[Retrieval]:
    """A restore's retrievals, in the order they were planned."""
    query = select(retrievals).where(retrievals.c.restore == restore).order_by(retrievals.c.number)
    return [retrieval_of(row) for row in tx.execute(query)]


def read_confirmed(tx: Transaction, restore: int) -> bytes:
    """The confirmed comparison of an open restore, as the restorer packed it; empty if there is none."""
    return tx.execute(select(restores.c.agreed).where(restores.c.number == restore)).scalar() or b""


def set_on_capacity(tx: Transaction, restore: int, choice: OnCapacity) -> None:
    """Record the user's new choice for a vault that cannot serve the tier."""
    tx.execute(update(restores).where(restores.c.number == restore).values(on_capacity=choice))


def open_listing(tx: Transaction, vault: int, token: str, now: datetime) -> int:
    """Record a listing before it is requested; returns its number."""
    row = {"vault": vault, "token": token, "state": ListingStage.PLANNED, "requested_at": micros(now)}
    return int(tx.execute(insert(listings).values(**row).returning(listings.c.number)).scalar_one())


def listing_requested(tx: Transaction, number: int, listing_id: ListingId) -> None:
    """Record that the vault has accepted the request."""
    tx.execute(
        update(listings)
        .where(listings.c.number == number)
        .values(listing_id=listing_id, state=ListingStage.WAITING)
    )


def drop_listing(tx: Transaction, number: int) -> None:
    """Delete a listing that the vault did not accept, or whose output is gone."""
    tx.execute(delete(listings).where(listings.c.number == number))


def forget_listing(tx: Transaction, number: int) -> None:
    """Delete a kept listing with its lines."""
    tx.execute(delete(listed_archives).where(listed_archives.c.listing == number))
    drop_listing(tx, number)


def newest_listing(tx: Transaction, vault: VaultName, *, state: ListingStage) -> Row[Any] | None:
    """The newest listing of a vault in that state: number, listing_id, requested_at, as_of."""
    query = select(listings).join(vaults).where(vaults.c.name == vault, listings.c.state == state)
    return tx.execute(query.order_by(listings.c.number.desc()).limit(1)).first()


def keep_listing(tx: Transaction, number: int, listing: Listing) -> None:
    """Keep a fetched listing: its output is gone within a day, and asking again costs hours."""
    rows = [
        (number, item.archive_id, item.description, item.size, item.tree_hash, micros(item.created_at))
        for item in listing.archives
    ]
    insert_rows(tx, listed_archives, rows)
    tx.execute(
        update(listings)
        .where(listings.c.number == number)
        .values(state=ListingStage.KEPT, as_of=micros(listing.as_of))
    )


def forget_older_listings(tx: Transaction, number: int) -> None:
    """Delete kept listings of the same vault that are older than this one, but for those that may be in use.

    A check or a prune that has begun may compare with the one before it, and with any of the last days.
    """
    own = tx.execute(
        select(listings.c.vault, listings.c.requested_at).where(listings.c.number == number)
    ).one()
    is_older = (listings.c.vault == own.vault) & (listings.c.number < number)
    query = select(listings.c.number, listings.c.requested_at).where(
        is_older, listings.c.state == ListingStage.KEPT
    )
    for row in tx.execute(query.order_by(listings.c.number.desc())).all()[1:]:
        if row.requested_at < own.requested_at - _MAY_BE_IN_USE // timedelta(microseconds=1):
            forget_listing(tx, row.number)


def kept_archives(tx: Transaction, listing: int) -> list[Row[Any]]:
    """The lines of a kept listing, by time: archive_id, description, size, tree_hash, created_at."""
    query = select(listed_archives).where(listed_archives.c.listing == listing)
    return list(tx.execute(query.order_by(listed_archives.c.created_at, listed_archives.c.archive_id)))


def _restores() -> Select[Any]:
    short = [column for column in restores.c if column.name not in {"agreed", "progress"}]
    return select(*short, vaults.c.name.label("vault_name")).join(vaults)


def _restore(row: Row[Any]) -> Restore:
    return Restore(
        row.number,
        row.id,
        SnapshotId(row.snapshot),
        VaultName(row.vault_name),
        row.path,
        row.target,
        Tier(row.tier),
        RestoreStage(row.state),
        moment(row.created_at),
        moment(row.finished_at) if row.finished_at else None,
        OnCapacity(row.on_capacity or OnCapacity.WAIT),
        row.choice or b"",
    )


def retrieval_of(row: Row[Any]) -> Retrieval:
    """A row of the table as a `Retrieval`."""
    asked = row.asked_from is not None and row.asked_to is not None
    return Retrieval(
        row.number,
        row.archive,
        ByteRange(row.start, row.end),
        Tier(row.tier),
        row.token,
        RetrievalId(row.retrieval_id) if row.retrieval_id else None,
        RetrievalStage(row.state),
        moment(row.requested_at) if row.requested_at else None,
        ByteRange(row.asked_from, row.asked_to) if asked else None,
        row.written_to or 0,
        moment(row.until) if row.until else None,
    )
