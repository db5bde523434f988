"""What may happen to two vaults: the host's doings, the copier's, the vaults' own, and accidents.

found = search(Copies(CopyCast()))
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from backup.retention import copies as decisions
from tests.model.copying import decisions as later
from tests.model.copying.host import CopyHost
from tests.model.copying.two_vaults import (
    ABSENT,
    CONDEMNED,
    DELETED,
    DELETING,
    DROPPED,
    FORGOTTEN,
    IN_VAULT,
    KINDS,
    LOST,
    OLD,
    STORED,
    UNCONFIRMED,
    UNKNOWN,
    CopyCast,
    CopyRow,
    CopyRules,
    ModelStep,
    TwoVaults,
    older,
)
from tests.model.search import Step
from tests.model.world import put

_DAYS_OF_A_COPY = 60
"""Steps after which a host that does all it can, and is not disturbed, must have come to an end."""


class Copies(CopyHost):
    """The model."""

    def __init__(self, cast: CopyCast, rules: CopyRules | None = None) -> None:
        super().__init__(cast, rules)
        self._ended_well: set[int] = set()

    def broken(self, world: TwoVaults) -> str:
        """The laws of a moment, and that all comes to a good end from here."""
        return super().broken(world) or self.ends_badly(world)

    def steps(self, world: TwoVaults) -> Iterator[ModelStep]:
        """Everything that may happen next."""
        if all(world.read) and not world.pending:
            yield from self.here(world)
        yield from self.prune_here(world)
        yield from self.there(world)
        yield from self._copier(world)
        yield from self._vault(world)
        yield from self._accidents(world)
        yield Step("a period passes", self.later(world))

    # The copier.

    def _copier(self, world: TwoVaults) -> Iterator[ModelStep]:
        if all(world.read) and not world.pending and len(world.flights) < 2:
            for pack in sorted(self.to_send(world)):
                yield Step(f"a copier is ordered to send pack {pack}", self.ordered(world, pack))
            for pack, is_heard in world.flights:
                if is_heard and self.may(world, "again"):
                    after = self.spend(self.ordered(world, pack), "again")
                    yield Step(f"a second copier is ordered to send pack {pack}", after)
        for which, (pack, is_heard) in enumerate(world.flights):
            yield Step(f"the copy of pack {pack} comes to the destination", self.landed(world, which))
            done = replace(world, flights=world.flights[:which] + world.flights[which + 1 :])
            yield Step(f"the copier dies before it sent pack {pack}", done)
            if is_heard and self.may(world, "faults"):
                deaf = replace(world, flights=put(world.flights, which, (pack, False)))
                yield Step(
                    f"the copy of pack {pack} comes to the destination, the answer is lost",
                    self.spend(self.landed(deaf, which), "faults"),
                )
                lie = CopyRow(pack, False, False, False, False, self._first_state(), 0, False)
                yield Step(
                    f"the copier says that pack {pack} came to the destination, and it did not",
                    self.spend(replace(done, rows=(*world.rows, lie)), "faults"),
                )

    def ordered(self, world: TwoVaults, pack: int) -> TwoVaults:
        """A copier has an order."""
        return replace(world, flights=tuple(sorted((*world.flights, (pack, True)))))

    def landed(self, world: TwoVaults, which: int) -> TwoVaults:
        """The copier did what it was ordered, where the source still has the pack and its name is free."""
        pack, is_heard = world.flights[which]
        rows = world.rows
        flights = world.flights[:which] + world.flights[which + 1 :]
        if world.packs[pack].state in {DELETED, LOST}:
            return replace(world, flights=flights)
        there = [number for number, row in enumerate(rows) if row.pack == pack and row.there]
        state = self._first_state() if is_heard else UNKNOWN
        if self.cast.is_named and there:
            row = rows[there[0]]
            if row.state == UNKNOWN:
                rows = put(rows, there[0], replace(row, state=state, age=0))
        else:
            rows = (*rows, CopyRow(pack, True, False, False, False, state, 0, False))
        return replace(world, rows=rows, flights=flights)

    def _first_state(self) -> str:
        return STORED if self.rules.trusts_copier else UNCONFIRMED

    # The destination by itself.

    def _vault(self, world: TwoVaults) -> Iterator[ModelStep]:
        for number, row in enumerate(world.rows):
            name = f"the copy of pack {row.pack}"
            if row.dying:
                yield Step(f"the late deletion of {name} is carried out", self.killed(world, number))
            if row.state == DELETING and all(world.read) and not world.pending:
                yield Step(f"{name} is deleted", self.deleted(world, number))
                if self.may(world, "faults"):
                    lost = self.spend(self.killed(world, number), "faults")
                    yield Step(f"{name} is deleted, the answer is lost", lost)
                    late = replace(world, rows=put(world.rows, number, replace(row, dying=True)))
                    yield Step(
                        f"{name} is to be deleted later, the answer is lost", self.spend(late, "faults")
                    )
            if row.there and row.state == STORED and self.may(world, "faults"):
                gone = replace(row, there=False, vanished=True)
                after = replace(world, rows=put(world.rows, number, gone))
                yield Step(f"the destination loses {name}", self.spend(after, "faults"))

    def killed(self, world: TwoVaults, number: int) -> TwoVaults:
        """A deletion is carried out: of this archive, or of whatever has its name now."""
        pack, named = world.rows[number].pack, self.cast.is_named
        rows = [
            replace(row, there=False) if other == number or (named and row.pack == pack) else row
            for other, row in enumerate(world.rows)
        ]
        rows[number] = replace(rows[number], dying=False)
        return replace(world, rows=tuple(rows))

    def deleted(self, world: TwoVaults, number: int) -> TwoVaults:
        """A deletion is carried out and answered; one that was asked for before may still come."""
        after = self.killed(world, number)
        row = replace(after.rows[number], state=DELETED, age=0, dying=world.rows[number].dying)
        return replace(after, rows=put(after.rows, number, row))

    # Accidents.

    def _accidents(self, world: TwoVaults) -> Iterator[ModelStep]:
        if world.nights and self.may(world, "rebuilds"):
            yield Step(
                "the host is lost; its inventory is rebuilt from the source alone",
                self.spend(self._rebuilt(world, (True, False)), "rebuilds"),
            )
            if any(night.there != ABSENT for night in world.nights):
                yield Step(
                    "the host is lost; its inventory is rebuilt from the destination alone",
                    self.spend(self._rebuilt(world, (False, True)), "rebuilds"),
                )

    def _rebuilt(self, world: TwoVaults, read: tuple[bool, bool]) -> TwoVaults:
        if world.pending and world.pending[0].is_stored:
            world = self.made_true(world)
        rows = tuple(self._as_catalogs_say(row) for row in world.rows)
        flights = tuple(sorted((pack, False) for pack, _ in world.flights))
        return self.tidy(replace(world, rows=rows, flights=flights, pending=(), read=read))

    def _as_catalogs_say(self, row: CopyRow) -> CopyRow:
        if not row.is_said:
            return replace(row, state=UNKNOWN, age=0)
        if row.state in {DELETING, DELETED}:
            return replace(row, state=CONDEMNED, age=OLD)
        return row if row.state == CONDEMNED else replace(row, state=UNCONFIRMED, age=0)

    def later(self, world: TwoVaults) -> TwoVaults:
        """A period later: deletions that were late are carried out."""
        for number, row in enumerate(world.rows):
            if row.dying:
                world = self.killed(world, number)
        aged = {CONDEMNED, UNCONFIRMED, DELETED}
        rows = tuple(
            replace(
                row,
                age=older(row.age) if row.state in aged else 0,
                shown=self.cast.is_late and row.there,
            )
            for row in world.rows
        )
        packs = tuple(
            replace(pack, age=older(pack.age)) if pack.state == CONDEMNED else replace(pack, age=0)
            for pack in world.packs
        )
        nights = tuple(
            replace(
                night,
                here_age=older(night.here_age) if night.here == FORGOTTEN else 0,
                there_age=older(night.there_age) if night.there == FORGOTTEN else 0,
            )
            for night in world.nights
        )
        return self.tidy(replace(world, rows=rows, packs=packs, nights=nights))

    # All comes to a good end.

    def ends_badly(self, world: TwoVaults) -> str:
        """What is wrong in the end, where from here on nothing is done but what has to be done."""
        passed: list[int] = []
        for _ in range(_DAYS_OF_A_COPY):
            if hash(world) in self._ended_well:
                break
            passed.append(hash(world))
            after = self.next_of_all(world)
            if after == world:
                if wrong := self.is_no_good_end(world):
                    return wrong
                break
            world = after
        else:
            return "it never comes to an end: what one does the other undoes"
        self._ended_well.update(passed)
        return ""

    def next_of_all(self, world: TwoVaults) -> TwoVaults:
        """The next thing that has to be done."""
        if world.pending:
            return self.made_true(world)
        if not all(world.read):
            return self.all_read(world)
        if world.flights:
            return self.landed(world, 0)
        for number, row in enumerate(world.rows):
            if row.dying:
                return self.killed(world, number)
            if row.state == DELETING:
                return self.deleted(world, number)
        for _, said in self.sayings(world):
            if said.copied:
                return self.made_true(replace(world, pending=(said,)))
        if send := self.to_send(world):
            return self.ordered(world, min(send))
        if not self.plan_here(world).is_empty:
            return self.pruned_here(world)
        deciding, _, said = self.decided_there(self.listed(world))
        after = self.made_true(replace(deciding, pending=(said,)))
        return after if after != world else self.later(world)

    def is_no_good_end(self, world: TwoVaults) -> str:
        """What of a world in which nothing is left to be done is not as it should be."""
        archives, source = self.archives(world), self.source(world)
        copied = decisions.packs_copied(archives)
        wanted = [
            self.needs(world, night) for night in world.nights if night.there not in {FORGOTTEN, DROPPED}
        ]
        for number, night in enumerate(world.nights):
            if night.there in {FORGOTTEN, DROPPED} or self.is_said_copied(world, night):
                continue
            if not world.spent[KINDS.index("faults")]:
                return f"the copy of snapshot {number}, which is wanted, is never made"
            if not later.cannot_be_made(self.needs(world, night), archives, source):
                return f"the copy of snapshot {number} could be made, and is not"
        needed = decisions.needed_there(wanted, archives)
        for which, row in enumerate(world.rows):
            if row.there and which not in needed:
                return f"the copy of pack {row.pack}, which nothing needs, stays at the destination"
        kept = self.needed_here(world) | decisions.held_for_copies(
            self.wanted_and_said(world), copied, source
        )
        for which, pack in enumerate(world.packs):
            if pack.state in IN_VAULT and which not in kept:
                return f"pack {which}, which nothing needs, stays at the source"
        return ""
