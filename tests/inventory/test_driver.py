"""Rows go into the database by statements of many: all of them, once, and counted."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Engine, Integer, LargeBinary, MetaData, Table, create_engine

from backup.inventory.driver import insert_columns

METADATA = MetaData()
ROWS = Table(
    "rows",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("name", LargeBinary),
    Column("a", Integer),
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    made = create_engine(f"sqlite:///{tmp_path_factory.mktemp('driver')}/rows.sqlite")
    METADATA.create_all(made)
    yield made
    made.dispose()


def row(number: int) -> tuple[int, bytes, int]:
    return number, b"%d" % number, number % 7


@pytest.mark.parametrize("most", [None, 999, 30, 2])
@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(0, 2_500) | st.sampled_from([99, 100, 101, 999, 1000, 1001, 1100, 2099, 2100]),
    there=st.sets(st.integers(0, 2_500), max_size=30),
)
def test_each_row_comes_in_once_and_only_new_ones_count(
    engine: Engine, most: int | None, count: int, there: set[int]
) -> None:
    """Also where the database takes fewer values in a statement than it usually does."""
    with engine.connect() as tx:
        raw = tx.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        usual = raw.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
        columns = (range(count), (b"%d" % number for number in range(count)), [n % 7 for n in range(count)])
        before = sorted(there)
        insert_columns(tx, ROWS, (before, [b"%d" % one for one in before], [one % 7 for one in before]))
        try:
            raw.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, usual if most is None else most)
            new = insert_columns(tx, ROWS, columns, only_new=True)
        finally:
            raw.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, usual)
        found = [tuple(one) for one in tx.exec_driver_sql("SELECT number, name, a FROM rows ORDER BY number")]
        tx.rollback()
    assert found == [row(number) for number in sorted(there | set(range(count)))]
    assert new == len(set(range(count)) - there)


def test_a_row_that_is_there_is_an_error(engine: Engine) -> None:
    with engine.connect() as tx:
        with pytest.raises(sqlite3.IntegrityError):
            insert_columns(tx, ROWS, ([*range(1500), 7], [b""] * 1501, [0] * 1501))
        tx.rollback()
