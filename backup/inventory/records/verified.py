"""Pieces of archives that checks have read and found good: into full catalogs, and out of them again."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec

from backup.format.catalog import VerifiedRecord, pack_u64, unpack_u64
from backup.inventory.records.readings import Grade, Result
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import raw_rows
from backup.inventory.store.states import ReadingStage
from backup.model import Tier

READ_COLUMNS: Final = (
    *("run", "archive", "start", "end", "asked_from", "asked_to"),
    *("tier", "token", "state", "read_at", "result", "proven"),
)


def verified(tx: Transaction, among: Collection[int]) -> list[VerifiedRecord]:
    """The pieces of these archives that checks read and found good, as full catalogs carry them."""
    sql = """SELECT r.archive, r.start, r."end", r.read_at, r.result, r.proven, a.pack_id
             FROM readings r JOIN archives a ON a.number = r.archive
             WHERE r.state = ? AND r.read_at IS NOT NULL AND r.copied_to IS NULL
             ORDER BY r.archive, r.read_at, r.start"""
    pieces: dict[tuple[bytes, int, int], list[int]] = {}
    for archive, start, end, read_at, packed, proven, pack_id in raw_rows(tx, sql, (ReadingStage.READ,)):
        result = msgspec.msgpack.decode(packed, type=Result) if packed else Result()
        if archive in among and not result.is_damaged:
            grade = Grade(proven or Grade.READ_BACK)
            pieces.setdefault((pack_id, grade, read_at), []).extend((start, end))
    return [
        VerifiedRecord(pack, grade, pack_u64(pieces_of), at)
        for (pack, grade, at), pieces_of in pieces.items()
    ]


def rows_of(record: VerifiedRecord, run: int, archive: int) -> list[tuple[Any, ...]]:
    """The readings of an archive in a catalog's record, in the order of `READ_COLUMNS`."""
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
