"""Statements by the driver's own cursor, for very many statements or rows.

SQLAlchemy costs some 70 us a statement, and for a row more than all that is done with it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import Any, Final

from sqlalchemy import Table

from backup.inventory.database import Transaction

_ROWS_A_FETCH = 5_000
_ROWS_A_STATEMENT: Final = (1_000, 100)
"""Of many rows. The driver takes the interpreter's lock again after each statement: with one for each row, a
thread that inserts beside one that computes takes fifty times as long."""


def sql_of(tx: Transaction, text: str) -> str:
    """A statement with the driver's parameter marks for `{m}`."""
    return _marked(text, "?" if tx.dialect.paramstyle == "qmark" else "%s")


@lru_cache(maxsize=64)
def _marked(text: str, mark: str) -> str:
    return text.format(m=mark)


def executed(tx: Transaction, sql: str, values: tuple[Any, ...]) -> Any:
    """The driver's cursor, with which the statement was run; all that return rows go through here."""
    cursor = tx.connection.cursor()
    cursor.execute(sql_of(tx, sql), values)
    return cursor


def insert_columns(
    tx: Transaction, table: Table, columns: Sequence[Iterable[Any]], *, only_new: bool = False
) -> int:
    """Insert very many rows, given as all columns of the table in its order; returns how many were new.

    No row is kept on the way. With `only_new`, rows whose keys exist are skipped.
    """
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    verb = "INSERT OR IGNORE INTO" if only_new else "INSERT INTO"
    return inserted(tx, f'{verb} "{table.name}" ({names})', zip(*columns, strict=True), len(columns))


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
                count += cursor.execute(sql_of(tx, _with_values(sql, size, width)), values).rowcount
            rows = chain(some, rows)
        return count + int(cursor.executemany(sql_of(tx, _with_values(sql, 1, width)), rows).rowcount)
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


def pages(tx: Transaction, sql: str, values: tuple[Any, ...]) -> Iterator[Sequence[Any]]:
    """Rows as tuples, some thousands at a time."""
    cursor = executed(tx, sql, values)
    try:
        while rows := cursor.fetchmany(_ROWS_A_FETCH):
            yield rows
            del rows  # so that two pages are not held at a time
    finally:
        if not tx.closed:  # if a reader stops early (`head`), the inventory may be closed first
            cursor.close()


def raw_rows(tx: Transaction, sql: str, values: tuple[Any, ...]) -> Iterator[Any]:
    """Rows as tuples, one by one."""
    for rows in pages(tx, sql, values):
        yield from rows


def stream(tx: Transaction, sql: str, values: tuple[Any, ...], kind: Any) -> Iterator[Any]:
    """Rows as named tuples of that kind."""
    return map(kind._make, raw_rows(tx, sql, values))
