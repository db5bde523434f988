"""Rows go into the database by statements of many: all of them, once, and counted."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.inventory.store.connections import Connections
from backup.inventory.store.database import connections_to
from backup.inventory.store.driver import insert_columns, numerals, quoted, raw_rows

NAMES = ("number", "name", "a")


@pytest.fixture(scope="module")
def connections(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connections]:
    made = connections_to(f"{tmp_path_factory.mktemp('driver')}/rows.sqlite")
    with made.outside() as connection:
        connection.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, name BLOB, a INTEGER)")
    yield made
    made.close()


def row(number: int) -> tuple[int, bytes, int]:
    return number, b"%d" % number, number % 7


@pytest.mark.parametrize("most", [None, 999, 30, 3])
@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(0, 2_500) | st.sampled_from([99, 100, 101, 999, 1000, 1001, 1100, 2099, 2100]),
    there=st.sets(st.integers(0, 2_500), max_size=30),
    is_same=st.booleans(),
)
def test_each_row_comes_in_once_and_only_new_ones_count(
    connections: Connections, most: int | None, count: int, there: set[int], is_same: bool
) -> None:
    """Also where the database takes fewer values in a statement than it usually does."""
    with connections.transaction(writes=True) as tx:
        raw = tx.connection
        usual = raw.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
        columns = [range(count), [b"%d" % number for number in range(count)]]
        names, same = (NAMES[:2], {"a": 8}) if is_same else (NAMES, {})
        if not is_same:
            columns.append([n % 7 for n in range(count)])
        before = sorted(there)
        insert_columns(
            tx,
            "rows",
            NAMES,
            (before, [b"%d" % number for number in before], [number % 7 for number in before]),
        )
        try:
            raw.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, usual if most is None else most)
            new = insert_columns(tx, "rows", names, columns, same=same, only_new=True)
        finally:
            raw.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, usual)
        found = list(raw_rows(tx, "SELECT number, name, a FROM rows ORDER BY number", ()))
        raw.rollback()
    assert found == [
        (number, name, 8 if is_same and number not in there else a)
        for number, name, a in map(row, sorted(there | set(range(count))))
    ]
    assert new == len(set(range(count)) - there)


def test_a_row_that_is_there_is_an_error(connections: Connections) -> None:
    with connections.transaction(writes=True) as tx:
        with pytest.raises(sqlite3.IntegrityError):
            insert_columns(tx, "rows", NAMES, ([*range(1500), 7], [b""] * 1501, [0] * 1501))
        tx.connection.rollback()


def test_what_stands_in_a_statement_is_a_plain_name_or_a_whole_number() -> None:
    assert (quoted("offset"), numerals([3, -1])) == ('"offset"', "3,-1")
    for name in ('a" FROM about --', "", "a b"):
        with pytest.raises(ValueError, match="no name of a table or column"):
            quoted(name)
    numbers: list[Any] = ["1) OR (1", 1.5, None]
    for number in numbers:
        with pytest.raises(TypeError):
            numerals([2, number])
