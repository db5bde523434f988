"""One renewal of locks: what any state of the last `lock_for` needed stays locked for another `lock_for`.

Ends count as the vault has answered them, and each answer is recorded before the next batch is asked for:
what ends first is renewed first, so that a renewal that is cut has done what matters most.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Final

from backup.cost import Price
from backup.errors import ArchiveMissingError, DeniedError, InterruptedRunError, NightvaultError
from backup.inventory.content.locks import (
    JobParts,
    Needed,
    forget_locks,
    held_objects,
    lock_ends,
    needed_keys,
    parts_of_jobs,
    record_locks,
)
from backup.inventory.records.readings import LockDate, record_dates
from backup.locker.report import ExtendReport, Quote
from backup.model import ArchiveId, InventoryId
from backup.protocols import LockableObjects, LocksObjects, phase
from backup.retention.locks import (
    GivenUp,
    LockRules,
    locked_until,
    locks_due,
    renewals,
    restores_until,
    taken_in,
)
from backup.transfer.recognise import require_same
from backup.transfer.vault_run import VaultRun

NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The end of a lock that there never was."""

MOST_NEW: Final = 10_000
"""What somebody stores beneath a renewal in place of servers costs no more than so many requests a night."""

BATCH = 256
_MOST_NAMED = 20
_MOST_LOOKS = 16
_DAY, _MONTH, _YEAR = timedelta(days=1), timedelta(days=30), timedelta(days=365)


class RenewalContext(VaultRun, frozen=True, kw_only=True):
    """Inputs of each renewal; `locks` is the vault as what can lock, opened by the role that may.

    `inventory` keeps the ends of locks as they were answered. `price` is that of a request, None where none
    is known; `every`: the time from renewal to renewal, for a quote; `threads`: how many requests are sent at
    once.
    """

    locks: LocksObjects
    rules: LockRules
    price: Price | None = None
    every: timedelta = _DAY
    threads: int = 16


class LockContext(RenewalContext, frozen=True, kw_only=True):
    """All inputs of a renewal of what an inventory has; `needed` finds the archives that snapshots need."""

    needed: Needed


class ServersLockContext(RenewalContext, frozen=True, kw_only=True):
    """All inputs of a renewal in place of servers: `given_up` is what needs no lock any more.

    `most_new`: how many objects are taken in at most that the last renewal did not know, of each kind.
    """

    given_up: Callable[[], GivenUp]
    most_new: int = MOST_NEW


def extend(context: LockContext, *, only_plan: bool = False) -> ExtendReport:
    """Lock for longer what is due; a plan only looks. `OtherVaultError` if it is not the vault of before."""
    require_same(context.inventory, context.vault, context.patience)
    return _OfInventory(context, only_plan=only_plan).run()


def extend_for_servers(context: ServersLockContext, *, only_plan: bool = False) -> ExtendReport:
    """The same in place of servers, without their inventories: all that they have not given up."""
    return _OfServers(context, context.given_up(), only_plan=only_plan).run()


class _Renewing(ABC):
    """One renewal, or its plan; `_new_last`: what was never locked comes after what ends first."""

    _new_last = False

    def __init__(self, context: RenewalContext, *, only_plan: bool) -> None:
        self._context = context
        self._only_plan = only_plan
        self._ends: dict[ArchiveId, datetime] = {}  # of what is needed, as the vault has answered
        self._missing: set[ArchiveId] = set()
        self._others: frozenset[ArchiveId] = frozenset()  # identities and marks
        self._covered: frozenset[ArchiveId] = frozenset()  # by what somebody else put over them
        self._rules: tuple[str, ...] = ()
        self._held = self._left_out = 0
        self._servers: tuple[str, ...] = ()

    @abstractmethod
    def _inventories(self) -> Collection[InventoryId]:
        """Those whose identities and marks are locked, too."""

    @abstractmethod
    def _wanted(
        self, there: LockableObjects, known: Mapping[ArchiveId, datetime], now: datetime
    ) -> set[ArchiveId]:
        """The objects that have to stay locked."""

    @abstractmethod
    def _dates(self, now: datetime) -> dict[int, LockDate]:
        """Until when the snapshots of each job restore, by the ends that were answered."""

    def run(self) -> ExtendReport:
        """Find what is needed, look at locks that are not known, and renew those that are due."""
        context, rules = self._context, self._context.rules
        now = context.patience.call(context.locks.vault_time)
        idle, looked = self._find(now)
        due = dict(locks_due(self._ends, now, rules))
        extended = 0
        if not self._only_plan:
            with phase(context.progress, "Locking for longer", counts="object"):
                order = sorted(due, key=lambda key: self._new_last and self._ends[key] == NEVER)
                extended = self._ask(order, lambda key: context.locks.lock_until(key, due[key]).until)
        dates = self._dates(now)
        first = min(self._ends.values(), default=None)
        return ExtendReport(
            context.vault.name,
            is_plan=self._only_plan,
            objects=len(self._ends),
            due=len(due),
            extended=extended,
            looked=looked,
            until=locked_until(now, rules) if due else None,
            ends=None if first is None or first == NEVER else first,
            next=None if first is None else max(now, first - rules.lock_for),
            idle=len(idle),
            idle_until=max(idle, default=None),
            quote=self._quote(now) if self._only_plan else None,
            dates=tuple(dates.values()),
            missing=tuple(sorted(self._missing)),
            covered=tuple(sorted(self._covered)[:_MOST_NAMED]),
            covered_count=len(self._covered),
            rules=self._rules,
            held=self._held,
            left_out=self._left_out,
            servers=self._servers,
        )

    @abstractmethod
    def _running_out(self, runs: Sequence[datetime]) -> Mapping[ArchiveId, datetime]:
        """The first of these runs at which an object is not needed any more, where that is known."""

    def _quote(self, now: datetime) -> Quote:
        """The requests for what is there, those that are due now among them, and their price."""
        rules, every, year = self._context.rules, self._context.every, now + _YEAR
        times = {end: list(renewals(end, now, year, every, rules)) for end in set(self._ends.values())}
        runs = sorted(set[datetime]().union(*times.values()))
        later = [run for run in runs if run >= now + rules.lock_for]  # then only what is kept is needed
        out = self._running_out([*(run for run in runs if run < now + rules.lock_for), *later[:1]])
        counts = Counter((end, out.get(key)) for key, end in self._ends.items())

        def within(span: timedelta) -> int:
            return sum(
                count * sum(1 for run in times[end] if run <= now + span and (gone is None or run < gone))
                for (end, gone), count in counts.items()
            )

        step, month, a_year = within(rules.step), within(_MONTH), within(_YEAR)
        price = self._context.price
        if price is None:
            return Quote(step, month, a_year)
        return Quote(step, month, a_year, price.uploading(0, month), price.uploading(0, a_year))

    def _find(self, now: datetime) -> tuple[list[datetime], int]:
        """The ends of locks that nothing needs any more, and how many unknown ones were looked at.

        Where the vault answers with the end of a lock, that is recorded.
        """
        context, inventory, name = self._context, self._context.inventory, self._context.vault.name
        ids = self._inventories()
        there = context.patience.call(lambda: context.locks.lockable(ids))
        archives, others = there.archives, there.others
        self._others, self._covered, self._rules = others, there.covered, there.rules
        with inventory.reading() as tx:
            known = lock_ends(tx, name)
            self._held = len(held_objects(tx, name))
        wanted = self._wanted(there, known, now)
        self._ends = {key: end for key, end in known.items() if key in wanted}
        with phase(context.progress, "Looking at locks", counts="object"):
            looked = self._ask(sorted(wanted - known.keys()), self._end_of)
        gone = known.keys() - archives - others
        if gone and not self._only_plan:
            with inventory.writing() as tx:
                forget_locks(tx, name, gone)
        kept = archives - wanted
        return [end for key, end in known.items() if key in kept and end > now], looked

    def _end_of(self, key: ArchiveId) -> datetime:
        lock = self._context.locks.lock_of(key)
        return NEVER if lock is None else lock.until

    def _ask(self, keys: Sequence[ArchiveId], ask: Callable[[ArchiveId], datetime]) -> int:
        """Ask for the end of each lock, many at once; how many answers came.

        The answers to a batch are recorded before an error of it is raised. What is denied of some keeps
        nothing from the others, and is raised in the end.
        """
        context, answered = self._context, 0
        denied: DeniedError | None = None

        def one_of(key: ArchiveId) -> datetime | NightvaultError:
            try:
                return context.patience.call(lambda: ask(key))
            except NightvaultError as error:
                return error

        with ThreadPoolExecutor(context.threads, "lock") as workers:
            for start in range(0, len(keys), BATCH):
                if context.stop():
                    raise InterruptedRunError("the renewal was stopped: the next one goes on")
                batch = keys[start : start + BATCH]
                answers = dict(zip(batch, workers.map(one_of, batch), strict=True))
                ends = {key: end for key, end in answers.items() if isinstance(end, datetime)}
                self._record(ends)
                answered += len(ends)
                context.progress.advance(files=len(ends))
                for key, answer in answers.items():
                    if isinstance(answer, ArchiveMissingError):
                        self._missing.add(key)
                        self._ends.pop(key, None)
                    elif isinstance(answer, DeniedError):
                        denied = denied or answer
                    elif isinstance(answer, NightvaultError):
                        raise answer
        if denied is not None:
            raise denied
        return answered

    def _record(self, ends: Mapping[ArchiveId, datetime]) -> None:
        self._ends |= ends
        if ends and not self._only_plan:
            with self._context.inventory.writing() as tx:
                record_locks(tx, self._context.vault.name, ends)


class _OfInventory(_Renewing):
    """A renewal of what an inventory's states since `lock_for` needed."""

    def __init__(self, context: LockContext, *, only_plan: bool) -> None:
        super().__init__(context, only_plan=only_plan)
        self._of = context

    def _inventories(self) -> Collection[InventoryId]:
        return [self._of.inventory.id, *self._of.inventory.ancestors]

    def _wanted(
        self, there: LockableObjects, _known: Mapping[ArchiveId, datetime], now: datetime
    ) -> set[ArchiveId]:
        of = self._of
        with of.inventory.reading() as tx:
            needed = needed_keys(tx, of.vault.name, now - of.rules.lock_for, of.needed)
        self._missing |= needed - there.archives
        return (needed & there.archives) | there.others

    def _running_out(self, runs: Sequence[datetime]) -> Mapping[ArchiveId, datetime]:
        """By the snapshots that were forgotten, and catalogs that newer ones replaced.

        A needed set is a pass over all entries: of many runs not each is looked at.
        """
        of, found = self._of, dict[ArchiveId, datetime]()
        left = self._ends.keys() - self._others
        with of.inventory.reading() as tx:
            for run in runs[:: -(-len(runs) // _MOST_LOOKS) or 1]:
                gone = left - needed_keys(tx, of.vault.name, run - of.rules.lock_for, of.needed)
                found |= dict.fromkeys(gone, run)
                left -= gone
        return found

    def _dates(self, now: datetime) -> dict[int, LockDate]:
        """Until when the snapshots of each job restore, by the ends that were answered."""
        name, inventory = self._of.vault.name, self._of.inventory
        with inventory.reading() as tx:
            every = parts_of_jobs(tx, name)
        dates = {
            parts.number: LockDate(parts.job, name, parts.nights, parts.newest, self._date(parts, now), now)
            for parts in every
        }
        if dates and not self._only_plan:
            with inventory.writing() as tx:
                record_dates(tx, dates)
        return dates

    def _date(self, parts: JobParts, now: datetime) -> datetime | None:
        """The earliest end of what its snapshots need; None if something is not locked, or lost."""
        ends = self._ends
        chains = [[ends[key] for key in chain if key in ends] for chain in parts.chains]
        whole = [
            min(found) for found, chain in zip(chains, parts.chains, strict=True) if len(found) == len(chain)
        ]
        each = [[ends[key]] if key in ends else [] for key in (*parts.archives, *self._others)]
        until = None if parts.is_lost or not self._others else restores_until([*each, whole])
        return until if until is not None and until > now else None


class _OfServers(_Renewing):
    """A renewal of what servers have not given up, whatever else their catalogs say."""

    _new_last = True  # whoever stores in masses must not come before what was there

    def __init__(self, context: ServersLockContext, given_up: GivenUp, *, only_plan: bool) -> None:
        super().__init__(context, only_plan=only_plan)
        self._given_up = given_up
        self._most_new = context.most_new
        self._servers = given_up.problems

    def _inventories(self) -> Collection[InventoryId]:
        return self._given_up.inventories

    def _wanted(
        self, there: LockableObjects, known: Mapping[ArchiveId, datetime], _now: datetime
    ) -> set[ArchiveId]:
        stored, archives = self._given_up.stored, there.archives - self._given_up.archives
        kinds = (archives, there.others)
        wanted = [taken_in(kind, known, stored, self._most_new) for kind in kinds]
        self._left_out = sum(map(len, kinds)) - sum(map(len, wanted))
        return set[ArchiveId]().union(*wanted)

    def _running_out(self, runs: Sequence[datetime]) -> Mapping[ArchiveId, datetime]:  # noqa: ARG002
        """Nothing: how long servers need what they have not given up is not known here."""
        return {}

    def _dates(self, _now: datetime) -> dict[int, LockDate]:
        return {}
