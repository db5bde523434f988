"""Decides what a prune does, from one view of the inventory and one list of the vault."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from msgspec import Struct, field
from msgspec.structs import replace

from backup.catalogs.run_setup import successors
from backup.inventory.content import copied, copied_pruning, pruning
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.locks import held_objects
from backup.inventory.content.need import kept_snapshots
from backup.inventory.content.pruning import StoredArchive
from backup.inventory.content.shrunk import Wait, waits
from backup.inventory.records import runs
from backup.inventory.records.retrievals import ListingRow
from backup.inventory.store.connections import Transaction
from backup.inventory.store.times import moment
from backup.model import PackKind, VaultName
from backup.pruner.context import PruneContext
from backup.pruner.listed import ListedContent, read_listing
from backup.pruner.needed import needed_archives
from backup.retention.prune import LISTS_FOLLOW, PrunedArchive, PrunePlan, PruneRules, Why, plan_prune


class DecisionAndRows(Struct, frozen=True):
    """A decision, and the rows of the inventory on which it is based."""

    archives: Mapping[int, StoredArchive]
    shown: ListedContent
    rules: PruneRules
    plan: PrunePlan
    waits: Sequence[Wait]
    unread: Sequence[VaultName]
    marks: Sequence[tuple[object, ...]]


class Decider:
    """Decides for one vault, each time it is called."""

    def __init__(self, context: PruneContext, max_fee: Decimal) -> None:
        self._context = context
        self._max_fee = max_fee

    def decide(self, tx: Transaction, head: ListingRow, *, has_clock: bool) -> DecisionAndRows:
        """Decide by the list with that head. `PruneStoppedError` if the list must not be used.

        `has_clock`: the times of the list are the vault's own.
        """
        context, vault = self._context, self._context.vault
        now = context.clock.now()
        stored = [
            *pruning.stored_archives(tx, vault.name, head.number, has_clock=has_clock),
            *copied_pruning.stored_copies(tx, vault.name, head.number, has_clock=has_clock),
        ]
        inventory, by = context.inventory, successors(context.keys)
        shown = read_listing(tx, inventory, vault, head, stored, now, by, has_clock=has_clock)
        rules = PruneRules(
            grace=max(context.grace, timedelta(seconds=runs.longest_run(tx))),
            listed_before=self._listed_before(shown, head, stored, now),
            max_fee=self._max_fee,
            may_delete=context.deleting is not None,
        )
        guests = copied.jobs_copied_to(tx, copied.vault_number(tx, vault.name))
        waiting = [
            wait
            for wait in waits(tx, may_shrink=context.may_shrink)
            if wait.vault == vault.name or wait.job_number in guests
        ]
        held = frozenset(wait.job_number for wait in waiting)
        on_hold = held_objects(tx, vault.name)
        archives = [
            replace(
                as_pruned(archive, self._minimum(archive.kind), held), has_hold=archive.archive_id in on_hold
            )
            for archive in stored
        ]
        plan = plan_prune(archives, self._needed(tx), rules, now=now, fee=context.prices.fee)
        unread = context.unread_copies(tx)
        if unread:  # a copy may still be to get it
            plan = replace(plan, condemn=[])
        by_number = {archive.number: archive for archive in stored}
        return DecisionAndRows(by_number, shown, rules, plan, waiting, unread, decided_by(tx))

    def _listed_before(
        self, shown: ListedContent, head: ListingRow, stored: Sequence[StoredArchive], now: datetime
    ) -> datetime:
        """The time before which catalogs were stored that the list shows.

        If a vault no longer changes, no newer list is ever made. But a list that was requested days later,
        and that has all our archives (and so the catalogs that condemn), shows the vault's content until
        then, whatever its date.
        """
        shows_all = all(
            archive.listed_at is not None or archive.state is ArchiveState.DELETING for archive in stored
        )
        if not shows_all or self._context.vault.traits.lists_at_once:
            return shown.until
        return max(shown.until, min(moment(head.requested_at), now) - LISTS_FOLLOW)

    def _needed(self, tx: Transaction) -> set[int]:
        """The numbers of archives that something kept needs."""
        needed = needed_archives(tx, self._context.vault.name, kept_snapshots(tx))
        return needed | pruning.archives_of_open_restores(tx)

    def _minimum(self, kind: PackKind) -> timedelta:
        """The minimum duration of packs of that kind; hot catalogs may be in another class."""
        traits = self._context.vault.traits
        if kind is PackKind.CATALOG and traits.keeps_metadata_hot:
            return self._context.prices.minimum(kind) or timedelta(0)
        return traits.minimum_storage


def as_pruned(archive: StoredArchive, minimum: timedelta, held: Collection[int] = ()) -> PrunedArchive:
    """An archive as a plan decides by it; `minimum` duration, `held`: the jobs that wait for an answer.

    What the vault bills goes by its own clock, as far as its list is known.
    """
    taken_at = archive.listed_at or archive.stored_at
    return PrunedArchive(
        number=archive.number,
        pack_id=archive.pack_id,
        size=archive.size,
        stored_at=taken_at,
        free_at=taken_at + minimum,
        is_condemned=archive.is_condemned,
        is_decided=archive.state is ArchiveState.DELETING,
        condemned_at=archive.condemned_at,
        told_at=archive.told_at,
        retry_at=archive.retry_at,
        refusal=archive.refusal,
        run_is_open=archive.run_is_open,
        is_held=not archive.jobs.isdisjoint(held),
        kind=archive.kind,
    )


def decided_by(tx: Transaction) -> list[tuple[object, ...]]:
    """All of the inventory that a decision is based on: equal if unchanged."""
    return [*pruning.decision_marks(tx), *copied_pruning.decision_marks(tx)]


class Said(Struct, frozen=True):
    """The content of one job's next catalog: packs that are condemned, and those that are taken up again."""

    condemned: list[bytes] = field(default_factory=list)
    taken_up: list[bytes] = field(default_factory=list)


def changes(
    plan: PrunePlan,
    archives: Mapping[int, StoredArchive],
    jobs: Collection[int],
    now: datetime,
    guests: Collection[int] = (),
) -> Mapping[int, Said]:
    """The content of each job's next catalog after a plan; of what no job's catalogs named, the first job's.

    Of copies these are `guests`, jobs of other vaults. A condemnation that a job has not said yet, or said by
    a clock that was ahead, is said again.
    """
    found: dict[int, Said] = defaultdict(Said)
    first, first_guest = min(jobs, default=0), min(guests, default=0)
    unsaid = [wait.archive for wait in plan.waiting if wait.why is Why.CATALOGS]
    for pruned in (*plan.condemn, *unsaid):
        archive = archives[pruned.number]
        anyone = first_guest if archive.is_copy else first
        have_said = archive.condemned_by.keys() if archive.is_condemned else set()  # else said anew
        for job in (archive.jobs or {anyone}) - have_said:
            found[job].condemned.append(pruned.pack_id)
        for job, told in archive.condemned_by.items():
            if told.at > now:
                found[job].condemned.append(pruned.pack_id)
    for pruned in plan.take_up:
        archive = archives[pruned.number]
        for job in archive.condemned_by.keys() or {first_guest if archive.is_copy else first}:
            found[job].taken_up.append(pruned.pack_id)
    return {job: change for job, change in found.items() if job in {*jobs, *guests}}
