"""New inventories as copies of one that was migrated once: tests make thousands of them.

What brings an older inventory up, and what fails on the way, is as ever. A test of the migrations of a new
inventory takes the fixture `real_migrations`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.engine import Engine

from backup.inventory import database

_migrate = database.migrate
_migrated: list[bytes] = []


def quicken() -> None:
    """Let an inventory that is empty become a copy of the first one from now on."""
    database.migrate = _copy_or_migrate


@pytest.fixture
def real_migrations() -> Iterator[None]:
    """Each migration is run."""
    database.migrate = _migrate
    yield
    quicken()


def _copy_or_migrate(engine: Engine) -> None:
    file = engine.url.database or ""
    if not os.path.isfile(file) or os.path.getsize(file) or os.path.exists(f"{file}-wal"):
        _migrate(engine)
    elif _migrated:
        with open(file, "r+b") as new:
            new.write(_migrated[0])
    else:
        _migrate(engine)
        with engine.connect() as connection:
            made: Any = connection.connection.driver_connection
            _migrated.append(made.serialize())
