"""A bucket with object locks as a model: a host, an intruder with all its rights, who renews, who deletes.

What is decided is decided by `backup/retention/locks.py`; what is needed is said here. Locks and ages are
counted in periods from now, the ends of steps recur: so all times that can come are searched, not some
periods of them. Each catalog tells a whole state; a version that was overwritten is the same as one that a
delete marker hides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from backup.retention import locks as decisions
from backup.retention.locks import LockRules

PERIOD = timedelta(days=10)
_BEGIN = datetime(2020, 1, 1, tzinfo=UTC) + 1200 * PERIOD  # a step begins here
FOR_EVER = 100
CATALOGS = 100
"""The numbers of catalogs begin here, those of packs at 0, which is the vault's identity."""


class DeletionAnswer(StrEnum):
    """What a vault makes of a deletion."""

    GONE = "gone"
    HIDDEN = "hidden"  # under a delete marker: the version is there, and is paid for
    REFUSED = "refused"


def answer_to_deletion(until: datetime, now: datetime, *, names_version: bool) -> DeletionAnswer:
    """What a vault with versions answers: only a deletion that names the version deletes it."""
    if not names_version:
        return DeletionAnswer.HIDDEN
    return DeletionAnswer.REFUSED if now < until else DeletionAnswer.GONE


class LockCast(Struct, frozen=True):
    """What may happen; `nights` are the packs of each backup, `lock_for` and `step` are in periods.

    `clock`: how far the clock of the machine that renews is ahead, in periods.
    """

    nights: tuple[tuple[int, ...], ...] = ((1,), (1, 2))
    lock_for: int = 3
    step: int = 2
    forgets: int = 1
    changes: int = 1
    cuts: int = 1
    clock: int = 0


class LockedState(Struct, frozen=True):
    """A state of a job: when the vault stored the catalog that made it true, and the objects that it needs.

    These are the packs of its snapshots, the catalogs that tell of them, and the vault's identity.
    """

    since: datetime
    needs: frozenset[int]


def states_that_count(states: Sequence[LockedState], now: datetime, lock_for: timedelta) -> list[LockedState]:
    """The states that were in force at some time of the last `lock_for`, however old they are.

    `states` in the order in which the vault stored their catalogs. Each is in force until the next one. The
    program asks its inventory for what they needed: `needed_keys` in `inventory/content/locks.py`.
    """
    ends = [*(state.since for state in states[1:]), None]
    pairs = zip(states, ends, strict=False)
    return [state for state, end in pairs if end is None or end > now - lock_for]


def due_of_states(
    until: Mapping[int, datetime], states: Sequence[LockedState], now: datetime, rules: LockRules
) -> list[tuple[int, datetime]]:
    """What is due of what any state that counts needs, whatever was forgotten since."""
    needed = {number for state in states_that_count(states, now, rules.lock_for) for number in state.needs}
    return decisions.locks_due({key: end for key, end in until.items() if key in needed}, now, rules)


class LockGuards(Struct, frozen=True):
    """The decisions and guards; a mutant replaces one of them."""

    locked_until: Callable[[datetime, LockRules], datetime] = decisions.locked_until
    longest_lock: Callable[[datetime, LockRules], datetime] = decisions.longest_lock
    locks_due: Callable[..., list[tuple[int, datetime]]] = due_of_states
    restores_until: Callable[..., datetime | None] = decisions.restores_until
    names_version: bool = True
    restores_versions: bool = True
    renews_by_vault_clock: bool = True
    dates_by_vault: bool = True
    lists_versions: bool = True
    locks_catalogs: bool = True
    locks_identity: bool = True
    counts_ordered: bool = False
    counts_catalogs: bool = True


class LockObject(Struct, frozen=True, array_like=True):
    """An object: the periods for which it is still locked; whether it is hidden, and condemned since when."""

    until: int
    is_hidden: bool = False
    condemned: int = -1


class StateCatalog(Struct, frozen=True, array_like=True):
    """A catalog, the nights and packs that it says are kept, and its age by the vault's date, and by its own.

    `is_ours`: the host wrote it, not an intruder.
    """

    locked: LockObject | None
    nights: tuple[int, ...]
    packs: tuple[int, ...]
    age: int
    says_age: int
    is_ours: bool


HONEST, HOSTILE, BACK = range(3)


class LockedVault(Struct, frozen=True, array_like=True):
    """Everything; `phase`: periods since the last step began; `promised`: for how long each night was."""

    phase: int
    packs: tuple[LockObject | None, ...]
    catalogs: tuple[StateCatalog, ...]
    kept: tuple[int, ...]
    made: int
    host: int
    promised: tuple[int, ...]
    spent: tuple[int, ...]


KINDS = ("forgets", "changes", "cuts")
JUNK = 3
"""The pack that an intruder uploads."""


class LockWorld:
    """What is true in a vault, and what is said of it; `locks.py` has what may happen."""

    def __init__(self, cast: LockCast, guards: LockGuards | None = None) -> None:
        self.cast = cast
        self.guards = guards or LockGuards()
        self.rules = LockRules(cast.lock_for * PERIOD, cast.step * PERIOD)
        self.most = tuple(getattr(cast, kind) for kind in KINDS)

    @property
    def initial(self) -> LockedVault:
        """A vault with its identity."""
        identity = LockObject(self.new_lock(0))
        nothing = (0,) * len(self.cast.nights)
        return LockedVault(0, (identity, None, None, None), (), (), 0, HONEST, nothing, (0, 0, 0))

    def at(self, world: LockedVault, periods: int) -> datetime:
        return _BEGIN + (world.phase + periods) * PERIOD

    def periods(self, world: LockedVault, at: datetime) -> int:
        return (at - self.at(world, 0)) // PERIOD

    def new_lock(self, phase: int) -> int:
        return (self.guards.locked_until(_BEGIN + phase * PERIOD, self.rules) - _BEGIN) // PERIOD - phase

    # The laws.

    def broken(self, world: LockedVault) -> str:
        """What was promised restores."""
        for number, promised in enumerate(world.promised):
            if promised > 0 and not self.restores(world, number):
                return (
                    f"night {number} does not restore, {promised} periods before the date that was promised"
                )
        return ""

    def restores(self, world: LockedVault, number: int) -> bool:
        """Whether a night's packs and a catalog that tells of it are there, be they hidden."""
        some = [world.packs[pack] for pack in (0, *self.cast.nights[number])]
        if any(not self._reads(pack) for pack in some):
            return False
        return any(number in catalog.nights and self._reads(catalog.locked) for catalog in world.catalogs)

    def _reads(self, found: LockObject | None) -> bool:
        return found is not None and (self.guards.restores_versions or not found.is_hidden)

    def date(self, world: LockedVault, number: int) -> int:
        """For how many periods a night restores whatever an intruder does, as it is said."""
        parts = [
            [self.at(world, found.until)] if (found := world.packs[pack]) else []
            for pack in (0, *self.cast.nights[number])
        ]
        if self.guards.counts_catalogs:
            parts.append(
                [
                    self.at(world, catalog.locked.until)
                    for catalog in world.catalogs
                    if number in catalog.nights and catalog.locked
                ]
            )
        end = self.guards.restores_until(parts)
        return 0 if end is None else max(0, self.periods(world, end))

    def told(self, world: LockedVault, says: LockedVault | None = None) -> LockedVault:
        """An honest host says the dates; the latest that was said of a night is what was promised."""
        if world.host == HOSTILE:
            return world
        promised = tuple(
            max(before, self.date(says or world, number)) if number in world.kept else before
            for number, before in enumerate(world.promised)
        )
        return replace(world, promised=promised)

    def runs_out(self, world: LockedVault) -> str:
        """Whether, after a renewal, something ends too early that a state of the last `lock_for` needed."""
        for number, catalog in enumerate(world.catalogs):
            later = world.catalogs[number + 1 :]
            if later and later[0].age >= self.cast.lock_for:
                continue
            for pack in (0, *catalog.packs):
                found = world.packs[pack] if catalog.locked else None
                if found is not None and found.until < self.cast.lock_for:
                    time = f"the last {self.cast.lock_for} periods"
                    return f"pack {pack}, which a state of {time} needed, ends in {found.until}"
            if catalog.locked is not None and catalog.locked.until < self.cast.lock_for:
                return f"catalog {number}, which told a state of that time, ends in {catalog.locked.until}"
        return ""
