"""Amendments, changes of what was saved before: snapshots forgotten, unforgotten, marked; archives marked.

An amendment is a list of catalog records. It is written down with its run, stored in a catalog of the job,
and only then applied, in one transaction. A rebuild applies the same records by the same statements.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from backup.format import records
from backup.format.catalog import MARKING, Record, decode_record, encode_record
from backup.inventory.content.archives import SOUND, ArchiveState
from backup.inventory.content.snapshots import Snapshot, pack_tags
from backup.inventory.records.readings import bad_frames
from backup.inventory.records.runs import COMMITTING, RUNS, JobRow, Run, run_of
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import marks, raw_rows, run_many
from backup.inventory.store.driver import records as rows_of
from backup.inventory.store.states import RestoreStage
from backup.inventory.store.times import micros
from backup.kinds import Outcome, RunKind

_TOO_LARGE: Final = 2**63
_OF_DROPPED: Final = "SELECT id FROM snapshots WHERE job = ? AND number = ?"
_OLD_RESTORES: Final = f"""SELECT number FROM restores WHERE state <> '{RestoreStage.OPEN}'
                           AND snapshot IN ({_OF_DROPPED})"""
_DROP: Final = (
    f"DELETE FROM retrievals WHERE restore IN ({_OLD_RESTORES})",
    f"DELETE FROM restores WHERE number IN ({_OLD_RESTORES})",
    """DELETE FROM snapshots WHERE job = ? AND number = ?
       AND NOT EXISTS (SELECT 1 FROM restores r WHERE r.snapshot = snapshots.id)
       AND NOT EXISTS (SELECT 1 FROM copied_snapshots k
                       WHERE k.job = snapshots.job AND k.number = snapshots.number
                         AND k.state IN ('copied', 'forgotten'))""",
    "DELETE FROM copied_snapshots WHERE job = ? AND number = ? AND state = 'wanted'",
    "UPDATE copied_snapshots SET is_alone = 1 WHERE job = ? AND number = ? AND state <> 'dropped'",
)
_DROP_ENTRIES: Final = """DELETE FROM entries WHERE removed_in IS NOT NULL
   AND directory IN (SELECT number FROM directories WHERE job = ?)
   AND NOT EXISTS (SELECT 1 FROM snapshots s WHERE s.job = ?
                   AND s.number >= entries.added_in AND s.number < entries.removed_in)"""
_DROP_DUMPS: Final = (
    "DELETE FROM dumps WHERE NOT EXISTS (SELECT 1 FROM entries e WHERE e.number = dumps.entry)"
)


def encode(amendment: Sequence[Record]) -> bytes:
    """An amendment as bytes, to be kept with its run."""
    return msgspec.msgpack.encode([encode_record(record) for record in amendment])


def decode(data: bytes) -> list[Record]:
    """The inverse of `encode`; also one record alone, as 0.1.0 kept a snapshot. `FormatError` for others."""
    parts = msgspec.msgpack.decode(data)
    if isinstance(parts, list) and parts and isinstance(parts[0], int):
        return [decode_record(data)]
    return [decode_record(record) for record in msgspec.msgpack.decode(data, type=list[bytes])]


def needs_marks(amendment: Sequence[Record]) -> bool:
    """Whether a catalog with these records needs `CatalogFeature.MARKS`."""
    return any(isinstance(record, MARKING) for record in amendment)


def apply(
    tx: Transaction,
    job: int,
    amendment: Sequence[Record],
    *,
    now: datetime | None = None,
) -> None:
    """Make an amendment of a job true; applied again it changes nothing.

    An undeleted archive is unconfirmed until a list shows it that was made some time after `now`: a keeper
    may have deleted it, or be about to.
    """
    for record in amendment:
        if isinstance(record, records.TakenUpRecord):
            _taken_up(tx, job, record, now)
        else:
            _HANDLERS[type(record)](tx, job, record)


def record_of(snapshot: Snapshot) -> records.SnapshotRecord:
    """A snapshot without its marks, as a record."""
    return records.SnapshotRecord(
        snapshot.id,
        snapshot.number,
        micros(snapshot.started_at),
        micros(snapshot.finished_at),
        snapshot.host,
        list(snapshot.sources),
        snapshot.files,
        snapshot.bytes,
        [(problem.path, problem.kind.value, problem.detail) for problem in snapshot.problems],
        list(snapshot.counts),
        list(snapshot.roots),
    )


def marks_of(snapshot: Snapshot) -> records.MarksRecord | None:
    """A snapshot's tags and pin as a record; None if it has neither."""
    pin = snapshot.pin
    if pin is None and not snapshot.tags:
        return None
    until = micros(pin.until) if pin is not None and pin.until is not None else None
    return records.MarksRecord(
        snapshot.number, list(snapshot.tags), pin is not None, pin.note if pin else "", until
    )


def forgotten_of(snapshots: Sequence[Snapshot]) -> list[records.ForgottenRecord]:
    """The marks of those snapshots that are forgotten, one record for each time."""
    by_time: dict[int, list[int]] = {}
    for snapshot in snapshots:
        if snapshot.forgotten_at is not None:
            by_time.setdefault(micros(snapshot.forgotten_at), []).append(snapshot.number)
    return [records.ForgottenRecord(numbers, at) for at, numbers in sorted(by_time.items())]


def marked_archives(tx: Transaction, job: int, among: Collection[int]) -> list[Record]:
    """Which of these archives the job's catalogs condemned, with the time, and which are retired."""
    condemned: dict[int, list[bytes]] = {}
    sql = """SELECT a.number, a.pack_id, c.at FROM condemnations c JOIN archives a ON a.number = c.archive
             WHERE c.job = ? AND a.state IN (?, ?) ORDER BY a.number"""
    for number, pack, at in raw_rows(tx, sql, (job, ArchiveState.CONDEMNED, ArchiveState.DELETING)):
        if number in among:
            condemned.setdefault(at, []).append(pack)
    sql = "SELECT number, pack_id FROM archives WHERE state = ? ORDER BY number"
    retired = [pack for number, pack in raw_rows(tx, sql, (ArchiveState.RETIRED,)) if number in among]
    found: list[Record] = [records.CondemnedRecord(packs, at) for at, packs in sorted(condemned.items())]
    return [*found, records.RetiredRecord(retired)] if retired else found


def unfinished_commits(
    tx: Transaction, vault: int, *, before: int | None = None
) -> Sequence[tuple[Run, JobRow, bytes | None]]:
    """Runs that store catalogs in a vault, before run `before`, without a recorded end.

    Each with its prepared commit: of a backup the snapshot, of a copy the numbers of those that it copies, of
    any other run the amendment.
    """
    kinds = (*COMMITTING, RunKind.COPY)
    sql = f"""{RUNS} WHERE r.kind IN ({marks(kinds)}) AND r.outcome = ? AND coalesce(r.copied_to, j.vault) = ?
              AND r.number < ? ORDER BY r.number"""
    values = (*kinds, Outcome.RUNNING, vault, 2**63 - 1 if before is None else before)
    return [
        (run_of(row), JobRow(row["job"], row["job_id"], row["job_name"], row["vault"]), row["prepared"])
        for row in rows_of(tx, sql, values)
    ]


def _forgotten(tx: Transaction, job: int, record: records.ForgottenRecord) -> None:
    sql = "UPDATE snapshots SET forgotten_at = ? WHERE job = ? AND number = ? AND forgotten_at IS NULL"
    _many(tx, sql, [(record.at, job, number) for number in record.snapshots if number < _TOO_LARGE])


def _taken_back(tx: Transaction, job: int, record: records.TakenBackRecord) -> None:
    sql = "UPDATE snapshots SET forgotten_at = NULL WHERE job = ? AND number = ?"
    _many(tx, sql, [(job, number) for number in record.snapshots if number < _TOO_LARGE])


def _dropped(tx: Transaction, job: int, record: records.DroppedRecord) -> None:
    """Take snapshots away, with their restores that are over, and the closed entries that only they had.

    One that an open restore reads stays until the next prune; one that is copied stays for its copies.
    """
    rows = [(job, number) for number in record.snapshots if number < _TOO_LARGE]
    for sql in _DROP:
        _many(tx, sql, rows)
    if rows:
        _many(tx, _DROP_ENTRIES, [(job, job)])
        _many(tx, _DROP_DUMPS, [()])


def _marks(tx: Transaction, job: int, record: records.MarksRecord) -> None:
    note = record.note if record.pinned else None
    until = record.until if record.pinned else None
    sql = """UPDATE snapshots SET tags = ?, pin_note = ?, pin_until = ?
             WHERE job = ? AND number = ?"""
    if record.snapshot < _TOO_LARGE:
        _many(tx, sql, [(pack_tags(record.tags), note, until, job, record.snapshot)])


def _shrunk(tx: Transaction, job: int, record: records.ShrunkRecord) -> None:
    """Mark a snapshot in which sources lost nearly everything; or accept it, with all before it."""
    number = record.snapshot
    if record.accepted:
        sql = """UPDATE jobs SET usual_from = max(coalesce(usual_from, 0), ?) WHERE number = ?
                 AND EXISTS (SELECT 1 FROM snapshots s WHERE s.job = jobs.number AND s.number >= ?)"""
        rows: list[tuple[Any, ...]] = [(number, job, number)]
    else:
        sql = "UPDATE snapshots SET shrunk = ? WHERE job = ? AND number = ?"
        rows = [(msgspec.msgpack.encode(record.lost), job, number)]
    if number < _TOO_LARGE:
        _many(tx, sql, rows)


def _dump(tx: Transaction, job: int, record: records.DumpRecord) -> None:
    """Record what is known of a dump, if its entry is one of the job's."""
    sql = """INSERT OR REPLACE INTO dumps (entry, engine, database, version, charset, back, tables)
             SELECT e.number, ?, ?, ?, ?, ?, ? FROM entries e JOIN directories d ON d.number = e.directory
             WHERE e.number = ? AND d.job = ?"""
    known = record.engine, record.database, record.version, record.charset
    packed = msgspec.msgpack.encode(record.back), msgspec.msgpack.encode(record.tables)
    if record.entry < _TOO_LARGE:
        _many(tx, sql, [(*known, *packed, record.entry, job)])


def _condemned(tx: Transaction, job: int, record: records.CondemnedRecord) -> None:
    """Condemn archives; one that the job's catalogs condemned before keeps the earlier time."""
    before = (*SOUND, ArchiveState.DAMAGED)
    _mark(tx, record.packs, ArchiveState.CONDEMNED, *before)
    sql = f"""INSERT INTO condemnations (archive, job, at)
              SELECT number, ?, ? FROM archives
              WHERE pack_id = ? AND state IN ({_among(*before, ArchiveState.CONDEMNED)})
              ON CONFLICT (archive, job) DO UPDATE SET at = excluded.at
              WHERE excluded.at < condemnations.at"""
    _many(tx, sql, [(job, record.at, pack) for pack in record.packs])


def _taken_up(tx: Transaction, job: int, record: records.TakenUpRecord, now: datetime | None) -> None:
    """Rely on archives again; one that another job's catalogs condemned stays condemned.

    One in which a check found bad frames is damaged, as before.
    """
    sql = """DELETE FROM condemnations WHERE job = ?
             AND archive IN (SELECT number FROM archives WHERE pack_id = ?)"""
    _many(tx, sql, [(job, pack) for pack in record.packs])
    at = None if now is None else micros(now)
    sql = f"""UPDATE archives SET state = ?, taken_up_at = ? WHERE pack_id = ?
              AND state IN ({_among(ArchiveState.RETIRED, ArchiveState.CONDEMNED)})
              AND NOT EXISTS (SELECT 1 FROM condemnations WHERE archive = archives.number)"""
    _many(tx, sql, [(str(ArchiveState.UNCONFIRMED), at, pack) for pack in record.packs])
    sql = "UPDATE archives SET state = ? WHERE number = ? AND state = ?"
    unconfirmed = str(ArchiveState.UNCONFIRMED)
    _many(tx, sql, [(str(ArchiveState.DAMAGED), number, unconfirmed) for number in bad_frames(tx)])


def _retired(tx: Transaction, _job: int, record: records.RetiredRecord) -> None:
    _mark(tx, record.packs, ArchiveState.RETIRED, ArchiveState.STORED, ArchiveState.UNCONFIRMED)


def _mark(tx: Transaction, packs: Sequence[bytes], state: ArchiveState, *before: ArchiveState) -> None:
    """Set the state of archives, by pack id, that are in one of the states `before`."""
    sql = f"UPDATE archives SET state = ? WHERE pack_id = ? AND state IN ({_among(*before)})"
    _many(tx, sql, [(str(state), pack) for pack in packs])


def _among(*states: ArchiveState) -> str:
    return ", ".join(f"'{state}'" for state in states)


def _many(tx: Transaction, sql: str, rows: list[tuple[Any, ...]]) -> None:
    if rows:
        run_many(tx, sql, rows)


_HANDLERS: Final[dict[type, Callable[[Transaction, int, Any], None]]] = {
    records.ForgottenRecord: _forgotten,
    records.TakenBackRecord: _taken_back,
    records.DroppedRecord: _dropped,
    records.MarksRecord: _marks,
    records.ShrunkRecord: _shrunk,
    records.DumpRecord: _dump,
    records.CondemnedRecord: _condemned,
    records.RetiredRecord: _retired,
}
