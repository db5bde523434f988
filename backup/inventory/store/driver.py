"""Statements by the driver's own cursor, with its mark `?` for each value: the one way to the rows.

Statements are composed only of constants, `marks`, `numerals` and `quoted` names; a test checks this.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import suppress
from functools import lru_cache
from itertools import repeat
from operator import add
from typing import Any, Final

from backup.inventory.store.connections import Transaction

_ROWS_A_FETCH = 5_000
_ROWS_TURNED: Final = 10_000  # into columns at once
_ROWS_A_STATEMENT: Final = (1_000, 100)
"""Of many rows. The driver takes the interpreter's lock again after each statement: with one for each row, a
thread that inserts beside one that computes takes fifty times as long."""


def sum_of(column: str) -> str:
    """SQL for a sum of sizes, limited to the largest integer of the database, where `sum` alone would fail.

    Sizes of sparse files may add up to more. NULL where there is no row.
    """
    high, low = f"sum({column} >> 32)", f"sum({column} & 4294967295)"
    return f"CASE WHEN {high} + ({low} >> 32) >= 2147483648 THEN {2**63 - 1} ELSE ({high} << 32) + {low} END"


def marks(values: Sized) -> str:
    """One parameter mark (`?`) for each value, for `IN`."""
    return ", ".join("?" * len(values))


def numerals(numbers: Iterable[int]) -> str:
    """Whole numbers as they stand in a statement, for `IN`; `TypeError` for what is none."""
    return ",".join(map(int.__repr__, numbers))


@lru_cache(maxsize=512)
def quoted(name: str) -> str:
    """The name of a table or column as it stands in a statement; `ValueError` if it is no plain word."""
    if not name.isidentifier():
        raise ValueError(f"no name of a table or column: {name!r}")
    return f'"{name}"'


def executed(tx: Transaction, sql: str, values: tuple[Any, ...]) -> Any:
    """The driver's cursor, with which the statement was run; all that return rows go through here."""
    cursor = tx.connection.cursor()
    try:
        cursor.execute(sql, values)
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
    sql = f"INSERT INTO {quoted(table)} ({', '.join(map(quoted, values))}) VALUES ({marks(values)})"
    cursor = executed(tx, sql, tuple(values.values()))
    try:
        return int(cursor.lastrowid)
    finally:
        cursor.close()


def insert_columns(
    tx: Transaction,
    table: str,
    names: Sequence[str],
    columns: Sequence[Sequence[Any]],
    *,
    same: Mapping[str, Any] | None = None,
    only_new: bool = False,
) -> int:
    """Insert very many rows, given as columns of these names; returns how many were new.

    A value that is the `same` in all rows, by its name, goes to the database once for each statement. With
    `only_new`, rows whose keys exist are skipped.
    """
    shared = same or {}
    written = ", ".join(map(quoted, (*shared, *names)))
    verb = "INSERT OR IGNORE INTO" if only_new else "INSERT INTO"
    return inserted(tx, f"{verb} {quoted(table)} ({written})", tuple(shared.values()), columns)


def insert_tuples(
    tx: Transaction,
    table: str,
    names: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    *,
    only_new: bool = False,
) -> int:
    """Same as `insert_columns`, for rows."""
    some = (rows[start : start + _ROWS_TURNED] for start in range(0, len(rows), _ROWS_TURNED))
    return sum(
        insert_columns(tx, table, names, list(zip(*batch, strict=True)), only_new=only_new) for batch in some
    )


def inserted(tx: Transaction, sql: str, shared: tuple[Any, ...], columns: Sequence[Sequence[Any]]) -> int:
    """Insert rows of the shared values and one of each column; `sql` lacks its values. How many were new."""
    width, count = len(columns), len(columns[0])
    cursor: Any = tx.connection.cursor()  # typed for sequences alone
    most = (cursor.connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) - len(shared)) // width
    new = first = 0
    try:
        for size in _ROWS_A_STATEMENT:
            if first + size > count or size > most:
                continue
            values = [*shared, *repeat(None, size * width)]
            while first + size <= count:
                for place, column in enumerate(columns, len(shared)):
                    values[place::width] = column[first : first + size]
                new += cursor.execute(_with_values(sql, size, len(shared), width), values).rowcount
                first += size
        rest = zip(*(column[first:] for column in columns), strict=True)
        one_row = _with_values(sql, 1, len(shared), width)
        return new + int(cursor.executemany(one_row, map(add, repeat(shared), rest)).rowcount)
    finally:
        cursor.close()


def run_many(tx: Transaction, sql: str, rows: Iterable[tuple[Any, ...]]) -> int:
    """Run a statement for each row of values; how many rows it changed."""
    cursor: Any = tx.connection.cursor()  # typed for sequences alone
    try:
        return int(cursor.executemany(sql, rows).rowcount)
    finally:
        cursor.close()


@lru_cache(maxsize=64)
def _with_values(sql: str, rows: int, shared: int, width: int) -> str:
    """The statement for so many rows, each of all shared values and of `width` values of its own."""
    marks_of_row = [*(f"?{number}" for number in range(1, shared + 1)), *repeat("?", width)]
    row = f"({', '.join(marks_of_row)})"
    return f"{sql} VALUES {', '.join([row] * rows)}"


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
    """All rows as records with named columns; for not too many rows."""
    cursor = executed(tx, sql, values)
    try:
        cursor.row_factory = sqlite3.Row
        found: list[sqlite3.Row] = cursor.fetchall()
        return found
    finally:
        cursor.close()


def record_of(tx: Transaction, sql: str, values: tuple[Any, ...]) -> sqlite3.Row | None:
    """The first row as a record with named columns; None if there is none."""
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
