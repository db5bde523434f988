"""The SQL that goes to the driver meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from backup.inventory.store import driver
from backup.inventory.store.connections import Connections, Transaction


@contextmanager
def listening_to_sql(hear: Callable[[str], None]) -> Iterator[None]:
    """Each statement is told before it is executed; one for very many rows is one statement."""

    def execute(tx: Transaction, sql: str, values: tuple[Any, ...]) -> Any:
        hear(sql)
        return real(tx, sql, values)

    def insert(tx: Transaction, sql: str, shared: tuple[Any, ...], columns: Sequence[Sequence[Any]]) -> int:
        hear(sql)
        return real_insert(tx, sql, shared, columns)

    def begin(self: Connections, connection: Any, *, writes: bool) -> None:
        hear("BEGIN")
        real_begin(self, connection, writes=writes)

    real, real_insert, real_begin = driver.executed, driver.inserted, Connections.begin
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "executed", execute)
        patch.setattr(driver, "inserted", insert)
        patch.setattr(Connections, "begin", begin)
        yield
