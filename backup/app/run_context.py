"""The context of runs that concern any vault: config, inventory, clock, stop, patience."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct, field

from backup.config import Config
from backup.inventory.database import Inventory
from backup.protocols import Clock, Progress
from backup.transfer.retry import Reach


class RunContext(Struct, frozen=True, kw_only=True):
    """The context of a run, the same for every vault; `stop` says whether it is asked to end."""

    config: Config
    inventory: Inventory
    clock: Clock
    progress: Progress
    stop: Callable[[], bool] = lambda: False
    reach: Reach = field(default_factory=Reach)
