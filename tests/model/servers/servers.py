"""Several machines of one server in one vault: itself, its old image, heirs, a liar, a keeper, a person.

What a machine or a keeper decides is decided by the program (`machines.py`, `pruning.py`, `keeping.py`,
`vault.py`, `rebuilding.py`).
Modelled is who acts when, what each of them can see, and what the vault has.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from tests.model.search import Step
from tests.model.servers.machines import recorded
from tests.model.servers.others import Others
from tests.model.servers.vault import Shown
from tests.model.servers.world import (
    CONDEMNED,
    DELETED,
    DELETING,
    HOSTILE,
    KINDS,
    SERVER,
    Asleep,
    Machine,
    Row,
    Said,
    World,
)


class Servers(Others):
    """The model; a mutant replaces one of its decisions."""

    @property
    def initial(self) -> World:
        """An empty vault and a server without a snapshot."""
        first = Machine(SERVER, False, (), 0)
        return World(0, 1, (), (), (), (first,), None, None, (), (0,) * len(KINDS))

    def steps(self, world: World) -> Iterator[Step[World]]:
        """All that may happen next."""
        shown = self.vault.shown(world)
        for index, machine in enumerate(world.machines):
            if machine.asleep is not None and machine.asleep.sent < 0:
                yield self._wake(world, index, machine)
            else:
                yield from self._acts(world, shown, index, machine)
        yield from self._keep(world, shown)
        if world.catalogs:
            yield from self._rebuilds(world, shown)
            yield from self._images(world)
            yield from self._forge(world)
        if self._may(world, "answers") and self._was_forged(world) and HOSTILE not in world.answers:
            yield Step("a person says that the hostile server takes no part", self._answered(world))
        if self._may(world, "answers"):
            yield from self._lets_go_on(self._spend(world, "answers"), shown)
        if self._may(world, "losses"):
            yield from self._losses(self._spend(world, "losses"))
        if world.period < self.cast.periods:
            packs = tuple(replace(pack, shown=pack.there) for pack in world.packs)
            yield Step("a period passes", replace(world, period=world.period + 1, packs=packs))

    # A machine.

    def _acts(self, world: World, shown: Shown, index: int, before: Machine) -> Iterator[Step[World]]:
        machine = recorded(self, before)
        if self._may(world, "skews") and not machine.is_image and not machine.ahead and machine.nights:
            for ahead in (-1, 1):
                changed = self._put(world, index, replace(machine, ahead=ahead))
                yield Step(
                    f"the clock of {self.name(machine)} is set wrong by {ahead}",
                    self._spend(changed, "skews"),
                )
        if machine.ahead:
            yield Step(
                f"the clock of {self.name(machine)} is set right",
                self._put(world, index, replace(machine, ahead=0)),
            )
        if self.stops(machine, shown):
            return
        machine = self.ready(machine, shown)
        kind = (
            "image_nights" if machine.is_image else "nights" if machine.inventory == SERVER else "heir_nights"
        )
        if self._may(world, kind):
            yield from self._nights(self._spend(world, kind), index, machine)
        if self._may(world, "forgets"):
            for night in machine.nights[:-1]:
                if night.forgotten < 0:
                    said = Said(forgotten=(night.order,))
                    after = self._stored(self._spend(world, "forgets"), index, machine, said)
                    yield Step(f"{self.name(machine)} forgets snapshot {night.order}", after)
        if self._may(world, "undos"):
            yield from self._undos(self._spend(world, "undos"), shown, index, machine)
        if self._may(world, "undeletes"):
            yield from self._undeletes(self._spend(world, "undeletes"), shown, index, machine)
        if self._may(world, "prunes") and machine.nights:
            yield from self._prunes(self._spend(world, "prunes"), shown, index, machine)

    def _nights(self, world: World, index: int, machine: Machine) -> Iterator[Step[World]]:
        who = self.name(machine)
        for chunk in self.contents(world, machine):
            place = self.place_of(world, machine, chunk)
            after = world
            if place is None:
                if len(world.packs) >= self.cast.packs:
                    continue
                after, place = self.with_pack(world, machine, chunk)
            story = f"{who} saves a snapshot of chunk {chunk} in pack {place}"
            said = Said(night=place)
            yield Step(story, self._stored(after, index, machine, said))
            if self._may(world, "crashes"):
                yield Step(
                    f"{story}, and dies before it records that",
                    self._sent(self._spend(after, "crashes"), index, machine, said),
                )
            yield from self._sleeps(after, index, machine, said, story)

    def _undos(self, world: World, shown: Shown, index: int, machine: Machine) -> Iterator[Step[World]]:
        if self.looks_before_taking_back(machine):
            machine = self.only_shown(machine, shown)
        for night in machine.nights:
            taken_up = self.taken_up_with(world, machine, night) if night.forgotten >= 0 else None
            if taken_up is not None:
                said = Said(back=(night.order,), taken_up=taken_up)
                story = f"{self.name(machine)} takes snapshot {night.order} back"
                is_gone = taken_up and self.is_surely_gone(night, shown)
                broken = f"{story}, and the list shows no {taken_up}" if is_gone else ""
                yield Step(story, self._stored(world, index, machine, said), broken)
                yield from self._sleeps(world, index, machine, said, story)

    def _undeletes(self, world: World, shown: Shown, index: int, machine: Machine) -> Iterator[Step[World]]:
        """What is condemned, and the list shows, is taken back without a snapshot."""
        there = {pack.order for pack in shown.packs}
        for row in machine.rows:
            if row.state == CONDEMNED and row.pack in there:
                after = self._stored(world, index, machine, Said(taken_up=(row.pack,)))
                yield Step(f"{self.name(machine)} undeletes pack {row.pack}", after)

    def _sleeps(
        self, world: World, index: int, machine: Machine, said: Said, story: str
    ) -> Iterator[Step[World]]:
        """Before its catalog is sent, or while that is on its way."""
        if self._may(world, "sleeps") and "run" in self.cast.sleepers:
            marked, machine = self._marked(self._spend(world, "sleeps"), machine)
            for is_sending in (False, True):
                asleep = Asleep(said, since=world.period, is_sending=is_sending)
                moment = "while its catalog is sent" if is_sending else "before its catalog is sent"
                yield Step(
                    f"{story}, and sleeps {moment}", self._put(marked, index, replace(machine, asleep=asleep))
                )

    def _sent(self, world: World, index: int, machine: Machine, said: Said) -> World:
        """The catalog is in the vault, and the machine does not know it yet."""
        after = self._stored(world, index, machine, said, with_full=False)
        order = self.vault.catalogs[after.catalogs[-1]].order
        marked = replace(machine, is_marked=after.machines[index].is_marked, asleep=Asleep(said, sent=order))
        return self._put(after, index, marked)

    def _wake(self, world: World, index: int, machine: Machine) -> Step[World]:
        asleep, who = machine.asleep, self.name(machine)
        assert asleep is not None
        machine = replace(machine, asleep=None)
        slept = self.looks_again(asleep.since, world.period)
        if asleep.due:
            if self.is_late(asleep.since, world.period):
                return Step(f"{who} wakes, and asks for no deletion", self._put(world, index, machine))
            after = self._deleted(world, index, machine, asleep.due)
            return Step(f"{who} wakes and deletes {asleep.due}", after)
        if slept and not asleep.is_sending:
            shown = self.vault.shown(world)
            if not self.still_goes_on(machine, shown):
                after = self._put(world, index, self.only_shown(machine, shown))
                return Step(f"{who} wakes, looks at the vault, and sends no catalog", after)
        if slept and asleep.is_sending:
            sent = self._sent(world, index, machine, asleep.said)
            shown = self.vault.shown(sent)
            if not self.still_goes_on(machine, self.but_own(shown, sent)):
                return Step(f"{who} wakes, its catalog arrives, and it does not say that it is done", sent)
        return Step(f"{who} wakes and stores its catalog", self._stored(world, index, machine, asleep.said))

    def but_own(self, shown: Shown, world: World) -> Shown:
        """A list without the catalog that was sent last, which its sender knows."""
        return replace(
            shown, catalogs=tuple(number for number in shown.catalogs if number != world.catalogs[-1])
        )

    def _prunes(self, world: World, shown: Shown, index: int, machine: Machine) -> Iterator[Step[World]]:
        if self.prune_stops(machine, shown):
            return
        world, machine = self._with_marks(world, machine)
        found = self.plan(machine, shown)
        if found is None:
            return
        machine, said, due = found
        broken = self.unlawful(world, due, shown)
        who = self.name(machine)
        after = self._deleted(world, index, machine, due) if due else world
        machine = after.machines[index] if due else machine
        said = replace(said, dropped=self.beyond(after, machine, shown))
        if said != Said():
            after = self._stored(after, index, machine, said)
        elif not due:
            after = self._put(after, index, machine)
        told = ", ".join(
            f"{word} {getattr(said, word)}"
            for word in ("condemned", "taken_up", "dropped")
            if getattr(said, word)
        )
        yield Step(f"{who} prunes: deletes {due or 'nothing'}; {told or 'says nothing'}", after, broken)
        if due and self._may(world, "sleeps") and "prune" in self.cast.sleepers:
            rows = tuple(Row(row.pack, DELETING) if row.pack in due else row for row in found[0].rows)
            asleep = replace(found[0], rows=rows, asleep=Asleep(Said(), due=due, since=world.period))
            yield Step(
                f"{who} decides to delete {due}, and sleeps",
                self._spend(self._put(world, index, asleep), "sleeps"),
                broken,
            )

    def _deleted(self, world: World, index: int, machine: Machine, due: tuple[int, ...]) -> World:
        rows = tuple(Row(row.pack, DELETED) if row.pack in due else row for row in machine.rows)
        return self._put(self._gone(world, due), index, replace(machine, rows=rows))
