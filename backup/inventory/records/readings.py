"""Queries for readings: pieces of archives that checks read back, requested now, read hours later.

And until when snapshots restore whatever an intruder does, as renewals of locks have found out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from typing import Final

import msgspec
from msgspec import Struct

from backup.inventory.content.archives import IN_VAULTS, SOUND, get_or_create_vault
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import (
    changed,
    insert_row,
    insert_tuples,
    marks,
    raw_rows,
    records,
    value_of,
)
from backup.inventory.store.states import ReadingStage, RetrievalStage
from backup.inventory.store.times import micros, moment
from backup.kinds import Outcome, RunKind
from backup.model import ByteRange, JobName, RetrievalId, SnapshotId, Tier, VaultName

_WITHIN: Final = """archive = ? AND copied_to IS ? AND start >= ? AND "end" <= ? AND state = ?"""
_READ_IN: Final = """readings r JOIN archives a ON a.number = r.archive JOIN domains d ON d.number = a.domain
JOIN vaults v ON v.number = coalesce(r.copied_to, d.vault)"""


class Grade(IntEnum):
    """How a piece of an archive was proven; the first two numbers stand in catalogs' records, too."""

    READ_BACK = 1
    OPENED = 2  # with the recovery key, and all that lies in it was as it was saved
    LOADED = 3  # of a drill alone: opened, and the dumps of databases in it were loaded


class Result(msgspec.Struct):
    """The result of a reading; `note` says what is wrong besides `bad` frames, or why nothing was read."""

    frames: int = 0
    size: int = 0
    is_whole: bool = False
    opened: int = 0
    chunks: int = 0
    bad: list[int] = []
    note: str = ""
    is_missing: bool = False
    is_unread: bool = False

    @property
    def is_damaged(self) -> bool:
        """Whether the archive differs from what was stored."""
        return bool(self.bad or self.note) and not (self.is_missing or self.is_unread)


class Reading(Struct, frozen=True):
    """A piece of an archive: frames that begin in `start` to `end`."""

    number: int
    archive: int
    start: int
    end: int
    asked: ByteRange
    tier: Tier
    token: str
    retrieval_id: RetrievalId | None
    state: ReadingStage
    requested_at: datetime | None
    result: Result | None
    copied_to: int | None = None  # the number of the other vault whose copy is read


def plan_readings(
    tx: Transaction,
    run: int,
    vault: VaultName,
    wanted: Sequence[tuple[int, int, int, ByteRange, str]],
    tier: Tier,
) -> None:
    """Record what will be requested of a vault: archive, start, end, range to request, token.

    What is not the vault's own archive is a copy there.
    """
    columns = ["run", "archive", "start", "end", "asked_from", "asked_to", "token", "tier", "state"]
    rows = [
        (run, archive, start, end, asked.start, asked.end, token, tier.value, ReadingStage.PLANNED)
        for archive, start, end, asked, token in wanted
    ]
    insert_tuples(tx, "readings", columns, rows)
    sql = """UPDATE readings SET copied_to = ? WHERE run = ? AND EXISTS (
               SELECT 1 FROM archives a JOIN domains d ON d.number = a.domain
               WHERE a.number = readings.archive AND d.vault <> ?)"""
    number = get_or_create_vault(tx, vault)
    changed(tx, sql, (number, run, number))


def readings_of(tx: Transaction, run: int) -> list[Reading]:
    """A check's readings, in the order they were planned."""
    rows = records(tx, "SELECT * FROM readings WHERE run = ? ORDER BY number", (run,))
    return [
        Reading(
            row["number"],
            row["archive"],
            row["start"],
            row["end"],
            ByteRange(row["asked_from"], row["asked_to"]),
            Tier(row["tier"]),
            row["token"],
            RetrievalId(row["retrieval_id"]) if row["retrieval_id"] else None,
            ReadingStage(row["state"]),
            moment(row["requested_at"]) if row["requested_at"] else None,
            msgspec.msgpack.decode(row["result"], type=Result) if row["result"] else None,
            row["copied_to"],
        )
        for row in rows
    ]


def open_reading_run(tx: Transaction, vault: VaultName) -> int | None:
    """The unfinished check of that vault that reads, if there is one; no drill."""
    sql = f"""SELECT max(r.run) FROM {_READ_IN} JOIN runs u ON u.number = r.run
              WHERE v.name = ? AND u.kind = ? AND u.outcome = ?"""
    found = value_of(tx, sql, (vault, RunKind.CHECK, Outcome.RUNNING))
    return int(found) if found is not None else None


def asked(tx: Transaction, number: int, retrieval_id: RetrievalId, now: datetime) -> None:
    """Record that the vault has accepted the request."""
    sql = "UPDATE readings SET retrieval_id = ?, state = ?, requested_at = ? WHERE number = ?"
    changed(tx, sql, (retrieval_id, ReadingStage.WAITING, micros(now), number))


def planned_anew(tx: Transaction, number: int, token: str, failed: Result | None = None) -> None:
    """Plan a reading again, as its output is gone or was never made; keep `failed` if the vault failed."""
    sql = """UPDATE readings SET retrieval_id = NULL, state = ?, requested_at = NULL, token = ?,
             result = coalesce(?, result) WHERE number = ?"""
    result = None if failed is None else msgspec.msgpack.encode(failed)
    changed(tx, sql, (ReadingStage.PLANNED, token, result, number))


def was_read(tx: Transaction, reading: Reading, result: Result, now: datetime) -> None:
    """Record a reading's result; an older reading of the same bytes is deleted.

    One that proves more stays, unless the bytes turned out to be damaged since.
    """
    sql = "UPDATE readings SET state = ?, result = ? WHERE number = ?"
    changed(tx, sql, (ReadingStage.READ, msgspec.msgpack.encode(result), reading.number))
    if result.is_missing:
        changed(tx, "UPDATE readings SET requested_at = ? WHERE number = ?", (micros(now), reading.number))
    if result.is_missing or result.is_unread:
        return
    proven = None if result.is_damaged else Grade.READ_BACK.value
    sql = "UPDATE readings SET read_at = ?, proven = ? WHERE number = ?"
    changed(tx, sql, (micros(now), proven, reading.number))
    most = Grade.OPENED if result.is_damaged else Grade.READ_BACK
    older = f"{_WITHIN} AND number < ? AND coalesce(proven, 0) <= ?"
    within = (reading.archive, reading.copied_to, reading.start, reading.end, ReadingStage.READ)
    changed(tx, f"DELETE FROM readings WHERE {older}", (*within, reading.number, most))


def record_opened(
    tx: Transaction,
    run: int,
    archive: int,
    pieces: Sequence[ByteRange],
    tier: Tier,
    now: datetime,
    copied_to: int | None = None,
) -> None:
    """Record pieces that were opened with the recovery key; neighbours are made one.

    `copied_to`: of the copy in this other vault, by its number.
    """
    joined: list[ByteRange] = []
    for span in sorted(pieces, key=lambda piece: piece.start):
        if joined and joined[-1].end == span.start:
            joined[-1] = ByteRange(joined[-1].start, span.end)
        else:
            joined.append(span)
    result = msgspec.msgpack.encode(Result(opened=1))
    for span in joined:
        within = (archive, copied_to, span.start, span.end, ReadingStage.READ)
        changed(tx, f"DELETE FROM readings WHERE {_WITHIN}", within)
        insert_row(
            tx,
            "readings",
            run=run,
            archive=archive,
            start=span.start,
            end=span.end,
            asked_from=span.start,
            asked_to=span.end,
            tier=tier.value,
            token=f"opened {run} {archive} {span.start}",
            state=ReadingStage.READ,
            read_at=micros(now),
            result=result,
            proven=Grade.OPENED.value,
            copied_to=copied_to,
        )


def forget_unread(tx: Transaction, run: int) -> None:
    """Delete the unread pieces of a check that was given up."""
    changed(tx, "DELETE FROM readings WHERE run = ? AND state != ?", (run, ReadingStage.READ))


def read_before(
    tx: Transaction, vault: VaultName, now: datetime
) -> dict[int, list[tuple[int, int, datetime]]]:
    """Earlier readings by archive: start, end and time; those dated after `now` are ignored."""
    sql = f"""SELECT r.archive, r.start, r."end", r.read_at
              FROM {_READ_IN} WHERE v.name = ? AND r.read_at <= ?"""
    found: dict[int, list[tuple[int, int, datetime]]] = {}
    for archive, start, end, read_at in raw_rows(tx, sql, (vault, micros(now))):
        found.setdefault(archive, []).append((start, end, moment(read_at)))
    return found


def proven_before(
    tx: Transaction, vault: VaultName, grade: Grade, now: datetime
) -> dict[int, list[tuple[int, int, int]]]:
    """Pieces proven in a grade by `now`, by archive: start, end and time in seconds, by their starts."""
    sql = f"""SELECT r.archive, r.start, r."end", r.read_at
              FROM {_READ_IN}
              WHERE v.name = ? AND r.read_at <= ? AND r.proven >= ?
              ORDER BY r.archive, r.start"""
    found: dict[int, list[tuple[int, int, int]]] = {}
    for archive, start, end, read_at in raw_rows(tx, sql, (vault, micros(now), grade.value)):
        found.setdefault(archive, []).append((start, end, max(1, read_at // 1_000_000)))
    return found


def readable_archives(tx: Transaction, vault: VaultName) -> list[tuple[int, int]]:
    """Number and size of each archive of a vault, and each copy in it, that should be complete there."""
    sql = f"""SELECT a.number, a.size FROM {IN_VAULTS}
              WHERE v.name = ? AND a.archive_id IS NOT NULL AND a.state IN ({marks(SOUND)})
              UNION ALL
              SELECT a.number, a.size FROM copies k JOIN vaults v ON v.number = k.vault
              JOIN archives a ON a.number = k.archive JOIN domains d ON d.number = a.domain
              WHERE v.name = ? AND d.vault <> k.vault AND k.archive_id IS NOT NULL
                AND k.state IN ({marks(SOUND)})
              ORDER BY 1"""
    return list(raw_rows(tx, sql, (vault, *SOUND, vault, *SOUND)))


def missed_since(tx: Transaction, since: datetime) -> set[int]:
    """Archives that checks or restores requested since that time and the vault did not have."""
    sql = """SELECT archive, result FROM readings
             WHERE state = ? AND read_at IS NULL AND requested_at >= ?"""
    of_checks = {
        archive
        for archive, packed in raw_rows(tx, sql, (ReadingStage.READ, micros(since)))
        if msgspec.msgpack.decode(packed, type=Result).is_missing
    }
    # Those that failed for any other reason have no time.
    refused = "SELECT archive FROM retrievals WHERE state = ? AND requested_at >= ?"
    of_restores = raw_rows(tx, refused, (RetrievalStage.FAILED, micros(since)))
    return of_checks | {row[0] for row in of_restores}


def bad_frames(tx: Transaction) -> dict[int, set[int]]:
    """The damaged frames by archive, as found by readings in its own vault."""
    found: dict[int, set[int]] = {}
    sql = "SELECT archive, result FROM readings WHERE result IS NOT NULL AND copied_to IS NULL"
    for archive, packed in raw_rows(tx, sql, ()):
        result = msgspec.msgpack.decode(packed, type=Result)
        if result.is_damaged:
            found.setdefault(archive, set()).update(result.bad)
    return found


class LockDate(Struct, frozen=True):
    """The date until which a job's snapshots restore whatever an intruder does, found out at `as_of`.

    `nights` are how many, the newest of them begun at `newest`. `until`: None if something that they need is
    not locked, or lost.
    """

    job: JobName
    vault: VaultName
    nights: int
    newest: datetime
    until: datetime | None
    as_of: datetime

    @property
    def text(self) -> str:
        """The date as a sentence."""
        nights = f"the last {self.nights} nights" if self.nights > 1 else "its night"
        if self.until is None:
            return f"something that {nights} {'need' if self.nights > 1 else 'needs'} is not locked"
        verb = "restore" if self.nights > 1 else "restores"
        return f"whatever an intruder does today, {nights} {verb} until {self.until:%Y-%m-%d}"


def record_dates(tx: Transaction, dates: Mapping[int, LockDate]) -> None:
    """Record until when the snapshots of these jobs restore, by the jobs' numbers."""
    for job, date in dates.items():
        vault = get_or_create_vault(tx, date.vault)
        changed(tx, "DELETE FROM lock_dates WHERE job = ? AND vault = ?", (job, vault))
        until = None if date.until is None else micros(date.until)
        times = {"newest": micros(date.newest), "until": until, "as_of": micros(date.as_of)}
        insert_row(tx, "lock_dates", job=job, vault=vault, nights=date.nights, **times)


def lock_dates(tx: Transaction) -> list[LockDate]:
    """The dates until which the snapshots of each job restore, as they were last found out."""
    sql = """SELECT j.name, v.name, l.nights, l.newest, l.until, l.as_of FROM lock_dates l
             JOIN jobs j ON j.number = l.job JOIN vaults v ON v.number = l.vault ORDER BY j.name, v.name"""
    return [
        LockDate(
            JobName(job),
            VaultName(vault),
            nights,
            moment(newest),
            None if until is None else moment(until),
            moment(as_of),
        )
        for job, vault, nights, newest, until, as_of in raw_rows(tx, sql, ())
    ]


def held_snapshots(tx: Transaction) -> dict[SnapshotId, JobName | None]:
    """The snapshots for which something is held, each with its job; None if it is not known any more."""
    sql = """SELECT DISTINCT h.snapshot, j.name FROM legal_holds h LEFT JOIN snapshots s ON s.id = h.snapshot
             LEFT JOIN jobs j ON j.number = s.job ORDER BY s.number, h.snapshot"""
    return {SnapshotId(snapshot): job and JobName(job) for snapshot, job in raw_rows(tx, sql, ())}


class VaultLock(Struct, frozen=True):
    """The lock of a Glacier vault that was begun here: gone at `ends_at`, but if completed at `locked_at`."""

    vault: VaultName
    lock_id: str
    policy: str
    ends_at: datetime
    days: int
    locked_at: datetime | None = None

    @property
    def text(self) -> str:
        """Return its rule in words."""
        return f"no archive is deleted before it is {self.days} days old"


def record_vault_lock(tx: Transaction, lock: VaultLock) -> None:
    """Record a lock in place of the one that was recorded before."""
    forget_vault_lock(tx, lock.vault)
    locked_at = None if lock.locked_at is None else micros(lock.locked_at)
    number = get_or_create_vault(tx, lock.vault)
    known = {"lock_id": lock.lock_id, "policy": lock.policy, "days": lock.days}
    insert_row(tx, "vault_locks", vault=number, **known, ends_at=micros(lock.ends_at), locked_at=locked_at)


def forget_vault_lock(tx: Transaction, vault: VaultName) -> None:
    """Remove what was recorded of a vault's lock."""
    sql = "DELETE FROM vault_locks WHERE vault = (SELECT number FROM vaults WHERE name = ?)"
    changed(tx, sql, (vault,))


def vault_locks(tx: Transaction) -> dict[VaultName, VaultLock]:
    """The locks of Glacier vaults that were begun here, by vault."""
    sql = """SELECT v.name, l.lock_id, l.policy, l.ends_at, l.days, l.locked_at FROM vault_locks l
             JOIN vaults v ON v.number = l.vault ORDER BY v.name"""
    found = {}
    for name, lock_id, policy, ends_at, days, locked in raw_rows(tx, sql, ()):
        locked_at = None if locked is None else moment(locked)
        found[VaultName(name)] = VaultLock(name, lock_id, policy, moment(ends_at), days, locked_at)
    return found
