"""Notes on entries that are dumps of databases; catalogs carry it as records of kind 132."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from backup.format.records import DumpRecord
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import raw_rows

_COLUMNS: Final = "s.entry, s.engine, s.database, s.version, s.charset, s.back, s.tables"
_OF_JOB: Final = f"""SELECT {_COLUMNS} FROM dumps s CROSS JOIN entries e CROSS JOIN directories d
                     WHERE e.number = s.entry AND d.number = e.directory AND d.job = ?"""


def dump_records(tx: Transaction, job: int) -> list[DumpRecord]:
    """All that is known of a job's dumps, by the number of the entry, in order."""
    return [_record(row) for row in raw_rows(tx, f"{_OF_JOB} ORDER BY s.entry", (job,))]


def dump_of(tx: Transaction, entry: int) -> DumpRecord | None:
    """The note on an entry that is a dump; None if there is none."""
    rows = raw_rows(tx, f"SELECT {_COLUMNS} FROM dumps s WHERE s.entry = ?", (entry,))
    return next(map(_record, rows), None)


def _record(row: tuple[Any, ...]) -> DumpRecord:
    *known, back, tables = row
    read = msgspec.msgpack.decode
    entry, engine, database, version, charset = known
    words, rows = read(back, type=list[str]), read(tables, type=list[tuple[str, int, int]])
    return DumpRecord(entry, engine, database, version, charset, words, rows)
