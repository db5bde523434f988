"""The report of a prune: what was condemned, deleted and kept, and what waits for which day."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from msgspec import Struct, field

from backup.inventory.records.old_runs import OldRuns
from backup.inventory.store.states import StepStage
from backup.kinds import Outcome
from backup.model import VaultName
from backup.reports import Fact, warned
from backup.wording import counted, money, size

_MOST_NAMED = 12


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

    @property
    def amount(self) -> str:
        """Its archives and their size, in words."""
        return f"{counted(self.archives, 'archive')}, {size(self.bytes)}"

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


class PruneReport(Struct, frozen=True, rename={"is_plan": "plan"}):
    """The result of one step. `is_plan`: nothing was done; `dropped`: snapshots gone for good, by job.

    `condemned_groups` are the archives of `condemned` by the day on which they can be deleted. `old_runs` are
    those removed from the inventory, None while the prune waits. `locked`: those of the condemned and waiting
    ones that are locked, by the ends that the vault has answered. `held`: a sentence for each job of which
    nothing is deleted before a person accepts a loss. `forgets`: of a plan, the copies that the next copy of
    each job forgets there by its own policy.
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
    locked: Sequence[Group] = ()
    deleted_elsewhere: int = 0
    dropped: Mapping[str, Sequence[str]] = field(default_factory=dict)
    old_runs: OldRuns | None = None
    recovery_lines: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    held: Sequence[str] = ()
    forgets: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        """The run in words."""
        return f"prune of vault {self.vault}"

    @property
    def outcome(self) -> Outcome:
        """Partial if an admin must look: a refusal without a date, or a warning."""
        is_partial = bool(self.warnings) or any(group.until is None for group in self.refused)
        return Outcome.PARTIAL if is_partial else Outcome.DONE

    def facts(self, currency: str = "USD") -> Iterator[Fact]:
        """Warnings, what was refused and is gone for good, counts; then a row for each fate."""
        yield from warned(self.warnings)
        for group in self.refused:
            until = f"until {group.until:%Y-%m-%d}" if group.until else "for an unknown time"
            level = logging.INFO if group.until else logging.WARNING
            kept = f"the vault keeps {counted(group.archives, 'archive')} {until}: {group.detail}"
            yield Fact(kept, level=level)
        for group in self.locked:
            yield Fact(f"{counted(group.archives, 'archive')} {_stay(group)}")
        for job, ids in self.dropped.items():
            yield Fact(f"{counted(len(ids), 'forgotten snapshot')} of job {job} gone for good")
        waiting = sum(group.archives for group in self.waiting)
        yield Fact(
            f"{counted(self.condemned.archives, 'archive')} condemned, "
            f"{self.deleted.archives} deleted ({size(self.deleted.bytes)}), "
            f"{self.taken_up.archives} in use again, {waiting} wait"
        )
        yield from self._fates(currency)

    def _fates(self, currency: str) -> Iterator[Fact]:
        fates = [
            ("condemned", self.condemned, _one_or(self.condemned, "no kept snapshot needs", "it", "them")),
            ("taken up", self.taken_up, _one_or(self.taken_up, "needed again:", "it stays", "they stay")),
            ("deleted", self.deleted, _saved(self.deleted, currency)),
        ]
        for label, group, why in fates:
            if group.archives:
                yield Fact(f"{group.amount}: {why}", label)
        if self.deleted_elsewhere:
            yield Fact(f"{counted(self.deleted_elsewhere, 'archive')}, deleted elsewhere", "gone")
        for group in self.refused:
            yield Fact(f"{group.amount}: {_kept(group)}", "refused")
        for group in self.locked:
            yield Fact(f"{group.amount}: {_stay(group)}", "locked")
        for job, ids in self.dropped.items():
            yield Fact(_named(job, ids), "gone for good")
        for job, ids in self.forgets.items():
            yield Fact(f"{_named(job, ids, 'copy')}, by the next copy's policy", "to be forgotten")
        old = self.old_runs
        if old is not None and (old.runs or old.restores):
            yield Fact(_removed(old, is_plan=self.is_plan), "old runs")

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
            "locked": [group.document() for group in self.locked],
            "deleted_elsewhere": self.deleted_elsewhere,
            "old_runs": None if self.old_runs is None else _old_runs(self.old_runs),
            "dropped": {job: list(ids) for job, ids in self.dropped.items()},
            "recovery_lines": dict(self.recovery_lines),
            "warnings": list(self.warnings),
            "held": list(self.held),
            "forgets": {job: list(ids) for job, ids in self.forgets.items()},
        }


def _one_or(group: Group, words: str, of_one: str, of_many: str) -> str:
    """Words that end by whether they are of one archive or of many."""
    return f"{words} {of_one if group.archives == 1 else of_many}"


def _saved(group: Group, currency: str) -> str:
    saved = f"{money(group.month, currency)} a month less" if group.month else "gone from the vault"
    if not group.fee:
        return saved
    their = _one_or(group, "since", "its", "their")
    return f"{saved}\nfor {money(group.fee, currency)}, {their} minimum duration was not over"


def _stay(group: Group) -> str:
    day = "" if group.until is None else f" until {group.until.astimezone():%Y-%m-%d}"
    if group.archives == 1:
        return f"stays{day}, its lock ends then"
    return f"stay{day}, their locks end then"


def _kept(group: Group) -> str:
    until = "kept by the vault"
    if group.until is not None:
        until = f"kept until {group.until.astimezone():%Y-%m-%d %H:%M}"
    return f"{until}: {group.detail}" if group.detail else until


def _named(job: str, ids: Sequence[str], what: str = "forgotten snapshot") -> str:
    """Snapshots of a job, the first of them by their ids."""
    names = ", ".join(snapshot_id[:8] for snapshot_id in ids[:_MOST_NAMED])
    more = f" and {len(ids) - _MOST_NAMED} more" if len(ids) > _MOST_NAMED else ""
    return f"{counted(len(ids), what)} of job {job}: {names}{more}"


def _removed(old: OldRuns, *, is_plan: bool) -> str:
    """The records that the inventory does without."""
    parts = [(old.runs, "run"), (old.restores, "restore")]
    what = " and ".join(counted(count, noun) for count, noun in parts if count)
    end = "would be removed" if is_plan else "removed"
    return f"records of {what} from before {old.before.astimezone():%Y-%m-%d} {end}: nothing needs them"
