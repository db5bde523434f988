"""The context of a drill: its jobs, its limit, and what it reads and restores with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from backup.checker.context import CheckContext
from backup.checker.read_sample import Piece
from backup.cost.limit import CostLimit
from backup.driller.sample import Sample
from backup.inventory.records.readings import Grade
from backup.model import JobName
from backup.restorer.context import RestoreContext


class DrillContext(CheckContext, frozen=True, kw_only=True):
    """All inputs of a drill of a whole vault, or of `jobs`; it reads as a check does.

    `limit` is its monthly limit of cost, None: no limit. `limit_on` returns it with the cost of reading some
    pieces. `scratch` is the directory below which it may write, and nowhere else. `loads`: with a recovery
    key it loads dumps of databases; `programs` are the directories of their servers' programs, by kind.
    """

    name: str
    jobs: Sequence[JobName] | None
    sample: Sample
    limit: Decimal | None
    currency: str
    limit_on: Callable[[Sequence[Piece]], CostLimit]
    restore: RestoreContext
    scratch: str
    loads: bool = False
    programs: Mapping[str, str] = {}

    @property
    def with_key(self) -> Grade:
        """The grade that it has with a recovery key."""
        return Grade.LOADED if self.loads else Grade.OPENED
