"""One step of a prune: list, decide, delete what is due, condemn what is no longer needed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from msgspec.structs import replace

from backup.catalogs.amend import Amender
from backup.format import records
from backup.format.catalog import Record
from backup.inventory.content import copied, copied_pruning, pruning
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.locks import lasting_locks
from backup.inventory.content.packed import index_chunks
from backup.inventory.questions import compared
from backup.inventory.records import runs
from backup.inventory.records.old_runs import find_old_runs, remove_old_runs
from backup.inventory.records.retrievals import ListingRow
from backup.inventory.records.runs import JobRow
from backup.inventory.store.connections import Transaction
from backup.inventory.store.states import StepStage
from backup.inventory.store.times import micros
from backup.kinds import RunKind
from backup.model import VaultName
from backup.protocols import phase
from backup.pruner.context import PruneContext
from backup.pruner.decide import Decider, DecisionAndRows, changes, decided_by
from backup.pruner.delete import Deleted, delete_decided
from backup.pruner.groups import (
    condemned_groups,
    group_of,
    locked_groups,
    refused_groups,
    until_unlocked,
    waiting_groups,
)
from backup.pruner.listed import require_same_time
from backup.pruner.report import PruneReport
from backup.retention.prune import PrunedArchive, PrunePlan, Waiting, Why
from backup.transfer.retrievals.confirm import confirm_shown
from backup.transfer.retrievals.listing import THE_LIST, newest_kept_head, see_to_listing

_PACKS_A_RECORD = 50_000
_LISTS_ARE_LATE = timedelta(days=40)  # a list may show what was deleted before it, for a day or two


def prune(context: PruneContext, *, max_fee: Decimal = Decimal(0), only_plan: bool = False) -> PruneReport:
    """Run one step. "waiting" while the vault prepares its list, which may take hours; then nothing was done.

    `max_fee` (dollars) is the limit for fees of deletions before the minimum duration is over; it overrides
    no other rule. `LockedError` while a backup runs; `PruneStoppedError` says what is wrong.
    """
    with context.amending(only_plan=only_plan) as amender:
        step = _Prune(context, amender, max_fee)
        return step.plan() if only_plan else step.step()


class _Prune:
    """One step, under the lock."""

    def __init__(self, context: PruneContext, amender: Amender, max_fee: Decimal) -> None:
        self._context = context
        self._inventory = context.inventory
        self._vault = context.vault
        self._clock = context.clock
        self._amender = amender
        self._prices = context.prices
        self._decider = Decider(context, max_fee)
        self._deleted = Deleted()

    def plan(self) -> PruneReport:
        """Return what a step would do now; only the list is requested."""
        found, waits_for = self._find(is_plan=True)
        if found is None:
            return self._waiting(waits_for)
        with self._inventory.reading() as tx:
            report = replace(self._report(found, is_plan=True), dropped=self._would_drop(tx, found))
            return replace(report, old_runs=find_old_runs(tx, self._context.keep_runs, self._clock.now()))

    def step(self) -> PruneReport:
        """List, decide, delete, condemn; then remove old runs from the inventory."""
        found, waits_for = self._find(is_plan=False)
        if found is None:
            return self._waiting(waits_for)
        missing = self._settle_missing(found)
        if missing:
            found = self._found_again()
        report = self._report(found, is_plan=False)
        self._delete(found)
        report = replace(
            report,
            deleted=replace(group_of(self._deleted.gone, self._prices), fee=self._paid(found.plan)),
            refused=refused_groups(self._deleted, self._prices),
            deleted_elsewhere=missing,
        )
        report = self._amend(found, report)
        keep, now = self._context.keep_runs, self._clock.now()
        return replace(report, old_runs=remove_old_runs(self._inventory, keep, now))

    def _waiting(self, waits_for: str) -> PruneReport:
        return PruneReport(StepStage.WAITING, self._vault.name, waits_for=waits_for)

    def _find(self, *, is_plan: bool) -> tuple[DecisionAndRows | None, str]:
        """The decision; None and what it waits for without a list. A plan records nothing."""
        self._since = self._clock.now()
        self._has_clock = require_same_time(self._vault, self._clock, self._context.patience)
        waits_for, head = self._listing()
        if head is None:
            return None, waits_for or THE_LIST
        self._head = head
        if not is_plan:  # else copies that no list had shown would be kept until the next prune
            confirm_shown(self._inventory, self._vault)
            with self._inventory.writing() as tx:
                index_chunks(tx)  # a copy of a chunk that nobody finds would count for nothing
        return self._found_again(), ""

    def _decide(self, tx: Transaction) -> DecisionAndRows:
        return self._decider.decide(tx, self._head, has_clock=self._has_clock)

    def _found_again(self) -> DecisionAndRows:
        with self._inventory.reading() as tx:
            return self._decide(tx)

    def _listing(self) -> tuple[str, ListingRow | None]:
        """A list as new as the vault gives; newer than the newest condemnation where that is possible."""
        context = self._context
        with self._inventory.reading() as tx:
            before, name = self._clock.now() - context.grace, self._vault.name
            found = pruning.newest_condemnation, copied_pruning.newest_condemnation
            times = [newest(tx, name, before=before) for newest in found]
            since = max((at for at in times if at is not None), default=None)
        waits_for = see_to_listing(
            self._inventory,
            self._vault,
            self._clock,
            context.patience,
            context.progress.note,
            since=since,
        )
        if waits_for:
            return waits_for, None
        with self._inventory.reading() as tx:
            return "", newest_kept_head(tx, self._vault)

    def _paid(self, plan: PrunePlan) -> Decimal | None:
        """Return the fees of early deletion, of the archives that are gone."""
        gone = {archive.number for archive in self._deleted.gone}
        fees = [
            archive.fee
            for archive in plan.early
            if archive.fee is not None and archive.archive.number in gone
        ]
        return sum(fees, Decimal(0)) or None

    # Delete.

    def _settle_missing(self, found: DecisionAndRows) -> int:
        """Record condemned archives that the list lacks as deleted elsewhere; returns how many.

        One that a kept snapshot needs again is lost: the next backup stores again what it can.
        """
        missing = {
            number for number in found.shown.missing if found.archives[number].is_condemned
        }  # what else is missing a check finds and tells
        needed = {archive.number for archive in found.plan.take_up} & missing
        if missing:
            now, name = self._clock.now(), self._vault.name
            with self._inventory.writing() as tx:
                deleted = [found.archives[number] for number in sorted(missing - needed)]
                compared.record(tx, name, deleted, ArchiveState.DELETED, now)
                lost = [found.archives[number] for number in sorted(needed)]
                compared.record(tx, name, lost, ArchiveState.LOST, now)
        return len(missing)

    def _delete(self, found: DecisionAndRows) -> None:
        """Record what goes in the transaction that sees the same as the decision; then delete."""
        vault = self._context.deleting
        due = [found.archives[archive.number] for archive in found.plan.delete]
        if vault is None or not due:
            return
        with self._inventory.writing() as tx:
            now = self._clock.now()
            if decided_by(tx) != found.marks:
                still = {archive.number for archive in self._decide(tx).plan.delete}
                due = [archive for archive in due if archive.number in still]
            pruning.decide_deletion(tx, [archive.number for archive in due if not archive.is_copy], now)
            copies = [archive.number for archive in due if archive.is_copy]
            copied_pruning.decide_deletion(tx, copied.vault_number(tx, self._vault.name), copies, now)
        total = sum(archive.size for archive in due)
        title = f"Deleting from {self._vault.name}"
        with phase(self._context.progress, title, total, counts="archive"):
            self._deleted = delete_decided(due, vault, self._context, self._head.number, self._since)

    # Condemn, and say which snapshots are gone for good.

    def _amend(self, found: DecisionAndRows, report: PruneReport) -> PruneReport:
        """One catalog for each job that something changes for, each true by itself."""
        with self._inventory.reading() as tx:
            going = self._due_elsewhere(found)
            own, guests = self._jobs(tx)
            beyond = self._beyond(tx, going, own)
            names = pruning.snapshot_ids(tx)
        jobs = own | guests
        amendments = self._amendments(found, beyond, own, guests)
        lines: dict[str, str] = {}
        dropped: dict[str, list[str]] = {}
        warnings = list(report.warnings)
        for number, amendment in sorted(amendments.items()):
            job = jobs[number]
            told = {"condemned": report.condemned.document(), "deleted": report.deleted.document()}
            amended = self._amender.amend(RunKind.PRUNE, job, amendment, told)
            lines[job.name] = amended.recovery_line
            warnings += amended.warnings
            if number in beyond:
                dropped[job.name] = [names[number, snapshot_number] for snapshot_number in beyond[number]]
        with self._inventory.writing() as tx:
            pruning.drop_contents(tx, self._vault.name)
            copied_pruning.forget_deleted(tx, self._clock.now() - _LISTS_ARE_LATE)
            pruning.forget_deleted(tx, self._clock.now() - _LISTS_ARE_LATE)
        return replace(report, recovery_lines=lines, dropped=dropped, warnings=warnings)

    def _due_elsewhere(self, found: DecisionAndRows) -> set[int]:
        """The archives that this server would delete now if it might: it gives up the snapshots that need it.

        Whoever deletes in its place sees only catalogs. A snapshot that could still be taken back would stand
        in the way, or lose its archives in the moment in which it is taken back.
        """
        return {archive.archive.number for archive in found.plan.waiting if archive.why is Why.OTHERS}

    def _jobs(self, tx: Transaction) -> tuple[dict[int, JobRow], dict[int, JobRow]]:
        """The jobs of the vault, and those of other vaults that have copies here."""
        own = {row.number: row for row in runs.list_jobs(tx, self._vault.name)}
        some = copied.jobs_copied_to(tx, copied.vault_number(tx, self._vault.name))
        names = runs.job_names_by_number(tx)
        rows = [runs.find_job(tx, names[number]) for number in some]
        return own, {row.number: row for row in rows if row is not None}

    def _beyond(
        self, tx: Transaction, going: set[int], own: Mapping[int, JobRow]
    ) -> dict[int, Sequence[int]]:
        """The forgotten snapshots, by job, that cannot come back from here once these archives are gone."""
        beyond = pruning.forgotten_beyond_recall(tx, going=going)
        mine = {job: numbers for job, numbers in beyond.items() if job in own}
        here = copied.vault_number(tx, self._vault.name)
        return {**mine, **copied_pruning.beyond_recall(tx, here, going)}

    def _amendments(
        self,
        found: DecisionAndRows,
        beyond: Mapping[int, Sequence[int]],
        own: Mapping[int, JobRow],
        guests: Mapping[int, JobRow],
    ) -> dict[int, list[Record]]:
        now = self._clock.now()
        said = changes(found.plan, found.archives, own.keys(), now, guests.keys())
        amendments: dict[int, list[Record]] = defaultdict(list)
        for job, numbers in beyond.items():
            amendments[job].append(records.DroppedRecord(list(numbers)))
        for job, change in said.items():
            amendments[job] += [records.TakenUpRecord(piece) for piece in _pieces(change.taken_up)]
            amendments[job] += [
                records.CondemnedRecord(piece, micros(now)) for piece in _pieces(change.condemned)
            ]
        return amendments

    def _would_drop(self, tx: Transaction, found: DecisionAndRows) -> dict[str, list[str]]:
        """The forgotten snapshots, by job, that could not come back after what is planned."""
        going = {archive.number for archive in found.plan.delete} | self._due_elsewhere(found)
        own, guests = self._jobs(tx)
        jobs, names = own | guests, pruning.snapshot_ids(tx)
        return {
            jobs[job].name: [names[job, number] for number in numbers]
            for job, numbers in self._beyond(tx, going, own).items()
        }

    def _report(self, found: DecisionAndRows, *, is_plan: bool) -> PruneReport:
        plan, grace, now, prices = found.plan, found.rules.grace, self._clock.now(), self._prices
        stays = [*plan.condemn, *(wait.archive for wait in plan.waiting), *(plan.delete if is_plan else ())]
        locks = self._locks(found, stays)
        free = [archive for archive in plan.delete if not is_plan or archive.number not in locks]
        waiting = until_unlocked(plan.waiting, locks)
        if is_plan:
            due = (archive for archive in plan.delete if archive.number in locks)
            waiting += [Waiting(archive, Why.LOCKED, locks[archive.number]) for archive in due]
        return PruneReport(
            StepStage.DONE,
            self._vault.name,
            is_plan=is_plan,
            may_delete=self._context.deleting is not None,
            condemned=group_of(plan.condemn, prices),
            condemned_groups=condemned_groups(plan.condemn, locks, grace, now, prices),
            taken_up=group_of(plan.take_up, prices),
            deleted=replace(group_of(free, prices), fee=plan.fee or None),
            waiting=waiting_groups(waiting, grace, now, prices),
            locked=locked_groups(stays, locks, prices),
            held=[f"{wait.text()}: `{wait.command}`" for wait in found.waits] + [*map(_unread, found.unread)],
        )

    def _locks(self, found: DecisionAndRows, some: Sequence[PrunedArchive]) -> dict[int, datetime]:
        """The ends of locks, by number, of those of these archives that are locked as far as it is known."""
        keys = {archive.number: found.archives[archive.number].archive_id for archive in some}
        with self._inventory.reading() as tx:
            ends = lasting_locks(tx, self._vault.name, list(keys.values()), self._clock.now())
        return {number: ends[key] for number, key in keys.items() if key in ends}


def _unread(vault: VaultName) -> str:
    """The sentence on a vault with copies that a rebuilt inventory does not know."""
    why = f"since the rebuild it is not known what copies in vault {vault} lack, so nothing is condemned"
    return f"{why}: `nightvault copy --to {vault} --key FILE`"


def _pieces(packs: Sequence[bytes]) -> Iterable[list[bytes]]:
    for start in range(0, len(packs), _PACKS_A_RECORD):
        yield list(packs[start : start + _PACKS_A_RECORD])
