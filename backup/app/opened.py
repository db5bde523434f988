"""The config's inventory, opened; apart from runs, since whoever only looks needs nothing else."""

from __future__ import annotations

from backup.config import Config
from backup.inventory.database import Inventory, open_inventory


def opened(config: Config) -> Inventory:
    """The config's inventory. `NoInventoryError` (10) if there is none."""
    return open_inventory(config.inventory_url, lock_directory=config.state_dir)
