"""A job's copies in a second vault as a model: two vaults, a copier, a host that may lose its inventory.

What is decided is decided by `retention/copies.py`, `decisions.py` and the program's own `plan_prune`. A pack
holds one chunk. Time passes in periods of four days, one more than the grace; of what happened only the age
is kept, and of ages no more than two periods, so that no number of periods bounds the search.

The chains of catalogs and the inventory say the same, but for `pending` (a catalog that was begun) and for
what a rebuilt inventory has not read yet (`read`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from backup.inventory.content.archives import THERE, ArchiveState
from backup.retention import copies as decisions
from backup.retention.copies import ArchiveThere, Needs
from backup.retention.prune import DEFAULT_GRACE, PrunedArchive, PrunePlan, PruneRules, plan_prune
from tests.model.copying import decisions as later
from tests.model.plain import Packs
from tests.model.search import Step
from tests.model.world import put

PERIOD = timedelta(days=4)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
OLD = 2  # periods: what is older than the grace, and than every request
_AT = [NOW - age * PERIOD for age in range(OLD + 1)]

STORED, UNCONFIRMED = ArchiveState.STORED.value, ArchiveState.UNCONFIRMED.value
CONDEMNED, DELETING = ArchiveState.CONDEMNED.value, ArchiveState.DELETING.value
DELETED, LOST = ArchiveState.DELETED.value, ArchiveState.LOST.value
UNKNOWN = ""
"""The state of an archive at the destination of which the inventory knows nothing."""
_STATES = {state.value: state for state in ArchiveState}
IN_VAULT = frozenset(state.value for state in THERE)


ABSENT, KEPT, FORGOTTEN, DROPPED = range(4)
"""Of a snapshot in one of the vaults: its catalogs do not name it, name it, forget it, and for good."""


class CopyCast(Struct, frozen=True):
    """What may happen, and how often; `nights` are the chunks of each backup.

    `is_named`: an object's name is its pack's (directories, buckets); else each archive has an id of its own
    (Glacier vaults). `is_late`: a list shows what was there when the period began.
    """

    nights: tuple[tuple[int, ...], ...] = ((0, 1), (1, 2))
    is_named: bool = True
    is_late: bool = False
    forgets: int = 1
    forgets_there: int = 1
    undos: int = 0
    faults: int = 1
    crashes: int = 1
    rebuilds: int = 1
    again: int = 0


class CopyRules(Struct, frozen=True):
    """The decisions; a mutant replaces one of them."""

    stored: Callable[[Iterable[ArchiveThere]], set[int]] = decisions.packs_stored
    copied: Callable[[Iterable[ArchiveThere]], set[int]] = decisions.packs_copied
    is_whole: Callable[[Needs, AbstractSet[int]], bool] = decisions.is_whole
    is_copied: Callable[..., bool] = later.is_copied
    packs_to_send: Callable[..., set[int]] = decisions.packs_to_send
    held: Callable[..., set[int]] = decisions.held_for_copies
    needed_there: Callable[..., set[int]] = decisions.needed_there
    may_be_confirmed: Callable[..., bool] = decisions.may_be_confirmed
    may_change: Callable[[Iterable[bool]], bool] = later.may_change
    wants: Callable[[Saved], bool] = lambda night: night.there not in {FORGOTTEN, DROPPED}
    adopts: bool = True
    trusts_copier: bool = False


class Saved(Struct, frozen=True, array_like=True):
    """A snapshot: its chunks with the pack of each, what the catalogs of either vault say of it, since when.

    A copy that was not whole when it was forgotten counts as forgotten long ago: nothing was promised.
    """

    places: tuple[tuple[int, int], ...]
    here: int
    here_age: int
    there: int
    there_age: int


class SourcePack(Struct, frozen=True, array_like=True):
    """A pack at the source."""

    chunk: int
    state: str
    age: int


class CopyRow(Struct, frozen=True, array_like=True):
    """An archive at the destination: what is true of it, then what the inventory says.

    `shown`: it was there when the period began. `dying`: a deletion was accepted, and comes later.
    `vanished`: the destination lost it by itself. `is_said`: a catalog there names it.
    """

    pack: int
    there: bool
    shown: bool
    dying: bool
    vanished: bool
    state: str
    age: int
    is_said: bool


class Pending(Struct, frozen=True, array_like=True):
    """A catalog of the destination that was begun, and what it says; `is_stored`: the vault has it."""

    is_stored: bool
    copied: tuple[int, ...] = ()
    forgotten: tuple[int, ...] = ()
    back: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()
    condemned: tuple[int, ...] = ()
    taken_up: tuple[int, ...] = ()


class TwoVaults(Struct, frozen=True, array_like=True):
    """Everything. `flights`: orders that a copier has, and whether whoever gave it still listens."""

    packs: tuple[SourcePack, ...]
    rows: tuple[CopyRow, ...]
    nights: tuple[Saved, ...]
    flights: tuple[tuple[int, bool], ...]
    pending: tuple[Pending, ...]
    read: tuple[bool, bool]
    spent: tuple[int, ...]


KINDS = ("forgets", "forgets_there", "undos", "faults", "crashes", "rebuilds", "again")


class CopyWorld:
    """What is true in a world, and what the host makes of it; `copies.py` has what may happen."""

    def __init__(self, cast: CopyCast, rules: CopyRules | None = None) -> None:
        self.cast = cast
        self.rules = rules or CopyRules()
        self._asked: TwoVaults | None = None
        self._answered: list[ArchiveThere] = []
        self._most = tuple(getattr(cast, kind) for kind in KINDS)

    @property
    def initial(self) -> TwoVaults:
        """Two empty vaults."""
        return TwoVaults((), (), (), (), (), (True, True), (0,) * len(KINDS))

    # What is true.

    def broken(self, world: TwoVaults) -> str:
        """The first law that does not hold."""
        for number, night in enumerate(world.nights):
            name = f"snapshot {number}"
            if self.is_said_copied(world, night):
                if night.there != KEPT:
                    return f"{name} is said to be copied, and no catalog of the destination has it"
                if not self.comes_back_there(world, night):
                    return f"{name} is said to be copied, and the destination alone does not give it back"
            is_young = night.there == FORGOTTEN and night.there_age == 0
            if is_young and not self.comes_back_there(world, night):
                return f"the copy of {name}, forgotten within the grace, is gone"
            is_kept = night.here == KEPT or (night.here == FORGOTTEN and night.here_age == 0)
            if is_kept and any(world.packs[pack].state == DELETED for pack in self.only(world, night)):
                return f"{name}, kept at the source, is gone there"
        return ""

    def only(self, world: TwoVaults, night: Saved) -> Iterator[int]:
        """The packs of a snapshot's chunks that no other pack at the source holds."""
        for pack, chunk in night.places:
            if not any(other.chunk == chunk and other.state in IN_VAULT for other in world.packs):
                yield pack

    def is_safe(self, world: TwoVaults, row: CopyRow) -> bool:
        """Whether an archive at the destination is there, and no deletion of it is on its way."""
        if row.vanished:
            return row.state != LOST  # its own loss, until a check finds it
        named = self.cast.is_named
        return row.there and not any(
            other.dying and (other is row or (named and other.pack == row.pack)) for other in world.rows
        )

    def comes_back_there(self, world: TwoVaults, night: Saved) -> bool:
        """Whether the destination's catalogs and archives alone give a snapshot back."""
        return all(
            any(
                row.is_said and row.state != DELETING and world.packs[row.pack].chunk == chunk
                for row in world.rows
                if self.is_safe(world, row)
            )
            for _, chunk in night.places
        )

    # What the host knows.

    def archives(self, world: TwoVaults) -> list[ArchiveThere]:
        """The archives at the destination, as the inventory has them."""
        if not world.read[1]:
            return []
        if self._asked is world:
            return self._answered
        self._asked = world
        self._answered = [
            ArchiveThere(number, row.pack, _STATES[row.state], _AT[row.age], row.is_said)
            for number, row in enumerate(world.rows)
            if row.state != UNKNOWN
        ]
        return self._answered

    def source(self, world: TwoVaults) -> dict[int, ArchiveState]:
        """The packs at the source, as the inventory has them."""
        if not world.read[0]:
            return {}
        return {number: _STATES[pack.state] for number, pack in enumerate(world.packs)}

    def needs(self, world: TwoVaults, night: Saved) -> Needs:
        """For each chunk the packs in which it lies."""
        return [
            [number for number, pack in enumerate(world.packs) if pack.chunk == chunk]
            for _, chunk in night.places
        ]

    def known(self, world: TwoVaults) -> list[Saved]:
        """The snapshots that the inventory has, as far as it has read the vaults' catalogs."""
        here, there = world.read
        found = []
        nights = world.nights
        if not (here and there):
            nights = tuple(
                replace(night, here=night.here if here else ABSENT, there=night.there if there else ABSENT)
                for night in nights
            )
        for night in nights:
            if night.here in {KEPT, FORGOTTEN} or night.there in {KEPT, FORGOTTEN}:
                found.append(night)
        return found

    def wanted(self, world: TwoVaults) -> list[Needs]:
        """What the snapshots need that are wanted at the destination."""
        return [needs for needs, _ in self.wanted_and_said(world)]

    def wanted_and_said(self, world: TwoVaults) -> list[tuple[Needs, bool]]:
        """The same, each with whether a catalog of the destination names the snapshot."""
        return [
            (self.needs(world, night), night.there == KEPT)
            for night in self.known(world)
            if self.rules.wants(night)
        ]

    def is_said_copied(self, world: TwoVaults, night: Saved) -> bool:
        """Whether the host says that a snapshot is copied."""
        if not world.read[1] or night.there in {FORGOTTEN, DROPPED}:
            return False
        copied = self.rules.copied(self.archives(world))
        return self.rules.is_copied(self.needs(world, night), copied, is_said=night.there == KEPT)

    def to_send(self, world: TwoVaults) -> set[int]:
        """The packs that the host orders now."""
        found = self.rules.packs_to_send(self.wanted(world), self.archives(world), self.source(world), NOW)
        return {pack for pack in found if (pack, True) not in world.flights}

    def needed_here(self, world: TwoVaults) -> set[int]:
        """The packs that the snapshots kept at the source need."""
        packs = Packs(
            {number: pack.state for number, pack in enumerate(world.packs)},
            {number: (pack.chunk,) for number, pack in enumerate(world.packs)},
        )
        return packs.needed(place for night in world.nights if night.here == KEPT for place in night.places)

    def plan_here(self, world: TwoVaults) -> PrunePlan:
        """What a prune of the source decides."""
        copied = self.rules.copied(self.archives(world))
        needed = self.needed_here(world) | self.rules.held(
            self.wanted_and_said(world), copied, self.source(world)
        )
        pruned = [
            _pruned(number, pack.state, pack.age)
            for number, pack in enumerate(world.packs)
            if pack.state in IN_VAULT
        ]
        return plan_prune(pruned, needed, PruneRules(DEFAULT_GRACE, NOW), now=NOW, fee=lambda *_: None)

    def plan_there(self, world: TwoVaults) -> PrunePlan:
        """What a prune of the destination decides."""
        archives = self.archives(world)
        needed = self.rules.needed_there(self.wanted(world), archives)
        pruned = [
            _pruned(row.number, row.state, world.rows[row.number].age)
            for row in archives
            if row.state in IN_VAULT
        ]
        listed = NOW - timedelta(hours=1) if self.cast.is_late else NOW
        return plan_prune(pruned, needed, PruneRules(DEFAULT_GRACE, listed), now=NOW, fee=lambda *_: None)

    def goes_too_early(self, world: TwoVaults, plan: PrunePlan) -> str:
        """Whether a prune of the source condemns or deletes what a copy that is wanted still lacks.

        Asked of what is true, not of what the host knows.
        """
        going = {archive.number for archive in (*plan.condemn, *plan.delete)}
        for number, night in enumerate(world.nights):
            if night.there in {FORGOTTEN, DROPPED}:
                continue
            for _, chunk in night.places:
                holding = {which for which, pack in enumerate(world.packs) if pack.chunk == chunk}
                if any(
                    row.state == STORED and row.pack in holding and self.is_safe(world, row)
                    for row in world.rows
                ):
                    continue
                left = {which for which in holding if world.packs[which].state in IN_VAULT}
                if left & going and not left - going:
                    return f"the source gives up pack {min(left)}, which the copy of snapshot {number} lacks"
        return ""

    def takes_what_is_kept(self, world: TwoVaults, due: Collection[int]) -> str:
        """Whether a deletion at the destination takes what a snapshot that is kept there needs."""
        for number, night in enumerate(world.nights):
            if night.there != KEPT:
                continue
            for _, chunk in night.places:
                holding = [
                    which
                    for which, row in enumerate(world.rows)
                    if world.packs[row.pack].chunk == chunk
                    and (row.is_said or row.state == STORED)
                    and row.state != DELETING
                    and self.is_safe(world, row)
                ]
                if holding and all(which in due for which in holding):
                    return f"an archive goes that the copy of snapshot {number} needs"
        return ""

    def is_proven(self, world: TwoVaults, row: CopyRow, number: int) -> bool:
        """Whether a list that shows an archive confirms it."""
        listed = NOW - timedelta(hours=1) if self.cast.is_late else NOW
        archive = ArchiveThere(number, row.pack, ArchiveState.UNCONFIRMED, _AT[row.age], row.is_said)
        return self.rules.may_be_confirmed(archive, self.archives(world), listed)

    # Counts.

    def may(self, world: TwoVaults, kind: str) -> bool:
        """Whether that may happen once more."""
        which = KINDS.index(kind)
        return bool(world.spent[which] < self._most[which])

    def spend(self, world: TwoVaults, kind: str) -> TwoVaults:
        """It happened once more."""
        which = KINDS.index(kind)
        return replace(world, spent=put(world.spent, which, world.spent[which] + 1))


def _pruned(number: int, state: str, age: int) -> PrunedArchive:
    at = _AT[age]
    is_condemned = state == CONDEMNED
    return PrunedArchive(
        number,
        b"",
        1,
        _AT[OLD],
        _AT[OLD],
        is_condemned,
        state == DELETING,
        at if is_condemned else None,
        at if is_condemned else None,
    )


def older(age: int) -> int:
    """An age, a period later."""
    return min(age + 1, OLD)


ModelStep = Step[TwoVaults]
