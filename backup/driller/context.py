"""The context of a drill: its jobs, its limit, and what it reads and restores with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

from msgspec import Struct

from backup.checker.context import CheckContext
from backup.checker.read_sample import Piece
from backup.cost.limit import CostLimit
from backup.driller.sample import Sample
from backup.inventory.store.database import Inventory
from backup.model import JobName
from backup.protocols import Clock, Vault
from backup.restorer.context import RestoreContext


class DrillContext(Struct, frozen=True):
    """All inputs of a drill: of a whole vault, or of `jobs`.

    `limit` is its monthly limit of cost, None: no limit. `limit_on` returns it with the cost of reading some
    pieces. `scratch` is the directory below which it may write, and nowhere else.
    """

    name: str
    jobs: Sequence[JobName] | None
    sample: Sample
    limit: Decimal | None
    currency: str
    limit_on: Callable[[Sequence[Piece]], CostLimit]
    check: CheckContext
    restore: RestoreContext
    scratch: str

    @property
    def inventory(self) -> Inventory:
        """The inventory."""
        return self.check.inventory

    @property
    def vault(self) -> Vault:
        """The vault."""
        return self.check.vault

    @property
    def clock(self) -> Clock:
        """The clock."""
        return self.check.clock
