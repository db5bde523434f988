"""The report of a prune: what was condemned, deleted and kept, and what waits for which day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from msgspec import Struct, field

from backup.inventory.records.old_runs import OldRuns
from backup.inventory.store.states import StepStage
from backup.model import VaultName


class Group(Struct, frozen=True):
    """Archives with the same fate: how many, their bytes; a reason, days and money if there are any.

    `why` is a word for scripts, `detail` a sentence. `until`: the day on which they can be deleted, or
    deletion is tried again. `fee` is what deleting them now costs, `month` what a month of storing them does.
    """

    archives: int
    bytes: int
    why: str = ""
    detail: str = ""
    until: datetime | None = None
    grace_ends: datetime | None = None
    free_from: datetime | None = None
    fee: Decimal | None = None
    month: Decimal | None = None

    def document(self) -> dict[str, Any]:
        """The group as JSON."""
        return {
            "archives": self.archives,
            "bytes": self.bytes,
            "why": self.why,
            "detail": self.detail,
            "until": _time(self.until),
            "grace_ends": _time(self.grace_ends),
            "free_from": _time(self.free_from),
            "fee": _money(self.fee),
            "month": _money(self.month),
        }


def _old_runs(old: OldRuns) -> dict[str, Any]:
    return {"before": _time(old.before), "runs": old.runs, "restores": old.restores}


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _money(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:.6f}"


class PruneReport(Struct, frozen=True):
    """The result of one step. `is_plan`: nothing was done; `dropped`: snapshots gone for good, by job.

    `condemned_groups` are the archives of `condemned` by the day on which they can be deleted. `old_runs` are
    those removed from the inventory, None while the prune waits. `held`: a sentence for each job of which
    nothing is deleted before a person accepts a loss.
    """

    state: StepStage
    vault: VaultName
    waits_for: str = ""
    is_plan: bool = False
    may_delete: bool = True
    condemned: Group = Group(0, 0)
    condemned_groups: Sequence[Group] = ()
    taken_up: Group = Group(0, 0)
    deleted: Group = Group(0, 0)
    refused: Sequence[Group] = ()
    waiting: Sequence[Group] = ()
    deleted_elsewhere: int = 0
    dropped: Mapping[str, Sequence[str]] = field(default_factory=dict)
    old_runs: OldRuns | None = None
    recovery_lines: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    held: Sequence[str] = ()

    def document(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "state": self.state.value,
            "vault": self.vault,
            "waits_for": self.waits_for,
            "plan": self.is_plan,
            "may_delete": self.may_delete,
            "condemned": self.condemned.document(),
            "condemned_groups": [group.document() for group in self.condemned_groups],
            "taken_up": self.taken_up.document(),
            "deleted": self.deleted.document(),
            "refused": [group.document() for group in self.refused],
            "waiting": [group.document() for group in self.waiting],
            "deleted_elsewhere": self.deleted_elsewhere,
            "old_runs": None if self.old_runs is None else _old_runs(self.old_runs),
            "dropped": {job: list(ids) for job, ids in self.dropped.items()},
            "recovery_lines": dict(self.recovery_lines),
            "warnings": list(self.warnings),
            "held": list(self.held),
        }
