"""The seeded inventory of the tests of views, behind a running page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backup.config import Config
from backup.inventory.store.database import Inventory
from tests.support.doubles import ManualClock
from tests.support.pages import Page, running_page
from tests.support.seeded_pages import NOW, config, inventory

__all__ = ["config", "inventory"]


@pytest.fixture(scope="session")
def page(config: Config, inventory: Inventory) -> Iterator[Page]:
    with running_page(config, clock=ManualClock(NOW)) as found:
        yield found
