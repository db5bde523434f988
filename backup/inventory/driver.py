"""Statements by the driver's own cursor, for very many statements or rows.

SQLAlchemy costs some 70 us a statement, and for a row more than all that is done with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Table

from backup.inventory.database import Transaction

_ROWS_A_FETCH = 5_000


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
    marks = ", ".join(["{m}"] * len(table.columns))
    verb = "INSERT OR IGNORE INTO" if only_new else "INSERT INTO"
    return inserted(tx, f'{verb} "{table.name}" ({names}) VALUES ({marks})', zip(*columns, strict=True))


def inserted(tx: Transaction, sql: str, rows: Iterable[tuple[Any, ...]]) -> int:
    """Run the statement for each row, `insert_columns` by this; how many it inserted."""
    cursor: Any = tx.connection.cursor()  # typed for sequences alone
    try:
        return int(cursor.executemany(sql_of(tx, sql), rows).rowcount)
    finally:
        cursor.close()


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
