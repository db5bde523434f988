"""One step of a prune: list, decide, delete what is due, condemn what is not needed any more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Row

from backup.archiver.amend import Amender, amending
from backup.format import records
from backup.format.catalog import Record
from backup.inventory import pruning, runs
from backup.inventory.archives import ArchiveState
from backup.inventory.database import Transaction
from backup.inventory.need import kept_snapshots
from backup.inventory.pruning import StoredArchive
from backup.inventory.runs import JobRow, RunKind
from backup.inventory.schema import micros
from backup.inventory.stages import StepStage
from backup.model import PackKind
from backup.protocols import phase
from backup.pruner.context import PruneContext
from backup.pruner.delete import Deleted, delete_decided
from backup.pruner.groups import condemned_groups, group_of, refused_groups, waiting_groups
from backup.pruner.listed import Shown, read_listing, require_same_time
from backup.pruner.needed import needed_archives
from backup.pruner.report import PruneReport
from backup.retention.prune import PrunedArchive, PrunePlan, PruneRules, Why, plan_prune
from backup.transfer.retrievals.listing import THE_LIST, newest_kept_head, see_to_listing

_NOTHING = Deleted((), ())
_PACKS_A_RECORD = 50_000
_LISTS_ARE_LATE = timedelta(days=40)  # a list may show what was deleted before it, for a day or two


def prune(context: PruneContext, *, max_fee: Decimal = Decimal(0), only_plan: bool = False) -> PruneReport:
    """One step. "waiting" while the vault makes its list, which may take hours: nothing was done then.

    `max_fee` (dollars) pays for deletions before the vault's minimum duration is over, and lifts nothing
    else. `LockedError` while a backup runs; `PruneStoppedError` says what is not as it should be.
    """
    with amending(context.keys, context.backup, context.sending) as amender:
        return _Prune(context, amender, max_fee).step(only_plan=only_plan)


@dataclass(frozen=True, slots=True)
class _Found:
    """What a decision was made of, and the decision."""

    archives: Mapping[int, StoredArchive]
    shown: Shown
    rules: PruneRules
    plan: PrunePlan
    marks: Sequence[tuple[int, ...]]


class _Prune:
    """One step, under the lock."""

    def __init__(self, context: PruneContext, amender: Amender, max_fee: Decimal) -> None:
        self._context = context
        self._inventory = context.backup.inventory
        self._vault = context.backup.vault
        self._clock = context.backup.clock
        self._amender = amender
        self._max_fee = max_fee
        self._prices = context.prices

    def step(self, *, only_plan: bool) -> PruneReport:
        """List, decide, delete, condemn."""
        require_same_time(self._vault, self._clock.now(), self._context.patience)
        waits_for, head = self._listing()
        if head is None:
            return PruneReport(StepStage.WAITING, self._vault.name, waits_for=waits_for or THE_LIST)
        with self._inventory.reading() as tx:
            found = self._decide(tx, head)
            report = self._report(found, is_plan=only_plan)
            if only_plan:
                return replace(report, dropped=self._would_drop(tx, found))
        elsewhere = self._settle_elsewhere(found)
        done = self._delete(found, head)
        report = replace(
            report,
            deleted=replace(group_of(done.gone, self._prices), fee=report.deleted.fee),
            refused=refused_groups(done, self._prices),
            deleted_elsewhere=elsewhere,
        )
        return self._amend(found, report)

    def _listing(self) -> tuple[str, Row[Any] | None]:
        """A list as new as the vault gives; newer than the newest condemnation where that is possible."""
        context = self._context
        with self._inventory.reading() as tx:
            since = pruning.newest_condemnation(
                tx, self._vault.name, before=self._clock.now() - context.grace
            )
        waits_for = see_to_listing(
            self._inventory,
            self._vault,
            self._clock,
            context.patience,
            context.backup.progress.note,
            since=since,
        )
        if waits_for:
            return waits_for, None
        with self._inventory.reading() as tx:
            return "", newest_kept_head(tx, self._vault)

    # Decide.

    def _decide(self, tx: Transaction, head: Row[Any]) -> _Found:
        """What is to be done, from one view of the inventory."""
        now = self._clock.now()
        stored = pruning.stored_archives(tx, self._vault.name)
        shown = read_listing(tx, self._inventory, self._vault, head, stored, now)
        needed = self._needed(tx)
        longest = timedelta(seconds=pruning.longest_run(tx))
        rules = PruneRules(
            grace=max(self._context.grace, longest),
            listed_before=shown.until if self._context.deleting is not None else None,
            max_fee=self._max_fee,
        )
        plan = plan_prune(map(self._pruned, stored), needed, rules, now=now, fee=self._prices.fee)
        return _Found({one.number: one for one in stored}, shown, rules, plan, pruning.snapshot_marks(tx))

    def _needed(self, tx: Transaction) -> set[int]:
        """The numbers of archives that something kept needs."""
        needed = needed_archives(tx, self._vault.name, kept_snapshots(tx))
        return needed | pruning.archives_of_open_restores(tx)

    def _pruned(self, one: StoredArchive) -> PrunedArchive:
        return PrunedArchive(
            number=one.number,
            pack_id=one.pack_id,
            size=one.size,
            stored_at=one.stored_at,
            free_at=one.stored_at + self._minimum(one.kind),
            is_condemned=one.is_condemned,
            is_decided=one.state is ArchiveState.DELETING,
            condemned_at=one.condemned_at,
            told_at=one.told_at,
            retry_at=one.retry_at,
            refusal=one.refusal,
            run_is_open=one.run_is_open,
            kind=one.kind,
        )

    def _minimum(self, kind: PackKind) -> timedelta:
        """How long the vault bills packs of that kind at least; hot catalogs may be in another class."""
        traits = self._vault.traits
        if kind is PackKind.CATALOG and traits.keeps_metadata_hot:
            return self._prices.minimum(kind) or timedelta(0)
        return traits.minimum_storage

    # Delete.

    def _settle_elsewhere(self, found: _Found) -> int:
        """Record condemned archives that the list lacks as deleted: somebody else did it."""
        gone = [
            one.number
            for one in found.archives.values()
            if one.is_condemned and one.number in found.shown.absent and one.stored_at < found.shown.until
        ]
        if gone:
            with self._inventory.writing() as tx:
                pruning.record_deleted(tx, gone, self._clock.now())
        return len(gone)

    def _delete(self, found: _Found, head: Row[Any]) -> Deleted:
        """Record what goes in the transaction that sees the same snapshots as the decision; then delete."""
        vault = self._context.deleting
        due = [found.archives[one.number] for one in found.plan.delete]
        due = [one for one in due if one.number not in found.shown.absent]
        if vault is None or not due:
            return _NOTHING
        with self._inventory.writing() as tx:
            if pruning.snapshot_marks(tx) != found.marks:
                again = {one.number for one in self._decide(tx, head).plan.delete}
                due = [one for one in due if one.number in again]
            pruning.decide_deletion(tx, [one.number for one in due], self._clock.now())
        total = sum(one.size for one in due)
        title = f"Deleting from {self._vault.name}"
        with phase(self._context.backup.progress, title, total, counts="archive"):
            return delete_decided(due, vault, self._context)

    # Condemn, and say which snapshots are gone for good.

    def _amend(self, found: _Found, report: PruneReport) -> PruneReport:
        """One catalog for each job that something changes for, each true by itself."""
        with self._inventory.reading() as tx:
            beyond = pruning.forgotten_beyond_recall(tx, going=self._due_elsewhere(found))
            jobs = {one.number: one for one in runs.list_jobs(tx, self._vault.name)}
            names = pruning.snapshot_ids(tx)
        changes = self._changes(found, beyond, jobs)
        lines: dict[str, str] = {}
        dropped: dict[str, list[str]] = {}
        warnings = list(report.warnings)
        for number, amendment in sorted(changes.items()):
            job = jobs[number]
            told = {"condemned": report.condemned.document(), "deleted": report.deleted.document()}
            amended = self._amender.amend(RunKind.PRUNE, job, amendment, told)
            lines[job.name] = amended.recovery_line
            warnings += amended.warnings
            if number in beyond:
                dropped[job.name] = [names[number, one] for one in beyond[number]]
        with self._inventory.writing() as tx:
            pruning.drop_contents(tx, self._vault.name)
            pruning.forget_deleted(tx, self._clock.now() - _LISTS_ARE_LATE)
        return replace(report, recovery_lines=lines, dropped=dropped, warnings=warnings)

    def _due_elsewhere(self, found: _Found) -> set[int]:
        """What this server would delete now if it might: it gives up the snapshots that need it.

        Whoever deletes in its place sees only catalogs. A snapshot that could still be taken back would stand
        in the way, or lose its archives in the moment in which it is taken back.
        """
        if self._context.deleting is not None:
            return set()
        now = self._clock.now()
        waiting = (one for one in found.plan.waiting if one.why is Why.LISTING)
        return {one.archive.number for one in waiting if one.archive.free_at <= now}

    def _changes(
        self, found: _Found, beyond: Mapping[int, Sequence[int]], jobs: Mapping[int, JobRow]
    ) -> dict[int, list[Record]]:
        at = micros(self._clock.now())
        condemned: dict[int, list[bytes]] = defaultdict(list)
        taken_up: dict[int, list[bytes]] = defaultdict(list)
        anyone = min(jobs, default=0)
        unsaid = [one.archive for one in found.plan.waiting if one.why is Why.CATALOGS]
        for one in (*found.plan.condemn, *unsaid):
            archive = found.archives[one.number]
            for job in (archive.jobs or {anyone}) - archive.condemned_by.keys():
                condemned[job].append(one.pack_id)
        for one in found.plan.take_up:
            for job in found.archives[one.number].condemned_by.keys() or {anyone}:
                taken_up[job].append(one.pack_id)
        changes: dict[int, list[Record]] = defaultdict(list)
        for job, numbers in beyond.items():
            changes[job].append(records.DroppedRecord(list(numbers)))
        for job, packs in taken_up.items():
            changes[job] += [records.TakenUpRecord(some) for some in _pieces(packs)]
        for job, packs in condemned.items():
            changes[job] += [records.CondemnedRecord(some, at) for some in _pieces(packs)]
        return {job: some for job, some in changes.items() if job in jobs}

    def _would_drop(self, tx: Transaction, found: _Found) -> dict[str, list[str]]:
        """The forgotten snapshots, by job, that could not come back after what is planned."""
        going = {one.number for one in found.plan.delete} | self._due_elsewhere(found)
        jobs = {one.number: one.name for one in runs.list_jobs(tx, self._vault.name)}
        names = pruning.snapshot_ids(tx)
        beyond = pruning.forgotten_beyond_recall(tx, going=going)
        return {
            jobs[job]: [names[job, one] for one in numbers] for job, numbers in beyond.items() if job in jobs
        }

    def _report(self, found: _Found, *, is_plan: bool) -> PruneReport:
        plan, grace, now, prices = found.plan, found.rules.grace, self._clock.now(), self._prices
        return PruneReport(
            StepStage.DONE,
            self._vault.name,
            is_plan=is_plan,
            may_delete=self._context.deleting is not None,
            condemned=group_of(plan.condemn, prices),
            condemned_groups=condemned_groups(plan.condemn, grace, now, prices),
            taken_up=group_of(plan.take_up, prices),
            deleted=replace(group_of(plan.delete, prices), fee=plan.fee or None),
            waiting=waiting_groups(plan.waiting, grace, now, prices),
        )


def _pieces(packs: Sequence[bytes]) -> Iterable[list[bytes]]:
    for start in range(0, len(packs), _PACKS_A_RECORD):
        yield list(packs[start : start + _PACKS_A_RECORD])
