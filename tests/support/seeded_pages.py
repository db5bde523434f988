"""An inventory of 50,000 entries and 100 snapshots for all tests of a process; full size by a variable."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from backup.config import Config, load_config
from backup.inventory.store.database import Inventory
from tests.support import campaigns
from tests.support.seeded_inventories import FIRST, seeded

ENTRIES = campaigns.share("NIGHTVAULT_PAGE_ENTRIES", 50000)
SNAPSHOTS = campaigns.share("NIGHTVAULT_PAGE_SNAPSHOTS", 100)
NOW = FIRST + timedelta(days=SNAPSHOTS - 1, hours=5)
CONFIG = """
[state]
dir = "{folder}"
[inventory]
url = "sqlite:///{folder}/inventory.sqlite"
[[vault]]
name = "cold"
kind = "s3"
bucket = "example"
region = "eu-central-1"
storage_class = "DEEP_ARCHIVE"
[[job]]
name = "web"
vault = "cold"
sources = ["/srv"]
schedule = "daily at 01:00"
timezone = "UTC"
[[job]]
name = "db"
vault = "cold"
sources = ["/db"]
schedule = "every 6h"
"""


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("page")
    (folder / "config.toml").write_text(CONFIG.format(folder=folder))
    return load_config(str(folder / "config.toml"))


@pytest.fixture(scope="session")
def inventory(config: Config) -> Iterator[Inventory]:
    made = seeded(Path(config.state_dir), entries=ENTRIES, snapshots=SNAPSHOTS)
    yield made
    made.close()
