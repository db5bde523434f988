"""Queries and records of a prune for copies: what a vault holds of others' archives, and their deletion."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from backup.inventory.content.archives import REMAIN, SOUND, THERE, ArchiveState
from backup.inventory.content.copied import KeptThere
from backup.inventory.content.need import Kept
from backup.inventory.content.packed import largest_chunk
from backup.inventory.content.pruning import Condemnation, StoredArchive, spoiled_by, told_times
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import changed, marks, numerals, raw_rows
from backup.inventory.store.states import RestoreStage
from backup.inventory.store.times import micros, moment
from backup.model import ArchiveId, PackKind, VaultName

_STORED = f"""
SELECT a.number, a.pack_id, k.archive_id, a.kind, k.state, a.size, coalesce(k.stored_at, k.since), k.retry_at,
       k.refusal, l.created_at
FROM copies k JOIN archives a ON a.number = k.archive JOIN vaults v ON v.number = k.vault
LEFT JOIN listed_archives l ON l.listing = ? AND l.archive_id = k.archive_id
WHERE v.name = ? AND k.archive_id IS NOT NULL AND k.state IN ({marks(THERE)}) ORDER BY a.number"""
_NAMED_BY = """
SELECT DISTINCT n.archive, c.job FROM catalog_archives n JOIN catalogs c ON c.archive = n.catalog
JOIN archives t ON t.number = n.catalog JOIN domains d ON d.number = t.domain
JOIN vaults v ON v.number = d.vault WHERE v.name = ?"""
_CONDEMNED = """SELECT c.archive, c.job, c.at FROM condemned_copies c JOIN vaults v ON v.number = c.vault
                WHERE v.name = ?"""


def stored_copies(
    tx: Transaction, vault: VaultName, listing: int = 0, *, has_clock: bool = False
) -> list[StoredArchive]:
    """The copies that a vault holds, as `pruning.stored_archives` has its own archives."""
    rows = list(raw_rows(tx, _STORED, (listing, vault, *THERE)))
    if not rows:
        return []
    jobs: dict[int, set[int]] = {}
    for archive, job in raw_rows(tx, _NAMED_BY, (vault,)):
        jobs.setdefault(archive, set()).add(job)
    told = told_times(tx, vault, listing if has_clock else 0)
    condemned: dict[int, dict[int, Condemnation]] = {}
    for archive, job, at in raw_rows(tx, _CONDEMNED, (vault,)):
        told_at = told.get((job, at)) or at
        condemned.setdefault(archive, {})[job] = Condemnation(moment(at), moment(max(at, told_at)))
    return [
        StoredArchive(
            number,
            pack_id,
            ArchiveId(archive_id),
            PackKind(kind),
            ArchiveState(state),
            size,
            moment(stored_at),
            frozenset(jobs.get(number, ())),
            condemned.get(number, {}),
            None if retry_at is None else moment(retry_at),
            refusal or "",
            number not in jobs,
            None if listed is None else moment(listed),
            is_copy=True,
        )
        for number, pack_id, archive_id, kind, state, size, stored_at, retry_at, refusal, listed in rows
    ]


def newest_condemnation(tx: Transaction, vault: VaultName, *, before: datetime) -> datetime | None:
    """The newest condemnation of a copy before a time, whose grace period may be over; None for none."""
    sql = """SELECT max(c.at) FROM condemned_copies c JOIN vaults v ON v.number = c.vault
             JOIN copies k ON k.archive = c.archive AND k.vault = c.vault
             WHERE v.name = ? AND k.state = ? AND c.at <= ?"""
    ((newest,),) = raw_rows(tx, sql, (vault, ArchiveState.CONDEMNED, micros(before)))
    return None if newest is None else moment(newest)


def confirm(tx: Transaction, listing: int, before: datetime) -> None:
    """Mark copies as stored that a kept listing shows, and that were taken up again before that time."""
    sql = """UPDATE copies AS k SET state = ? WHERE k.state = ? AND k.since < ?
             AND k.vault = (SELECT vault FROM listings WHERE number = ?)
             AND EXISTS (SELECT 1 FROM listed_archives l JOIN archives a ON a.number = k.archive
                         WHERE l.listing = ? AND l.archive_id = k.archive_id AND l.size = a.size
                           AND (l.tree_hash IS NULL OR l.tree_hash = a.tree_hash))"""
    values = ArchiveState.STORED, ArchiveState.UNCONFIRMED, micros(before), listing, listing
    changed(tx, sql, values)


def mark(tx: Transaction, vault: int, numbers: Collection[int], state: ArchiveState, now: datetime) -> None:
    """Set the state of these copies, except of those whose deletion was decided."""
    going = ArchiveState.DELETING, ArchiveState.DELETED
    sql = "UPDATE copies SET state = ?, since = ? WHERE vault = ? AND archive = ? AND state NOT IN (?, ?)"
    for number in numbers:
        changed(tx, sql, (state, micros(now), vault, number, *going))


def decide_deletion(tx: Transaction, vault: int, numbers: Sequence[int], now: datetime) -> None:
    """Record, before the vault is asked, that these copies will be deleted: this cannot be undone."""
    sql = "UPDATE copies SET state = ?, since = ?, retry_at = NULL WHERE vault = ? AND archive = ?"
    for number in numbers:
        changed(tx, sql, (ArchiveState.DELETING, micros(now), vault, number))


def record_deleted(tx: Transaction, vault: int, numbers: Sequence[int], now: datetime) -> None:
    """Record that the vault has deleted these copies."""
    sql = """UPDATE copies SET state = ?, since = ?, retry_at = NULL, refusal = NULL
             WHERE vault = ? AND archive = ?"""
    for number in numbers:
        changed(tx, sql, (ArchiveState.DELETED, micros(now), vault, number))
        changed(tx, "DELETE FROM condemned_copies WHERE vault = ? AND archive = ?", (vault, number))


def record_refused(
    tx: Transaction,
    vault: int,
    refused: Sequence[tuple[int, datetime, str]],
    *,
    for_certain: Collection[int],
) -> None:
    """Record that the vault keeps these copies (number, when to ask again, why).

    Those that are kept `for_certain` are condemned as before.
    """
    for number, at, why in refused:
        where = vault, number
        sql = "UPDATE copies SET retry_at = ?, refusal = ? WHERE vault = ? AND archive = ?"
        changed(tx, sql, (micros(at), why, *where))
        if number in for_certain:
            sql = "UPDATE copies SET state = ? WHERE vault = ? AND archive = ? AND state = ?"
            changed(tx, sql, (ArchiveState.CONDEMNED, *where, ArchiveState.DELETING))


_UNKNOWN: Final = """k.since < ? AND k.state IN (?, ?) AND k.archive IN (
                       SELECT number FROM archives WHERE state = ? AND length(header) = 0)"""


def forget_deleted(tx: Transaction, before: datetime) -> None:
    """Delete the rows of copies that were deleted before then, of archives of which nothing is known now.

    Until then a late list may show them, and catalogs there name them for the ids of their chunks.
    """
    values = micros(before), ArchiveState.DELETED, ArchiveState.LOST, ArchiveState.DELETED
    said = f"""DELETE FROM condemned_copies WHERE (archive, vault) IN (
                 SELECT k.archive, k.vault FROM copies k WHERE {_UNKNOWN})"""
    changed(tx, said, values)
    changed(tx, f"DELETE FROM copies AS k WHERE {_UNKNOWN}", values)


# What is needed there.


def kept_copies(tx: Transaction, vault: int, *states: KeptThere) -> Kept:
    """The snapshots in these states in a vault, by job; also forgotten ones that an open restore reads."""
    sql = f"""SELECT k.job, k.number FROM copied_snapshots k
              WHERE k.vault = ? AND (k.state IN ({marks(states)}) OR k.state = ? AND EXISTS (
                SELECT 1 FROM snapshots s JOIN restores r ON r.snapshot = s.id
                WHERE s.job = k.job AND s.number = k.number AND r.state = ?))
              ORDER BY k.job, k.number"""
    found: dict[int, list[int]] = {}
    values = vault, *states, KeptThere.FORGOTTEN, RestoreStage.OPEN
    for job, number in raw_rows(tx, sql, values):
        found.setdefault(job, []).append(number)
    return found


def twins(tx: Transaction, archive: int) -> list[tuple[int, int]]:
    """The same chunks in other archives of an archive's domain: their numbers, and where they lie."""
    sql = """SELECT o.number, o.archive FROM chunks c JOIN archives a ON a.number = c.archive
             JOIN chunk_prefixes p ON p.prefix = c.prefix JOIN chunks o ON o.number = p.chunk
             JOIN archives b ON b.number = o.archive
             WHERE c.archive = ? AND o.id = c.id AND b.domain = a.domain AND o.archive <> c.archive"""
    return [(number, other) for number, other in raw_rows(tx, sql, (archive,))]


def condemned_with(tx: Transaction, vault: int, chunks: bytearray) -> dict[int, list[bytes]]:
    """The packs with condemned copies that alone hold one of these chunks, by each job that condemned them.

    A chunk whose own archive is not sound there may be in another one.
    """
    sql = f"SELECT archive FROM copies WHERE vault = ? AND state IN ({marks(SOUND)})"
    sound = {archive for (archive,) in raw_rows(tx, sql, (vault, *SOUND))}
    sql = """SELECT c.job, a.number, a.pack_id FROM condemned_copies c JOIN archives a ON a.number = c.archive
             JOIN copies k ON k.archive = c.archive AND k.vault = c.vault
             WHERE c.vault = ? AND k.state = ? ORDER BY c.job, a.number"""
    rows = list(raw_rows(tx, sql, (vault, ArchiveState.CONDEMNED)))
    held = {
        archive: any(
            chunks[number]
            for (number,) in raw_rows(tx, "SELECT number FROM chunks WHERE archive = ?", (archive,))
        )
        or any(chunks[number] and other not in sound for number, other in twins(tx, archive))
        for archive in {archive for _, archive, _ in rows}
    }
    found: dict[int, list[bytes]] = {}
    for job, archive, pack in rows:
        if held[archive]:
            found.setdefault(job, []).append(pack)
    return found


def beyond_recall(
    tx: Transaction, vault: int, going: Collection[int], *, also_read: bool = False
) -> dict[int, list[int]]:
    """Forgotten snapshots of copies, by job, that cannot come back: a chunk is in no copy that stays.

    `going` are archives whose copies count as deleted. A snapshot that an open restore reads is left until
    then, unless `also_read`.
    """
    read = {} if also_read else kept_copies(tx, vault)
    every = kept_copies(tx, vault, KeptThere.FORGOTTEN)
    forgotten = {job: sorted({*numbers}.difference(read.get(job, ()))) for job, numbers in every.items()}
    if not any(forgotten.values()):
        return {}
    stays = f"k.vault = ? AND k.state IN ({marks(REMAIN)}) AND k.archive NOT IN ({numerals(going) or '-1'})"
    sql = f"""SELECT c.number FROM copies g JOIN chunks c ON c.archive = g.archive
              JOIN archives a ON a.number = c.archive
              WHERE g.vault = ?
              AND NOT EXISTS (SELECT 1 FROM copies k WHERE k.archive = g.archive AND {stays})
              AND NOT EXISTS (
                SELECT 1 FROM chunk_prefixes p JOIN chunks o ON o.number = p.chunk
                JOIN archives b ON b.number = o.archive JOIN copies k ON k.archive = o.archive
                WHERE p.prefix = c.prefix AND o.id = c.id AND b.domain = a.domain AND {stays})"""
    gone = bytearray(largest_chunk(tx) + 1)
    for (number,) in raw_rows(tx, sql, (vault, vault, *REMAIN, vault, *REMAIN)):
        gone[number] = 1
    return spoiled_by(tx, forgotten, gone, also_live=True) if any(gone) else {}


def decision_marks(tx: Transaction) -> list[tuple[object, ...]]:
    """All that a prune decides by of copies: equal if unchanged."""
    sql = "SELECT job, vault, number, state FROM copied_snapshots ORDER BY job, vault, number"
    found: list[tuple[object, ...]] = [tuple(row) for row in raw_rows(tx, sql, ())]
    sql = "SELECT vault, state, count(*), sum(archive) FROM copies GROUP BY vault, state ORDER BY 1, 2"
    return [*found, *(tuple(row) for row in raw_rows(tx, sql, ()))]
