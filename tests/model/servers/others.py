"""What a vault of several machines sees beside their runs: keeper, rebuilds, images, a liar, a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from tests.model.search import Step
from tests.model.servers.keeping import Keeper
from tests.model.servers.laws import Laws
from tests.model.servers.rebuilding import RebuildableVault, Rebuilt
from tests.model.servers.vault import Shown
from tests.model.servers.world import (
    DELTA,
    FIRST,
    FULL,
    HEIR,
    HOSTILE,
    IMAGE,
    KINDS,
    MANY,
    NAMES,
    NEVER,
    NOBODY,
    RIVAL,
    SERVER,
    Cast,
    Catalog,
    Folded,
    Machine,
    Mark,
    Row,
    Said,
    World,
)

# PRIVATE IMAGE from servers
# PRIVATE MANY from servers


class Others(Laws):
    """Everybody but a machine that runs."""

    def __init__(self, cast: Cast) -> None:
        super().__init__(cast, self.make_vault(cast))
        self.keeper = self.make_keeper(self.vault)
        self._most = tuple(
            len(cast.forgeries) and cast.forged if kind == "forged" else getattr(cast, kind) for kind in KINDS
        )

    def make_vault(self, cast: Cast) -> RebuildableVault:
        """The vault."""
        return RebuildableVault(cast)

    def make_keeper(self, vault: RebuildableVault) -> Keeper:
        """The keeper of this vault."""
        return Keeper(vault)

    def _gone(self, world: World, due: tuple[int, ...]) -> World:
        packs = tuple(replace(pack, there=False) if pack.order in due else pack for pack in world.packs)
        return replace(world, packs=packs)

    # What is stored.

    def _marked(self, world: World, machine: Machine) -> tuple[World, Machine]:
        """An heir leaves its marks before it stores anything."""
        world, machine = self._with_marks(world, machine)
        is_first = bool(machine.ancestors) and machine.began < 0
        return world, replace(machine, began=world.period) if is_first else machine

    def _with_marks(self, world: World, machine: Machine) -> tuple[World, Machine]:
        """An heir leaves its marks before it does anything in the vault."""
        if machine.is_marked or not machine.ancestors:
            return world, machine
        proven, period = self.cast.proof == "signed", world.period
        marks = tuple(
            Mark(other, machine.inventory, proven, world.order + at, period)
            for at, other in enumerate(machine.ancestors)
        )
        after = replace(world, marks=(*world.marks, *marks), order=world.order + len(marks))
        return after, replace(machine, is_marked=True)

    def _stored(
        self, world: World, index: int, machine: Machine, said: Said, *, with_full: bool = True
    ) -> World:
        """A delta with what it says, made true; a full catalog where one is due."""
        world, machine = self._marked(world, machine)
        is_first = machine.head == NEVER
        told = self.committed(world, machine, said, world.order)
        state = Folded(told.nights, told.rows) if is_first else None
        whose = IMAGE if machine.is_image else index
        delta = self._catalog(world, machine, whose, FIRST if is_first else DELTA, machine.head, said, state)
        world = self._with_catalog(world, delta)
        known = (*machine.known, delta.order)
        told = replace(
            told,
            head=delta.order,
            number=delta.number,
            deltas=0 if is_first else machine.deltas + 1,
            known=known,
        )
        if told.deltas >= self.cast.most_deltas and with_full:
            full = self._catalog(
                world, told, whose, FULL, delta.order, Said(), Folded(told.nights, told.rows)
            )
            world = self._with_catalog(world, full)
            told = replace(told, number=full.number, deltas=0, known=(*told.known, full.order))
        return self._put(world, index, told)

    def _catalog(
        self,
        world: World,
        machine: Machine,
        whose: int,
        shape: int,
        parent: int,
        said: Said,
        state: Folded | None,
    ) -> Catalog:
        signed = not machine.ancestors or self.cast.proof == "signed"
        place = (
            world.order,
            world.period,
            whose,
            machine.inventory,
            machine.signer,
            machine.number + 1,
            shape,
            parent,
        )
        return Catalog(
            *place, machine.ancestors, signed, machine.inventory, world.period + machine.ahead, said, state
        )

    def _with_catalog(self, world: World, catalog: Catalog) -> World:
        number = self.vault.number_of(catalog, world.catalogs)
        return replace(world, catalogs=(*world.catalogs, number), order=world.order + 1)

    # The keeper.

    def _keep(self, world: World, shown: Shown) -> Iterator[Step[World]]:
        if world.keeper is not None:
            begun, due = world.keeper
            if self.is_valid(begun, world.period):
                after = replace(self._gone(world, due), keeper=None)
                yield Step(f"the keeper wakes and deletes {due}", after)
            else:
                yield Step("the keeper wakes, and its decision is too old", replace(world, keeper=None))
            return
        if not self._may(world, "keeper"):
            return
        due, _, _ = self.keeper.decide(shown, world.answers)
        if due:
            broken = self.unlawful(world, due, shown, is_keeper=True)
            after = self._spend(world, "keeper")
            yield Step(f"the keeper deletes {due}", self._gone(after, due), broken)
            if self._may(world, "sleeps") and "keeper" in self.cast.sleepers:
                asleep = replace(after, keeper=(world.period, due))
                yield Step(f"the keeper decides to delete {due}, and sleeps", self._spend(asleep, "sleeps"))

    # Machines that come.

    def _rebuilds(self, world: World, shown: Shown) -> Iterator[Step[World]]:
        if (
            not self._may(world, "heirs")
            or len(world.machines) - any(machine.is_image for machine in world.machines) > 2
        ):
            return
        new = RIVAL if any(machine.inventory == HEIR for machine in world.machines) else HEIR
        for target in (SERVER, HEIR)[: 1 + (new == RIVAL)]:
            state = self.vault.rebuild(shown, target)
            if not isinstance(state, Rebuilt):
                continue
            machine = self.rebuilt(world, shown, state, target, new)
            after = self._spend(replace(world, machines=(*world.machines, machine)), "heirs")
            story = f"{NAMES[new]} is rebuilt from inventory {target}: catalogs {state.members}"
            yield Step(story, after, self.not_rebuilt(world, state))

    def rebuilt(self, world: World, shown: Shown, state: Rebuilt, target: int, new: int) -> Machine:
        """The machine that a rebuild makes."""
        line = (target, *self.vault.ancestors(shown.catalogs, target))
        signer = 0 if self.cast.proof else new
        known = self.vault.passed(shown, state)
        number = number_above(self.vault, shown, line, state)
        rows = tuple(sorted(state.folded.rows, key=lambda row: row.pack))
        return Machine(new, False, line, signer, state.tip, number, MANY, known, rows, state.folded.nights)

    def _images(self, world: World) -> Iterator[Step[World]]:
        if world.image is None and self._may(world, "images") and world.machines[0].asleep is None:
            image = replace(world.machines[0], is_image=True)
            yield Step(
                "an image is made of the server's disk", self._spend(replace(world, image=image), "images")
            )
        elif (
            world.image is not None
            and not any(machine.is_image for machine in world.machines)
            and world.machines[0].head != world.image.head
        ):
            after = replace(world, machines=(*world.machines, world.image), image=None)
            yield Step("the image is brought back, and wakes", after)

    def _losses(self, world: World) -> Iterator[Step[World]]:
        """The vault loses a pack that each machine that needs it knows another copy of."""
        there = {pack.order: pack.chunk for pack in world.packs if pack.there}
        for lost, chunk in there.items():
            others = {order for order, of in there.items() if of == chunk and order != lost}
            needing = [
                machine for machine in world.machines if any(night.pack == lost for night in machine.nights)
            ]
            if others and all(any(row.pack in others for row in machine.rows) for machine in needing):
                yield Step(f"the vault loses pack {lost}", self._gone(world, (lost,)))

    # The hostile server, and a person.

    def _forge(self, world: World) -> Iterator[Step[World]]:
        if not self._may(world, "forged"):
            return
        for name in self.cast.forgeries:
            after = self._spend(world, "forged")
            words = set(name.split())
            if "mark" in words:
                mark = Mark(
                    SERVER, NOBODY if "nobody" in words else HOSTILE, False, world.order, world.period
                )
                after = replace(after, marks=(*after.marks, mark), order=world.order + 1)
            else:
                after = self._with_catalog(after, self._forged(world, words))
            yield Step(f"the hostile server stores: {name}", after)

    def _forged(self, world: World, words: set[str]) -> Catalog:
        deltas = [self.vault.catalogs[number] for number in world.catalogs]
        newest = max(
            (catalog for catalog in deltas if catalog.machine >= 0 and catalog.shape != FULL),
            key=lambda catalog: catalog.order,
        )
        shape = FULL if "full" in words else FIRST if "first" in words else DELTA
        number = 1 if "low" in words else newest.number + 1 + 100 * ("high" in words)
        packs = tuple(pack.order for pack in world.packs)
        rows = tuple(Row(pack, "condemned", -MANY, 0) for pack in packs)
        said = Said(
            condemned=packs, forgotten=tuple(catalog.order for catalog in deltas if catalog.said.night >= 0)
        )
        is_impostor = "impostor" in words
        writer = SERVER if is_impostor else HOSTILE
        claims = (SERVER,) if "claims" in words else ()
        label = SERVER if "label" in words or is_impostor else NEVER if "job" in words else HOSTILE
        place = (
            world.order,
            world.period,
            NEVER,
            writer,
            HOSTILE,
            number,
            shape,
            NEVER if shape == FIRST else newest.order,
        )
        state = Folded((), rows) if shape != DELTA else None
        return Catalog(
            *place,
            claims,
            not claims,
            label,
            -MANY,
            said,
            state,
            forges=True,
            is_enrolled=not (is_impostor or "unenrolled" in words),
        )

    def _was_forged(self, world: World) -> bool:
        return world.spent[KINDS.index("forged")] > 0

    def _answered(self, world: World) -> World:
        forged = tuple(
            catalog.order
            for catalog in map(self.vault.catalogs.__getitem__, world.catalogs)
            if catalog.machine < 0
        )
        machines = tuple(
            replace(machine, answered=(HOSTILE, NOBODY), passed=(*machine.passed, *forged))
            for machine in world.machines
        )
        return self._spend(replace(world, machines=machines, answers=(HOSTILE,)), "answers")

    def _lets_go_on(self, world: World, shown: Shown) -> Iterator[Step[World]]:
        """A heir may go on without what came after its rebuild: its ancestors' catalogs are known then."""
        for index, machine in enumerate(world.machines):
            if self.is_overtaken(machine, shown):
                every = [self.vault.catalogs[number] for number in shown.catalogs]
                passed = tuple(catalog.order for catalog in every if catalog.label in machine.ancestors)
                after = self._put(world, index, replace(machine, passed=passed))
                yield Step(f"a person lets {self.name(machine)} go on without what came after", after)

    # Counts.

    def _may(self, world: World, kind: str) -> bool:
        which = KINDS.index(kind)
        return world.spent[which] < self._most[which]

    def _spend(self, world: World, kind: str) -> World:
        which = KINDS.index(kind)
        spent = (*world.spent[:which], world.spent[which] + 1, *world.spent[which + 1 :])
        return replace(world, spent=spent)

    def _put(self, world: World, index: int, machine: Machine) -> World:
        return replace(world, machines=(*world.machines[:index], machine, *world.machines[index + 1 :]))

    def name(self, machine: Machine) -> str:
        """What a story calls a machine."""
        return "the image" if machine.is_image else NAMES[machine.inventory]


def number_above(vault: RebuildableVault, shown: Shown, line: Sequence[int], state: Rebuilt) -> int:
    """A number above every one of the lineage that is mentioned anywhere (`find_states.next_catalog`)."""
    said = [
        vault.catalogs[number].number for number in shown.catalogs if vault.catalogs[number].label in line
    ]
    return max([state.number, *said])
