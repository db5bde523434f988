"""Queries for restores, their retrievals, and listings: requested now, ready hours later."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from sqlite3 import Row
from typing import Final, NamedTuple

from msgspec import Struct

from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import (
    changed,
    insert_row,
    insert_tuples,
    marks,
    needed_record,
    number_of,
    raw_rows,
    records,
    row_of,
    stream,
    value_of,
)
from backup.inventory.store.states import ListingStage, RestoreStage, RetrievalStage
from backup.inventory.store.times import micros, moment
from backup.kinds import RunKind
from backup.model import (
    KIB,
    MIB,
    ArchiveId,
    ByteRange,
    Listing,
    ListingId,
    OnCapacity,
    RetrievalId,
    SnapshotId,
    Tier,
    VaultName,
)

_RESTORES: Final = """
SELECT r.number, r.id, r.snapshot, v.name AS vault_name, r.path, r.target, r.tier, r.state, r.created_at,
       r.finished_at, r.on_capacity, r.choice
FROM restores r JOIN vaults v ON v.number = r.vault"""
RESTORES_MEASURED: Final = 20
"""So many restores are looked at for how fast one is, the newest first."""
_SLOWEST, _FASTEST = 4 * KIB, 16 * KIB * MIB  # bytes a second of a link
_MAY_BE_IN_USE = timedelta(days=2)
"""So long a listing that a newer one follows is kept: what has begun to compare with it ends in that time."""


_MARK: Final = "@"


def id_at(vault: VaultName, its_id: str) -> str:
    """The id of an archive or retrieval that names its vault: a restore may read from several."""
    return f"{_MARK}{vault}{_MARK}{its_id}"


def split_id(words: str | None) -> tuple[VaultName | None, str]:
    """The vault that an id names, and the id there; None if it names none."""
    name, mark, its_id = (words or "").removeprefix(_MARK).partition(_MARK)
    return (VaultName(name), its_id) if words and words.startswith(_MARK) and mark else (None, words or "")


class Restore(Struct, frozen=True):
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


class Retrieval(Struct, frozen=True):
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


class ListingRow(NamedTuple):
    """A listing: requested, waited for or kept; times in microseconds."""

    number: int
    token: str
    listing_id: str | None
    state: str
    requested_at: int
    as_of: int | None

    @property
    def made_at(self) -> datetime:
        """The moment that a kept one shows."""
        return moment(self.as_of or 0)


class ListedRow(NamedTuple):
    """A line of a kept listing."""

    archive_id: str
    description: str
    size: int
    tree_hash: bytes | None
    created_at: int


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
    return insert_row(
        tx,
        "restores",
        id=restore_id,
        snapshot=snapshot,
        vault=number_of(tx, "SELECT number FROM vaults WHERE name = ?", (vault,)),
        path=path,
        target=target,
        tier=tier,
        state=RestoreStage.OPEN,
        created_at=micros(now),
        on_capacity=on_capacity,
        choice=choice,
        agreed=confirmed,
    )


def close_restore(tx: Transaction, number: int, state: RestoreStage, now: datetime) -> None:
    """Record that a restore is done or cancelled."""
    sql = "UPDATE restores SET state = ?, finished_at = ?, agreed = NULL WHERE number = ?"
    changed(tx, sql, (state, micros(now), number))


def list_restores(tx: Transaction, *, only_open: bool = False) -> list[Restore]:
    """Restores, newest first."""
    of_state, values = (" WHERE r.state = ?", (RestoreStage.OPEN,)) if only_open else ("", ())
    return [_restore(row) for row in records(tx, f"{_RESTORES}{of_state} ORDER BY r.number DESC", values)]


def read_by_restores(tx: Transaction) -> set[SnapshotId]:
    """The snapshots that open restores read."""
    rows = raw_rows(tx, "SELECT snapshot FROM restores WHERE state = ?", (RestoreStage.OPEN,))
    return {SnapshotId(snapshot) for (snapshot,) in rows}


def find_restore(tx: Transaction, number: int) -> Restore:
    """The restore of that number."""
    return _restore(needed_record(tx, f"{_RESTORES} WHERE r.number = ?", (number,)))


def plan_retrievals(
    tx: Transaction, restore: int, wanted: Sequence[tuple[int, ByteRange, str]], tier: Tier
) -> None:
    """Record what will be requested: archive number, range, token."""
    columns = ["restore", "archive", "start", "end", "tier", "token", "state"]
    rows = [
        (restore, archive, extent.start, extent.end, tier.value, token, RetrievalStage.PLANNED)
        for archive, extent, token in wanted
    ]
    insert_tuples(tx, "retrievals", columns, rows)


def retrievals_of(tx: Transaction, restore: int) -> list[Retrieval]:
    """A restore's retrievals, in the order they were planned."""
    sql = "SELECT * FROM retrievals WHERE restore = ? ORDER BY number"
    return [retrieval_of(row) for row in records(tx, sql, (restore,))]


def read_confirmed(tx: Transaction, restore: int) -> bytes:
    """The confirmed comparison of an open restore, as the restorer packed it; empty if there is none."""
    return value_of(tx, "SELECT agreed FROM restores WHERE number = ?", (restore,)) or b""


def set_on_capacity(tx: Transaction, restore: int, choice: OnCapacity) -> None:
    """Record the user's new choice for a vault that cannot serve the tier."""
    changed(tx, "UPDATE restores SET on_capacity = ? WHERE number = ?", (choice, restore))


def open_listing(tx: Transaction, vault: int, token: str, now: datetime) -> int:
    """Record a listing before it is requested; returns its number."""
    row = {"vault": vault, "token": token, "state": ListingStage.PLANNED, "requested_at": micros(now)}
    return insert_row(tx, "listings", **row)


def listing_requested(tx: Transaction, number: int, listing_id: ListingId) -> None:
    """Record that the vault has accepted the request, unless another process has kept the list meanwhile."""
    sql = "UPDATE listings SET listing_id = ?, state = ? WHERE number = ? AND state <> ?"
    changed(tx, sql, (listing_id, ListingStage.WAITING, number, ListingStage.KEPT))


def drop_listing(tx: Transaction, number: int) -> None:
    """Delete a listing that the vault did not accept, or whose output is gone."""
    changed(tx, "DELETE FROM listings WHERE number = ?", (number,))


def forget_listing(tx: Transaction, number: int) -> None:
    """Delete a kept listing with its lines."""
    changed(tx, "DELETE FROM listed_archives WHERE listing = ?", (number,))
    drop_listing(tx, number)


def newest_listing(tx: Transaction, vault: VaultName, *, state: ListingStage) -> ListingRow | None:
    """The newest listing of a vault in that state."""
    sql = """SELECT l.number, l.token, l.listing_id, l.state, l.requested_at, l.as_of
             FROM listings l JOIN vaults v ON v.number = l.vault
             WHERE v.name = ? AND l.state = ? ORDER BY l.number DESC LIMIT 1"""
    row = row_of(tx, sql, (vault, state))
    return None if row is None else ListingRow._make(row)


def keep_listing(tx: Transaction, number: int, listing: Listing) -> bool:
    """Keep a fetched listing: its output is gone within a day, and asking again costs hours.

    One that another process has kept, or dropped, meanwhile stays as it is; returns whether this one is kept.
    """
    state = value_of(tx, "SELECT state FROM listings WHERE number = ?", (number,))
    if state in {None, ListingStage.KEPT}:
        return False
    changed(tx, "DELETE FROM listed_archives WHERE listing = ?", (number,))
    rows = [
        (
            *(number, archive.archive_id, archive.description, archive.size, archive.tree_hash),
            *(micros(archive.created_at), archive.version or None),
        )
        for archive in listing.archives
    ]
    columns = ["listing", "archive_id", "description", "size", "tree_hash", "created_at", "version"]
    insert_tuples(tx, "listed_archives", columns, rows)
    sql = "UPDATE listings SET state = ?, as_of = ? WHERE number = ?"
    changed(tx, sql, (ListingStage.KEPT, micros(listing.as_of), number))
    return True


def forget_older_listings(tx: Transaction, number: int) -> None:
    """Delete kept listings of the same vault that are older than this one, but for those that may be in use.

    A check or a prune that has begun may compare with the one before it, and with any of the last days.
    """
    own = needed_record(tx, "SELECT vault, requested_at FROM listings WHERE number = ?", (number,))
    sql = """SELECT number, requested_at FROM listings WHERE vault = ? AND number < ? AND state = ?
             ORDER BY number DESC"""
    for older, requested_at in list(raw_rows(tx, sql, (own["vault"], number, ListingStage.KEPT)))[1:]:
        if requested_at < own["requested_at"] - _MAY_BE_IN_USE // timedelta(microseconds=1):
            forget_listing(tx, older)


def kept_archives(tx: Transaction, listing: int) -> list[ListedRow]:
    """The lines of a kept listing, by time."""
    sql = """SELECT archive_id, description, size, tree_hash, created_at FROM listed_archives
             WHERE listing = ? ORDER BY created_at, archive_id"""
    return list(stream(tx, sql, (listing,), ListedRow))


def listed_versions(
    tx: Transaction, listing: int, archive_ids: Collection[ArchiveId]
) -> dict[ArchiveId, str]:
    """The versions of these archives in a kept listing, of those that it shows with one."""
    sql = f"""SELECT archive_id, version FROM listed_archives
              WHERE listing = ? AND version IS NOT NULL AND archive_id IN ({marks(archive_ids)})"""
    return {ArchiveId(key): version for key, version in raw_rows(tx, sql, (listing, *archive_ids))}


def _restore(row: Row) -> Restore:
    return Restore(
        row["number"],
        row["id"],
        SnapshotId(row["snapshot"]),
        VaultName(row["vault_name"]),
        row["path"],
        row["target"],
        Tier(row["tier"]),
        RestoreStage(row["state"]),
        moment(row["created_at"]),
        moment(row["finished_at"]) if row["finished_at"] else None,
        OnCapacity(row["on_capacity"] or OnCapacity.WAIT),
        row["choice"] or b"",
    )


def retrieval_of(row: Row) -> Retrieval:
    """A row of the table as a `Retrieval`."""
    asked = row["asked_from"] is not None and row["asked_to"] is not None
    return Retrieval(
        row["number"],
        row["archive"],
        ByteRange(row["start"], row["end"]),
        Tier(row["tier"]),
        row["token"],
        RetrievalId(row["retrieval_id"]) if row["retrieval_id"] else None,
        RetrievalStage(row["state"]),
        moment(row["requested_at"]) if row["requested_at"] else None,
        ByteRange(row["asked_from"], row["asked_to"]) if asked else None,
        row["written_to"] or 0,
        moment(row["until"]) if row["until"] else None,
    )


def restore_speed(tx: Transaction, *, least: int) -> float | None:
    """Bytes a second of the newest restore that fetched `least` bytes; None if there was none.

    Impossible values are ignored: the clock was set during the run.
    """
    sql = """SELECT report FROM runs WHERE kind = ? AND report IS NOT NULL
             ORDER BY number DESC LIMIT ?"""
    for (told,) in raw_rows(tx, sql, (RunKind.RESTORE, RESTORES_MEASURED)):
        report = json.loads(told)
        if report.get("fetched", 0) >= least and report.get("seconds", 0) > 0:
            speed = float(report["fetched"] / report["seconds"])
            if _SLOWEST <= speed <= _FASTEST:
                return speed
    return None
