"""Amendments of a job in a vault with copies: what is forgotten, condemned and taken up again there.

The records are those of `amendments.py`; they change what is known of the copies, and nothing of the job's
own vault.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from msgspec.structs import replace

from backup.format import records
from backup.format.catalog import Record
from backup.inventory.content.archives import SOUND, ArchiveState
from backup.inventory.content.copied import TOLD, KeptThere, forgotten_there
from backup.inventory.records import amendments
from backup.inventory.records.runs import JobRow
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import changed, marks, raw_rows, row_of
from backup.inventory.store.times import micros
from backup.model import PackKind

_BEFORE: Final = (*SOUND, ArchiveState.DAMAGED)


def apply_in(tx: Transaction, vault: int, job: JobRow, amendment: Sequence[Record], now: datetime) -> None:
    """Make an amendment true that a job's catalog in that vault says: its own, or one with copies.

    Applied again it changes nothing.
    """
    if vault == job.vault:
        amendments.apply(tx, job.number, amendment, now=now)
        return
    for record in amendment:
        _HANDLERS[type(record)](tx, job.number, vault, record, now)
        if isinstance(record, (records.CondemnedRecord, records.TakenUpRecord)):
            packs = [pack for pack in record.packs if _is_catalog(tx, vault, pack)]
            amendments.apply(tx, job.number, [replace(record, packs=packs)], now=now)


def _is_catalog(tx: Transaction, vault: int, pack: bytes) -> bool:
    """Whether a pack is a catalog in that vault: these are archives of its own."""
    sql = """SELECT 1 FROM archives a JOIN domains d ON d.number = a.domain
             WHERE a.pack_id = ? AND d.vault = ? AND a.kind = ?"""
    return row_of(tx, sql, (pack, vault, PackKind.CATALOG)) is not None


def records_there(tx: Transaction, job: int, vault: int) -> list[Record]:
    """Words of catalogs there on forgotten snapshots, and on copies and catalogs that are condemned."""
    by_time: dict[int, list[int]] = {}
    for number, at in forgotten_there(tx, vault, job).items():
        by_time.setdefault(micros(at), []).append(number)
    sql = """SELECT a.pack_id, c.at FROM condemned_copies c
             JOIN copies k ON k.archive = c.archive AND k.vault = c.vault
             JOIN archives a ON a.number = c.archive
             WHERE c.job = ? AND c.vault = ? AND k.state IN (?, ?)
             UNION ALL
             SELECT a.pack_id, c.at FROM condemnations c JOIN archives a ON a.number = c.archive
             JOIN domains d ON d.number = a.domain
             WHERE c.job = ? AND d.vault = ? AND a.state IN (?, ?) AND a.kind = ? ORDER BY 2, 1"""
    condemned: dict[int, list[bytes]] = {}
    values = job, vault, ArchiveState.CONDEMNED, ArchiveState.DELETING
    for pack, at in raw_rows(tx, sql, (*values, *values, PackKind.CATALOG)):
        condemned.setdefault(at, []).append(pack)
    found: list[Record] = [records.ForgottenRecord(some, at) for at, some in sorted(by_time.items())]
    return [*found, *(records.CondemnedRecord(some, at) for at, some in sorted(condemned.items()))]


def _forgotten(
    tx: Transaction, job: int, vault: int, record: records.ForgottenRecord, _now: datetime
) -> None:
    sql = """UPDATE copied_snapshots SET state = ?, forgotten_at = ?
             WHERE job = ? AND vault = ? AND number = ? AND state = ?"""
    for number in record.snapshots:
        changed(tx, sql, (KeptThere.FORGOTTEN, record.at, job, vault, number, KeptThere.COPIED))


def _taken_back(
    tx: Transaction, job: int, vault: int, record: records.TakenBackRecord, _now: datetime
) -> None:
    sql = """UPDATE copied_snapshots SET state = ?, forgotten_at = NULL
             WHERE job = ? AND vault = ? AND number = ? AND state = ?"""
    for number in record.snapshots:
        changed(tx, sql, (KeptThere.COPIED, job, vault, number, KeptThere.FORGOTTEN))


def _dropped(tx: Transaction, job: int, vault: int, record: records.DroppedRecord, now: datetime) -> None:
    """Give copies up; what only this vault still had goes from the inventory, too."""
    alone: list[int] = []
    sql = "SELECT is_alone FROM copied_snapshots WHERE job = ? AND vault = ? AND number = ?"
    there = """UPDATE copied_snapshots SET state = ?, forgotten_at = NULL, is_alone = 0
               WHERE job = ? AND vault = ? AND number = ?"""
    for number in record.snapshots:
        where = (job, vault, number)
        alone += [number for (is_alone,) in raw_rows(tx, sql, where) if is_alone]
        changed(tx, there, (KeptThere.DROPPED, *where))
    if alone:
        amendments.apply(tx, job, [records.DroppedRecord(alone)], now=now)
        over = f"""DELETE FROM copied_snapshots WHERE job = ? AND vault = ? AND state = ?
                   AND number < (SELECT max(k.number) FROM copied_snapshots k WHERE k.job = ? AND k.vault = ?
                                 AND k.state IN ({marks(TOLD)}))
                   AND NOT EXISTS (SELECT 1 FROM snapshots s WHERE s.job = copied_snapshots.job
                                   AND s.number = copied_snapshots.number)"""
        changed(tx, over, (job, vault, KeptThere.DROPPED, job, vault, *TOLD))


def _condemned(
    tx: Transaction, job: int, vault: int, record: records.CondemnedRecord, _now: datetime
) -> None:
    """Condemn copies; one that the job's catalogs there condemned before keeps the earlier time."""
    sql = f"""UPDATE copies SET state = ?, since = ? WHERE vault = ? AND state IN ({marks(_BEFORE)})
              AND archive IN (SELECT number FROM archives WHERE pack_id = ?)"""
    said = """INSERT INTO condemned_copies (archive, vault, job, at)
               SELECT k.archive, k.vault, ?, ? FROM copies k JOIN archives a ON a.number = k.archive
               WHERE a.pack_id = ? AND k.vault = ? AND k.state = ?
               ON CONFLICT (archive, vault, job) DO UPDATE SET at = excluded.at
               WHERE excluded.at < condemned_copies.at"""
    for pack in record.packs:
        changed(tx, sql, (ArchiveState.CONDEMNED, record.at, vault, *_BEFORE, pack))
        changed(tx, said, (job, record.at, pack, vault, ArchiveState.CONDEMNED))


def _taken_up(tx: Transaction, job: int, vault: int, record: records.TakenUpRecord, now: datetime) -> None:
    """Rely on copies again once a later list has shown them; what another job condemned stays condemned."""
    said = """DELETE FROM condemned_copies WHERE job = ? AND vault = ?
              AND archive IN (SELECT number FROM archives WHERE pack_id = ?)"""
    sql = """UPDATE copies SET state = ?, since = ? WHERE vault = ? AND state = ?
             AND archive IN (SELECT number FROM archives WHERE pack_id = ?)
             AND NOT EXISTS (SELECT 1 FROM condemned_copies c
                             WHERE c.archive = copies.archive AND c.vault = copies.vault)"""
    for pack in record.packs:
        changed(tx, said, (job, vault, pack))
        states = ArchiveState.UNCONFIRMED, micros(now), vault, ArchiveState.CONDEMNED
        changed(tx, sql, (*states, pack))


_HANDLERS: Final[dict[type, Callable[[Transaction, int, int, Any, datetime], None]]] = {
    records.ForgottenRecord: _forgotten,
    records.TakenBackRecord: _taken_back,
    records.DroppedRecord: _dropped,
    records.CondemnedRecord: _condemned,
    records.TakenUpRecord: _taken_up,
}
