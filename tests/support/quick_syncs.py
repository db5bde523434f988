"""Syncs that cost nothing: no test takes the power away, so what the system has in its cache stays.

Programs that tests start sync as ever. A test of syncs themselves takes the fixture `real_syncs`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from backup.inventory.store.connections import Connections
from backup.restorer.writer import directories

if TYPE_CHECKING:
    from _typeshed import HasFileno


_SYNCS: list[tuple[Any, str]] = [(os, "fsync"), (os, "fdatasync"), (directories, "sync_file_system")]
_REAL_OPEN = Connections.open
_REAL = [(place, name, getattr(place, name)) for place, name in _SYNCS]


def quicken() -> None:
    """Let this process's syncs do nothing from now on, but fail on a handle that is none."""
    for place, name, _ in _REAL:
        setattr(place, name, _sync)
    setattr(Connections, "open", _open)  # noqa: B010  a method


@contextmanager
def real() -> Iterator[None]:
    """Syncs as they are, for a while; databases that are opened meanwhile keep theirs."""
    setattr(Connections, "open", _REAL_OPEN)  # noqa: B010  a method
    for place, name, sync in _REAL:
        setattr(place, name, sync)
    try:
        yield
    finally:
        quicken()


@pytest.fixture
def real_syncs() -> Iterator[None]:
    """Syncs as they are."""
    with real():
        yield


def _sync(fd: int | HasFileno) -> None:
    os.fstat(fd if isinstance(fd, int) else fd.fileno())


def _open(self: Connections) -> sqlite3.Connection:
    connection = _REAL_OPEN(self)
    connection.execute("PRAGMA synchronous = OFF")
    return connection
