"""What work on an inventory and its vaults is done with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from backup.config import Config
from backup.inventory.database import Inventory
from backup.protocols import Clock, Progress
from backup.transfer.retry import Reach


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """A context for work with any vault: config, inventory, clock, the stop signal, patience."""

    config: Config
    inventory: Inventory
    clock: Clock
    progress: Progress
    stop: Callable[[], bool] = lambda: False
    reach: Reach = field(default_factory=Reach)
