"""Statements by the driver's own cursor: all that a nightly command needs.

SQLAlchemy costs some 70 us a statement, for a row more than all that is done with it, and to import it and to
compile each statement once takes longer than all else of a small command.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import suppress
from functools import lru_cache
from itertools import chain, islice
from typing import Any, Final

from backup.inventory.connections import Transaction

_ROWS_A_FETCH = 5_000
_ROWS_A_STATEMENT: Final = (1_000, 100)
"""Of many rows. The driver takes the interpreter's lock again after each statement: with one for each row, a
thread that inserts beside one that computes takes fifty times as long."""


@lru_cache(maxsize=64)
def sql_of(text: str) -> str:
    """A statement with the driver's parameter marks for `{m}`."""
    return text.format(m="?")


def marks(values: Sized) -> str:
    """As many parameter marks as there are values, for `IN`."""
    return ", ".join(["{m}"] * len(values))


def executed(tx: Transaction, sql: str, values: tuple[Any, ...]) -> Any:
    """The driver's cursor, with which the statement was run; all that return rows go through here."""
    cursor = tx.connection.cursor()
    try:
        cursor.execute(sql_of(sql), values)
    except BaseException:
        cursor.close()  # else the file stays open as long as the traceback, which has the cursor, lives
        raise
    return cursor


def changed(tx: Transaction, sql: str, values: tuple[Any, ...]) -> int:
    """Run a statement that returns no rows; how many it changed."""
    cursor = executed(tx, sql, values)
    try:
        return int(cursor.rowcount)
    finally:
        cursor.close()


def insert_row(tx: Transaction, table: str, **values: Any) -> int:
    """Insert one row; returns the number it was given, if the table has one of its own."""
    names = ", ".join(f'"{name}"' for name in values)
    sql = f'INSERT INTO "{table}" ({names}) VALUES ({marks(values)})'  # noqa: S608  names of our own
    cursor = executed(tx, sql, tuple(values.values()))
    try:
        return int(cursor.lastrowid)
    finally:
        cursor.close()


def insert_columns(
    tx: Transaction,
    table: str,
    names: Sequence[str],
    columns: Sequence[Iterable[Any]],
    *,
    only_new: bool = False,
) -> int:
    """Insert very many rows, given as columns of these names; returns how many were new.

    No row is kept on the way. With `only_new`, rows whose keys exist are skipped.
    """
    return insert_tuples(tx, table, names, zip(*columns, strict=True), only_new=only_new)


def insert_tuples(
    tx: Transaction,
    table: str,
    names: Sequence[str],
    rows: Iterable[tuple[Any, ...]],
    *,
    only_new: bool = False,
) -> int:
    """Same as `insert_columns`, for rows."""
    quoted = ", ".join(f'"{name}"' for name in names)
    verb = "INSERT OR IGNORE INTO" if only_new else "INSERT INTO"
    return inserted(tx, f'{verb} "{table}" ({quoted})', iter(rows), len(names))


def inserted(tx: Transaction, sql: str, rows: Iterator[tuple[Any, ...]], width: int) -> int:
    """Insert rows of so many values by a statement without its values; returns how many were new."""
    cursor: Any = tx.connection.cursor()  # typed for sequences alone
    count = 0
    try:
        most = cursor.connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // width
        for size in _ROWS_A_STATEMENT:
            some: list[tuple[Any, ...]] = []
            while size <= most and len(some := list(islice(rows, size))) == size:
                values = tuple(chain.from_iterable(some))
                count += cursor.execute(sql_of(_with_values(sql, size, width)), values).rowcount
            rows = chain(some, rows)
        return count + int(cursor.executemany(sql_of(_with_values(sql, 1, width)), rows).rowcount)
    finally:
        cursor.close()


def run_many(tx: Transaction, sql: str, rows: Iterable[tuple[Any, ...]]) -> int:
    """Run a statement for each row of values; how many rows it changed."""
    cursor: Any = tx.connection.cursor()  # typed for sequences alone
    try:
        return int(cursor.executemany(sql_of(sql), rows).rowcount)
    finally:
        cursor.close()


@lru_cache(maxsize=64)
def _with_values(sql: str, size: int, width: int) -> str:
    """The statement for so many rows of so many values."""
    row = f"({', '.join(['{m}'] * width)})"
    return f"{sql} VALUES {', '.join([row] * size)}"


def row_of(tx: Transaction, sql: str, values: tuple[Any, ...]) -> Any:
    """The first row as a tuple, None if there is none."""
    cursor = executed(tx, sql, values)
    try:
        return cursor.fetchone()
    finally:
        cursor.close()


def value_of(tx: Transaction, sql: str, values: tuple[Any, ...]) -> Any:
    """The first value of the first row, None if there is none."""
    row = row_of(tx, sql, values)
    return None if row is None else row[0]


def needed(tx: Transaction, sql: str, values: tuple[Any, ...]) -> Any:
    """The first value of a row that must be there: without it the inventory is damaged."""
    row = row_of(tx, sql, values)
    if row is None:
        raise sqlite3.DatabaseError("a row is missing")
    return row[0]


def number_of(tx: Transaction, sql: str, values: tuple[Any, ...]) -> int:
    """Same as `needed`, for a number."""
    return int(needed(tx, sql, values))


def records(tx: Transaction, sql: str, values: tuple[Any, ...]) -> list[sqlite3.Row]:
    """All rows, whose columns have names; for not too many."""
    cursor = executed(tx, sql, values)
    try:
        cursor.row_factory = sqlite3.Row
        found: list[sqlite3.Row] = cursor.fetchall()
        return found
    finally:
        cursor.close()


def record_of(tx: Transaction, sql: str, values: tuple[Any, ...]) -> sqlite3.Row | None:
    """The first row, whose columns have names; None if there is none."""
    found = records(tx, sql, values)
    return found[0] if found else None


def needed_record(tx: Transaction, sql: str, values: tuple[Any, ...]) -> sqlite3.Row:
    """Same as `needed`, for a whole row, whose columns have names."""
    found = record_of(tx, sql, values)
    if found is None:
        raise sqlite3.DatabaseError("a row is missing")
    return found


def pages(tx: Transaction, sql: str, values: tuple[Any, ...]) -> Iterator[Sequence[Any]]:
    """Rows as tuples, some thousands at a time."""
    cursor = executed(tx, sql, values)
    try:
        while rows := cursor.fetchmany(_ROWS_A_FETCH):
            yield rows
            del rows  # so that two pages are not held at a time
    finally:
        with suppress(sqlite3.ProgrammingError):  # a reader stopped early (`head`), the inventory is closed
            cursor.close()


def raw_rows(tx: Transaction, sql: str, values: tuple[Any, ...]) -> Iterator[Any]:
    """Rows as tuples, one by one."""
    for rows in pages(tx, sql, values):
        yield from rows


def stream(tx: Transaction, sql: str, values: tuple[Any, ...], kind: Any) -> Iterator[Any]:
    """Rows as named tuples of that kind."""
    return map(kind._make, raw_rows(tx, sql, values))
