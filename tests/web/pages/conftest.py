"""One read of the seeded inventory, for each test of views."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest

from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from tests.support.seeded_pages import NOW, config, inventory

__all__ = ["config", "inventory"]


@pytest.fixture
def tx(inventory: Inventory) -> Iterator[Transaction]:
    with inventory.reading() as found:
        yield found


@pytest.fixture
def now() -> datetime:
    return NOW
