"""Queries for readings: pieces of archives that checks read back, requested now, read hours later."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, Final

import msgspec
from sqlalchemy import delete, func, insert, or_, select, update

from backup.format.catalog import VerifiedRecord, pack_u64, unpack_u64
from backup.inventory.archives import SOUND
from backup.inventory.bulk import insert_rows
from backup.inventory.database import Transaction
from backup.inventory.runs import Outcome, RunKind
from backup.inventory.schema import archives, domains, micros, moment, readings, retrievals, runs, vaults
from backup.inventory.stages import ReadingStage, RetrievalStage
from backup.model import ByteRange, RetrievalId, Tier, VaultName

READ_COLUMNS: Final = (
    *("run", "archive", "start", "end", "asked_from", "asked_to"),
    *("tier", "token", "state", "read_at", "result", "proven"),
)


class Grade(IntEnum):
    """How a piece of an archive was proven; also of a catalog's records. Checks only read back."""

    READ_BACK = 1
    OPENED = 2  # a drill restored all that lies in it, and found it as it was saved


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


@dataclass(frozen=True, slots=True)
class Reading:
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


def plan_readings(
    tx: Transaction, run: int, wanted: Sequence[tuple[int, int, int, ByteRange, str]], tier: Tier
) -> None:
    """Record what will be requested: archive, start, end, range to request, token."""
    columns = ["run", "archive", "start", "end", "asked_from", "asked_to", "token", "tier", "state"]
    rows = [
        (run, archive, start, end, asked.start, asked.end, token, tier.value, ReadingStage.PLANNED)
        for archive, start, end, asked, token in wanted
    ]
    insert_rows(tx, readings, rows, columns)


def readings_of(tx: Transaction, run: int) -> list[Reading]:
    """A check's readings, in the order they were planned."""
    query = select(readings).where(readings.c.run == run).order_by(readings.c.number)
    return [
        Reading(
            row.number,
            row.archive,
            row.start,
            row.end,
            ByteRange(row.asked_from, row.asked_to),
            Tier(row.tier),
            row.token,
            RetrievalId(row.retrieval_id) if row.retrieval_id else None,
            ReadingStage(row.state),
            moment(row.requested_at) if row.requested_at else None,
            msgspec.msgpack.decode(row.result, type=Result) if row.result else None,
        )
        for row in tx.execute(query)
    ]


def open_reading_run(tx: Transaction, vault: VaultName) -> int | None:
    """The unfinished check of that vault that reads, if there is one; no drill."""
    query = (
        select(func.max(readings.c.run))
        .select_from(readings)
        .join(runs, runs.c.number == readings.c.run)
        .join(archives, archives.c.number == readings.c.archive)
        .join(domains, domains.c.number == archives.c.domain)
        .join(vaults, vaults.c.number == domains.c.vault)
        .where(vaults.c.name == vault, runs.c.kind == RunKind.CHECK, runs.c.outcome == Outcome.RUNNING)
    )
    found = tx.execute(query).scalar()
    return int(found) if found is not None else None


def asked(tx: Transaction, number: int, retrieval_id: RetrievalId, now: datetime) -> None:
    """Record that the vault has accepted the request."""
    values = {"retrieval_id": retrieval_id, "state": ReadingStage.WAITING, "requested_at": micros(now)}
    tx.execute(update(readings).where(readings.c.number == number).values(**values))


def planned_anew(tx: Transaction, number: int, token: str, failed: Result | None = None) -> None:
    """Plan a reading again, as its output is gone or was never made; keep `failed` if the vault failed."""
    values: dict[str, Any] = {
        "retrieval_id": None,
        "state": ReadingStage.PLANNED,
        "requested_at": None,
        "token": token,
    }
    if failed is not None:
        values["result"] = msgspec.msgpack.encode(failed)
    tx.execute(update(readings).where(readings.c.number == number).values(**values))


def was_read(tx: Transaction, one: Reading, result: Result, now: datetime) -> None:
    """Record a reading's result; an older reading of the same bytes is deleted.

    One that proves more stays, unless the bytes turned out to be damaged since.
    """
    chosen = update(readings).where(readings.c.number == one.number)
    tx.execute(chosen.values(state=ReadingStage.READ, result=msgspec.msgpack.encode(result)))
    if result.is_missing:
        tx.execute(chosen.values(requested_at=micros(now)))
    if result.is_missing or result.is_unread:
        return
    proven = None if result.is_damaged else Grade.READ_BACK.value
    tx.execute(chosen.values(read_at=micros(now), proven=proven))
    proves_less = or_(readings.c.proven.is_(None), readings.c.proven <= Grade.READ_BACK)
    older = (
        *([] if result.is_damaged else [proves_less]),
        readings.c.archive == one.archive,
        readings.c.number < one.number,
        readings.c.state == ReadingStage.READ,
        readings.c.start >= one.start,
        readings.c.end <= one.end,
    )
    tx.execute(delete(readings).where(*older))


def record_opened(
    tx: Transaction, run: int, archive: int, pieces: Sequence[ByteRange], tier: Tier, now: datetime
) -> None:
    """Record pieces that a drill has opened; neighbours are made one."""
    joined: list[ByteRange] = []
    for one in sorted(pieces, key=lambda piece: piece.start):
        if joined and joined[-1].end == one.start:
            joined[-1] = ByteRange(joined[-1].start, one.end)
        else:
            joined.append(one)
    result = msgspec.msgpack.encode(Result(opened=1))
    for one in joined:
        within = (readings.c.archive == archive, readings.c.start >= one.start, readings.c.end <= one.end)
        tx.execute(delete(readings).where(*within, readings.c.state == ReadingStage.READ))
        values: dict[str, Any] = {
            "run": run,
            "archive": archive,
            "start": one.start,
            "end": one.end,
            "tier": tier.value,
        }
        values |= {"asked_from": one.start, "asked_to": one.end, "state": ReadingStage.READ, "result": result}
        values |= {"token": f"opened {run} {archive} {one.start}", "read_at": micros(now), "tier": tier.value}
        tx.execute(insert(readings).values(**values, proven=Grade.OPENED.value))


def forget_unread(tx: Transaction, run: int) -> None:
    """Delete the unread pieces of a check that was given up."""
    tx.execute(delete(readings).where(readings.c.run == run, readings.c.state != ReadingStage.READ))


def read_before(
    tx: Transaction, vault: VaultName, now: datetime
) -> dict[int, list[tuple[int, int, datetime]]]:
    """Earlier readings by archive: start, end and time; those dated after `now` are ignored."""
    query = (
        select(readings.c.archive, readings.c.start, readings.c.end, readings.c.read_at)
        .join(archives, archives.c.number == readings.c.archive)
        .join(domains, domains.c.number == archives.c.domain)
        .join(vaults, vaults.c.number == domains.c.vault)
        .where(vaults.c.name == vault, readings.c.read_at <= micros(now))
    )
    found: dict[int, list[tuple[int, int, datetime]]] = {}
    for archive, start, end, read_at in tx.execute(query):
        found.setdefault(archive, []).append((start, end, moment(read_at)))
    return found


def proven_before(
    tx: Transaction, vault: VaultName, grade: Grade, now: datetime
) -> dict[int, list[tuple[int, int, int]]]:
    """Pieces proven in a grade by `now`, by archive: start, end and time in seconds, by their starts."""
    query = (
        select(readings.c.archive, readings.c.start, readings.c.end, readings.c.read_at)
        .join(archives, archives.c.number == readings.c.archive)
        .join(domains, domains.c.number == archives.c.domain)
        .join(vaults, vaults.c.number == domains.c.vault)
        .where(vaults.c.name == vault, readings.c.read_at <= micros(now), readings.c.proven >= grade.value)
        .order_by(readings.c.archive, readings.c.start)
    )
    found: dict[int, list[tuple[int, int, int]]] = {}
    for archive, start, end, read_at in tx.execute(query):
        found.setdefault(archive, []).append((start, end, max(1, read_at // 1_000_000)))
    return found


def readable_archives(tx: Transaction, vault: VaultName) -> list[tuple[int, int]]:
    """Number and size of each archive of a vault that should be complete there."""
    query = (
        select(archives.c.number, archives.c.size)
        .select_from(archives.join(domains).join(vaults))
        .where(
            vaults.c.name == vault,
            archives.c.archive_id.is_not(None),
            archives.c.state.in_(SOUND),
        )
        .order_by(archives.c.number)
    )
    return [(number, size) for number, size in tx.execute(query)]


def missed_since(tx: Transaction, since: datetime) -> set[int]:
    """Archives that the vault did not have when a check or a restore requested them, since that time."""
    query = select(readings.c.archive, readings.c.result).where(
        readings.c.state == ReadingStage.READ,
        readings.c.read_at.is_(None),
        readings.c.requested_at >= micros(since),
    )
    of_checks = {
        archive
        for archive, packed in tx.execute(query)
        if msgspec.msgpack.decode(packed, type=Result).is_missing
    }
    refused = retrievals.c.state == RetrievalStage.FAILED  # without a time, for any other reason
    of_restores = select(retrievals.c.archive).where(refused, retrievals.c.requested_at >= micros(since))
    return of_checks | set(tx.execute(of_restores).scalars())


def bad_frames(tx: Transaction) -> dict[int, set[int]]:
    """The damaged frames by archive, as found by readings."""
    found: dict[int, set[int]] = {}
    query = select(readings.c.archive, readings.c.result).where(readings.c.result.is_not(None))
    for archive, packed in tx.execute(query):
        result = msgspec.msgpack.decode(packed, type=Result)
        if result.is_damaged:
            found.setdefault(archive, set()).update(result.bad)
    return found


# What was read, in full catalogs and out of them again.


def verified(tx: Transaction, among: Collection[int]) -> list[VerifiedRecord]:
    """What checks read of these archives and found good, as full catalogs carry it."""
    query = (
        select(
            *(readings.c.archive, readings.c.start, readings.c.end),
            *(readings.c.read_at, readings.c.result, readings.c.proven, archives.c.pack_id),
        )
        .join(archives, archives.c.number == readings.c.archive)
        .where(readings.c.state == ReadingStage.READ, readings.c.read_at.is_not(None))
        .order_by(readings.c.archive, readings.c.read_at, readings.c.start)
    )
    pieces: dict[tuple[bytes, int, int], list[int]] = {}
    for row in tx.execute(query):
        result = msgspec.msgpack.decode(row.result, type=Result) if row.result else Result()
        if row.archive in among and not result.is_damaged:
            grade = Grade(row.proven or Grade.READ_BACK)
            pieces.setdefault((row.pack_id, grade, row.read_at), []).extend((row.start, row.end))
    return [VerifiedRecord(pack, grade, pack_u64(some), at) for (pack, grade, at), some in pieces.items()]


def rows_of(record: VerifiedRecord, run: int, archive: int) -> list[tuple[Any, ...]]:
    """The readings that a record tells of an archive, in the order of `READ_COLUMNS`."""
    bounds = unpack_u64(record.pieces)
    result = msgspec.msgpack.encode(Result())
    tier, state = Tier.STANDARD.value, ReadingStage.READ.value
    return [
        (
            run,
            archive,
            *(start, end) * 2,
            tier,
            f"{archive} {start} {end} {record.at}",
            state,
            record.at,
            result,
            record.grade,
        )
        for start, end in zip(bounds[::2], bounds[1::2], strict=True)
    ]
