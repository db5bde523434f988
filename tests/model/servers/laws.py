"""The laws of several machines in one vault."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from backup.pruner.keeper.validity import Validity
from backup.pruner.listed import PruneStoppedError
from tests.model.servers.pruning import Prunes
from tests.model.servers.rebuilding import RebuildableVault, Rebuilt
from tests.model.servers.vault import Shown
from tests.model.servers.world import (
    FULL,
    NAMES,
    PERIOD,
    UNCONFIRMED,
    Cast,
    Catalog,
    Machine,
    Night,
    World,
    now,
)
from tests.support.doubles import ManualClock


class Laws(Prunes):
    """What must hold in every world, and of every deletion."""

    def __init__(self, cast: Cast, vault: RebuildableVault) -> None:
        super().__init__(cast, vault)
        self._given_up: dict[tuple[int, ...], tuple[frozenset[int], dict[int, int], tuple[bool, bool]]] = {}
        self._late: dict[tuple[int, ...], frozenset[int]] = {}

    # A keeper that slept.

    def is_valid(self, begun: int, period: int) -> bool:
        """Whether what it decided may still be done."""
        clock = ManualClock(now(begun))
        valid = Validity(clock, clock.now(), None if self.cast.lag else lambda: None)
        clock.set(now(period))
        try:
            valid.require()
        except PruneStoppedError:
            return False
        return True

    # The laws.

    def broken(self, world: World) -> str:
        """Every chunk of every snapshot that nobody gave up is in a pack that the vault has, and is known.

        Who takes a snapshot back after the grace has it once a list confirms that (`_is_not_yet_back`).
        """
        there = {pack.order: pack.chunk for pack in world.packs if pack.there}
        if len(there) == len(world.packs):
            return ""
        chunks = {pack.order: pack.chunk for pack in world.packs}
        dropped, forgotten, _ = self.given_up(world.catalogs)
        for machine in world.machines:
            for night in machine.nights:
                if night.pack in there or self._is_given_up(night, machine, world, dropped, forgotten):
                    continue
                if self._is_not_yet_back(night, machine, world.catalogs):
                    continue
                if not any(
                    row.pack in there and chunks[row.pack] == chunks[night.pack] for row in machine.rows
                ):
                    who = "the image" if machine.is_image else NAMES[machine.inventory]
                    state = "kept" if night.forgotten < 0 else "forgotten, not given up"
                    return f"chunk {chunks[night.pack]} of snapshot {night.order} of {who}, {state}, is gone"
        return ""

    def _is_given_up(
        self,
        night: Night,
        machine: Machine,
        world: World,
        dropped: Collection[int],
        forgotten: Mapping[int, int],
    ) -> bool:
        """By who goes on, or a person; or forgotten for longer than the grace; or it is the heir's."""
        if night.order in dropped or any(night.order in other.passed for other in world.machines):
            return True
        if not self.cast.keeper and world.period - forgotten.get(night.order, _LATER) >= round(
            self.cast.grace / PERIOD
        ):
            return True
        return any(
            machine.inventory in heir.ancestors and any(own.order == night.order for own in heir.nights)
            for heir in world.machines
        )

    def _is_not_yet_back(self, night: Night, machine: Machine, catalogs: tuple[int, ...]) -> bool:
        """Whether it was taken back after the grace of its pack, and no list has confirmed that since."""
        if night.order not in self._taken_back_late(catalogs):
            return False
        return any(row.pack == night.pack and row.state == UNCONFIRMED for row in machine.rows)

    def _taken_back_late(self, catalogs: tuple[int, ...]) -> frozenset[int]:
        """The snapshots that were last taken back when their packs might have been deleted already."""
        if catalogs not in self._late:
            grace = round(self.cast.grace / PERIOD)
            late: set[int] = set()
            condemned: dict[int, int] = {}
            for catalog in (self.vault.catalogs[number] for number in catalogs):
                ends = [condemned.get(pack, _LATER) + grace for pack in catalog.said.taken_up]
                late -= set(catalog.said.back)
                if any(end <= catalog.period for end in ends):
                    late |= set(catalog.said.back)
                condemned |= dict.fromkeys(catalog.said.condemned, catalog.period)
            self._late[catalogs] = frozenset(late)
        return self._late[catalogs]

    def given_up(self, catalogs: tuple[int, ...]) -> tuple[frozenset[int], dict[int, int], tuple[bool, bool]]:
        """What honest machines dropped; when they forgot others; whether two went on from one state.

        The last also without what an old machine stored before an heir's first catalog: a keeper takes that
        for older than the heir's state, and the heir's own prune gives up nothing beside it.
        """
        found = self._given_up.get(catalogs)
        if found is None:
            every = [self.vault.catalogs[number] for number in catalogs]
            honest = [catalog for catalog in every if catalog.machine >= 0 and catalog.shape != FULL]
            dropped = frozenset(night for catalog in honest for night in catalog.said.dropped)
            forgotten: dict[int, int] = {}
            for catalog in honest:
                forgotten.update(dict.fromkeys(catalog.said.forgotten, catalog.period))
                for night in catalog.said.back:
                    forgotten.pop(night, None)
            parents = {catalog.parent for catalog in honest}
            leaves = [catalog for catalog in honest if catalog.order not in parents]
            passed = [catalog for catalog in leaves if any(_came_later(heir, catalog) for heir in honest)]
            forks = len(leaves) > 1, len(leaves) - len(passed) > 1
            found = self._given_up[catalogs] = dropped, forgotten, forks
        return found

    def unlawful(self, world: World, due: Sequence[int], shown: Shown, *, is_keeper: bool = False) -> str:
        """The law that a deletion breaks: too early, not condemned, or beside a second writer."""
        if not due:
            return ""
        told_of = [self.vault.catalogs[number] for number in shown.catalogs]
        honest = [catalog for catalog in told_of if catalog.machine >= 0]
        packs = {pack.order: pack for pack in world.packs}
        grace = round(self.cast.grace / PERIOD)
        periods = max(self.cast.floor, grace) if is_keeper else grace
        for which in due:
            if world.period - packs[which].period < self.cast.minimum:
                return f"pack {which} is deleted before its minimum duration is over"
            told = self._told(honest, which)
            if told is None:
                return f"pack {which} is deleted, and its own server does not condemn it"
            if is_keeper:
                told = max([told, *self._dropped(honest, which)])
            if world.period - told < periods:
                return f"pack {which} is deleted within the {'floor' if is_keeper else 'grace'}"
        orders = {catalog.order for catalog in honest}
        if self.given_up(shown.catalogs)[2][is_keeper] and all(
            orders.isdisjoint(machine.passed) for machine in world.machines
        ):
            return f"{due} are deleted while the list shows that two go on from one state"
        return ""

    def _dropped(self, honest: Sequence[Catalog], which: int) -> list[int]:
        """The periods in which snapshots were given up that need a pack."""
        nights = {catalog.order for catalog in honest if catalog.said.night == which}
        return [catalog.period for catalog in honest if not nights.isdisjoint(catalog.said.dropped)]

    def _told(self, honest: Sequence[Catalog], which: int) -> int | None:
        """The period in which the newest word on a pack condemned it."""
        told: int | None = None
        for catalog in honest:
            if which in catalog.said.taken_up:
                told = None
            elif which in catalog.said.condemned:
                told = catalog.period
        return told

    def not_rebuilt(self, world: World, state: Rebuilt) -> str:
        """Whether a rebuild lacks what the machine has whose catalog is the newest that it used."""
        for machine in world.machines:
            if machine.head == state.tip and {night.order for night in machine.nights} != {
                night.order for night in state.folded.nights
            }:
                return "a rebuild gives other snapshots than the catalogs say"
        return ""


_LATER = 10**6


def _came_later(heir: Catalog, catalog: Catalog) -> bool:
    """Whether the first stored after the second, of whose inventory it is an heir."""
    return catalog.writer in heir.claims and heir.order > catalog.order
