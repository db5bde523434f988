"""New inventories as copies of one that was migrated once, and SQL that is compiled once for all of them.

What brings an older inventory up, and what fails on the way, is as ever. A test of the migrations of a new
inventory takes the fixture `real_migrations`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import Dialect, Engine

from backup.inventory import database

_migrate = database.migrate
_migrated: list[bytes] = []
_compiled: dict[Any, Any] = {}
_dialects: list[Dialect] = []  # compiled statements are those of one dialect


def quicken() -> None:
    """From now on an empty inventory becomes a copy of the first one, and all share what was compiled."""
    database.migrate = _copy_or_migrate
    setattr(database, "create_engine", _share_compiled)  # noqa: B010  a name that it imports


@pytest.fixture
def real_migrations() -> Iterator[None]:
    """Each migration is run."""
    database.migrate = _migrate
    yield
    quicken()


def _share_compiled(url: str, **options: Any) -> Engine:
    engine = create_engine(url, **options)
    if not _dialects:
        _dialects.append(engine.dialect)
    engine.dialect = _dialects[0]
    engine.update_execution_options(compiled_cache=_compiled)
    return engine


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
