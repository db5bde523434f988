"""New inventories as copies of one that was migrated once.

What brings an older inventory up, and what fails on the way, is as ever. A test of the migrations of a new
inventory takes the fixture `real_migrations`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from backup.inventory.store import database
from backup.inventory.store.connections import Connections

_migrate = database.migrate
_migrated: list[bytes] = []


def quicken() -> None:
    """From now on an empty inventory becomes a copy of the first one."""
    database.migrate = _copy_or_migrate


@pytest.fixture
def real_migrations() -> Iterator[None]:
    """Each migration is run."""
    database.migrate = _migrate
    yield
    quicken()


def _copy_or_migrate(connections: Connections) -> None:
    file = connections.path
    if not os.path.isfile(file) or os.path.getsize(file) or os.path.exists(f"{file}-wal"):
        _migrate(connections)
    elif _migrated:
        with open(file, "r+b") as new:
            new.write(_migrated[0])
    else:
        _migrate(connections)
        with connections.outside() as made:
            _migrated.append(made.serialize())
