"""What comes between: the power goes at a transaction, or something else happens at a call of the vault."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.backups import Site
from tests.support.doubles import FaultyVault, PowerCut


@contextmanager
def cut_transaction(site: Site, number: int) -> Iterator[None]:
    """The power goes when transaction `number` is to be committed; none begins after that."""
    connections = site.inventory.connections
    left = [number]

    def commit(connection: sqlite3.Connection) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise PowerCut(f"at transaction {number}")
        real_commit(connection)

    def begin(connection: sqlite3.Connection, *, writes: bool) -> None:
        if left[0] < 0:
            raise PowerCut("there is no power")
        real_begin(connection, writes=writes)

    real_commit, real_begin = connections.commit, connections.begin
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "commit", commit)
        patch.setattr(connections, "begin", begin)
        yield


class Calling(FaultyVault):
    """A vault at one call of which something else happens first."""

    def __init__(self, vault: Any, number: int, act: Callable[[], object]) -> None:
        super().__init__(vault)
        self._number, self._act = number, act

    def _meet(self, method: str, call: Callable[[], Any]) -> Any:
        if self.total == self._number:
            self._number = -1
            self._act()
        return super()._meet(method, call)
