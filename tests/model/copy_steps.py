"""What may happen to two vaults: the host's doings, the copier's, the vaults' own, and accidents.

    found = search(Copies(CopyCast()))
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from tests.model import copy_decisions as decisions
from tests.model.copies import (
    ABSENT,
    CONDEMNED,
    DELETED,
    DELETING,
    DROPPED,
    FORGOTTEN,
    IN_VAULT,
    KEPT,
    KINDS,
    LOST,
    OLD,
    STORED,
    UNCONFIRMED,
    UNKNOWN,
    CopyCast,
    CopyRow,
    CopyRules,
    CopyWorld,
    ModelStep,
    Pending,
    Saved,
    SourcePack,
    TwoVaults,
    older,
    put,
)
from tests.model.search import Step

_DAYS_OF_A_COPY = 60
"""Steps after which a host that does all it can, and is not disturbed, must have come to an end."""


class Copies(CopyWorld):
    """The model."""

    def __init__(self, cast: CopyCast, rules: CopyRules | None = None) -> None:
        super().__init__(cast, rules)
        self._ended_well: set[TwoVaults] = set()

    def broken(self, world: TwoVaults) -> str:
        """The laws of a moment, and that all comes to a good end from here."""
        return super().broken(world) or self.ends_badly(world)

    def steps(self, world: TwoVaults) -> Iterator[ModelStep]:
        """Everything that may happen next."""
        if all(world.read) and not world.pending:
            yield from self.here(world)
        yield from self._prune_here(world)
        yield from self._there(world)
        yield from self._copier(world)
        yield from self._vault(world)
        yield from self._accidents(world)
        yield Step("a period passes", self.later(world))

    # At the source; how a backup, forget or prune may be cut there, `nights.py` searches.

    def here(self, world: TwoVaults) -> Iterator[ModelStep]:
        """A backup, forgetting, taking back at the source."""
        number = len(world.nights)
        if number < len(self.cast.nights):
            yield self._backup(world, self.cast.nights[number])
        for which, night in enumerate(world.nights):
            if night.here == KEPT and which < number - 1 and self.may(world, "forgets"):
                after = self._with_night(world, which, replace(night, here=FORGOTTEN, here_age=0))
                yield Step(f"snapshot {which} is forgotten at the source", self.spend(after, "forgets"))
            if night.here == FORGOTTEN and night.here_age == 0 and self.may(world, "undos"):
                after = self._with_night(world, which, replace(night, here=KEPT, here_age=0))
                yield Step(f"snapshot {which} is taken back at the source", self.spend(after, "undos"))

    def _backup(self, world: TwoVaults, content: tuple[int, ...]) -> ModelStep:
        packs = list(world.packs)
        places: list[tuple[int, int]] = []
        for chunk in content:
            pack = next(
                (number for number, old in enumerate(packs) if old.chunk == chunk and old.state == STORED), -1
            )
            if pack < 0:
                pack = len(packs)
                packs.append(SourcePack(chunk, STORED, 0))
            places.append((pack, chunk))
        night = Saved(tuple(places), KEPT, 0, ABSENT, 0)
        after = replace(world, packs=tuple(packs), nights=(*world.nights, night))
        return Step(f"a backup: snapshot {len(world.nights)} needs packs {[pack for pack, _ in places]}", after)

    def _prune_here(self, world: TwoVaults) -> Iterator[ModelStep]:
        if world.pending or not world.read[0] or not self.rules.may_change(world.read):
            return
        plan = self.plan_here(world)
        if plan.is_empty:
            return
        after = self.pruned_here(world)
        told = ", ".join(
            f"{word} pack {', '.join(str(archive.number) for archive in some)}"
            for word, some in (("condemns", plan.condemn), ("keeps again", plan.take_up), ("deletes", plan.delete))
            if some
        )
        yield Step(f"a prune of the source {told}", after, self.goes_too_early(world, plan))

    def pruned_here(self, world: TwoVaults) -> TwoVaults:
        """The world after a prune of the source."""
        plan = self.plan_here(world)
        packs = list(world.packs)
        for some, state in ((plan.condemn, CONDEMNED), (plan.take_up, STORED), (plan.delete, DELETED)):
            for archive in some:
                packs[archive.number] = SourcePack(packs[archive.number].chunk, state, 0)
        after = replace(world, packs=tuple(packs))
        nights = tuple(
            replace(night, here=DROPPED, here_age=0)
            if night.here == FORGOTTEN and next(self.only(after, night), None) is not None
            else night
            for night in world.nights
        )
        return replace(after, nights=nights)

    # At the destination: each change is a catalog there, which may be cut.

    def _there(self, world: TwoVaults) -> Iterator[ModelStep]:
        if world.pending:
            yield Step("the catalog that was begun is finished", self.made_true(world))
            return
        if not all(world.read):
            yield Step("the catalogs of both vaults are read, the destination is listed", self.all_read(world))
        if not self.rules.may_change(world.read):
            return
        for story, said in self.sayings(world):
            yield from self._said(world, story, said)
        yield from self._prune_there(world)

    def sayings(self, world: TwoVaults) -> Iterator[tuple[str, Pending]]:
        """What the host may say in a catalog of the destination."""
        known, stored = self.known(world), self.rules.stored(self.archives(world))
        for number, night in enumerate(world.nights):
            if night in known and self.rules.wants(night) and not self.is_said_copied(world, night):
                if self.rules.is_whole(self.needs(world, night), stored):
                    yield f"snapshot {number} is copied", Pending(False, copied=(number,))
            if night not in known:
                continue
            if night.there in {ABSENT, KEPT} and self.may(world, "forgets_there"):
                yield f"snapshot {number} is forgotten at the destination", Pending(False, forgotten=(number,))
            elif night.there == FORGOTTEN and night.there_age < OLD and self.may(world, "undos"):
                if self.comes_back_there(world, night):
                    yield f"snapshot {number} is taken back there", Pending(False, back=(number,))

    def _said(self, world: TwoVaults, story: str, said: Pending) -> Iterator[ModelStep]:
        """The catalog is stored and recorded, or the host dies before or after it is stored."""
        for field, kind in (("forgotten", "forgets_there"), ("back", "undos")):
            if getattr(said, field):
                world = self.spend(world, kind)
        begun = replace(world, pending=(said,))
        yield Step(story, self.made_true(begun), self.given_up(begun))
        if self.may(world, "crashes"):
            dead = self.spend(begun, "crashes")
            yield Step(f"{story}: the host dies before its catalog is stored", dead)
            stored = replace(dead, pending=(replace(said, is_stored=True),))
            yield Step(f"{story}: its catalog is stored, the host dies before it records that", stored)

    def given_up(self, begun: TwoVaults) -> str:
        """Whether the destination's catalogs lose a snapshot that nobody gave up."""
        pairs = zip(begun.nights, self.made_true(begun).nights, strict=True)
        for number, (before, after) in enumerate(pairs):
            if before.there == KEPT and after.there == DROPPED:
                return f"the catalogs of the destination lose snapshot {number}"
        return ""

    def made_true(self, world: TwoVaults) -> TwoVaults:
        """What the catalog that was begun says is recorded."""
        if not world.pending:
            return world
        said, nights, rows = world.pending[0], list(world.nights), list(world.rows)
        for which in said.copied:
            nights[which] = replace(nights[which], there=KEPT, there_age=0)
            rows = [replace(row, is_said=row.is_said or row.state == STORED) for row in rows]
        for which in said.forgotten:
            was_whole = self.is_said_copied(world, nights[which])
            nights[which] = replace(nights[which], there=FORGOTTEN, there_age=0 if was_whole else OLD)
        for which in said.back:
            nights[which] = replace(nights[which], there=KEPT, there_age=0)
        for which in said.dropped:
            nights[which] = replace(nights[which], there=DROPPED, there_age=0)
        for which in said.condemned:
            rows[which] = replace(rows[which], state=CONDEMNED, age=0, is_said=True)
        for which in said.taken_up:
            rows[which] = replace(rows[which], state=UNCONFIRMED, age=0)
        if not world.read[1]:  # a full catalog of an inventory that has not read those before it
            nights = [night if night.here in {KEPT, FORGOTTEN} else replace(night, there=DROPPED) for night in nights]
        return replace(world, pending=(), nights=tuple(nights), rows=tuple(rows))

    def _prune_there(self, world: TwoVaults) -> Iterator[ModelStep]:
        if not world.read[1]:
            return
        listed = self.listed(world)
        deciding, due, said = self.decided_there(listed)
        if deciding == world and said == Pending(False):
            return
        told = [f"decides to delete {self._names(listed, due)}"] if due else []
        told += [f"condemns {self._names(listed, said.condemned)}"] if said.condemned else []
        told += [f"takes up {self._names(listed, said.taken_up)}"] if said.taken_up else []
        told += [f"gives up snapshots {list(said.dropped)}"] if said.dropped else []
        story = f"a check and prune of the destination {', '.join(told) or 'record what the list shows'}"
        broken = self.takes_what_is_kept(listed, due)
        if said == Pending(False):
            yield Step(story, deciding, broken)
        else:
            for step in self._said(deciding, story, said):
                yield Step(step.story, step.world, broken)

    def decided_there(self, listed: TwoVaults) -> tuple[TwoVaults, tuple[int, ...], Pending]:
        """What a prune of the destination records at once, what it deletes, what its catalog says."""
        plan = self.plan_there(listed)
        rows = list(listed.rows)
        due = tuple(archive.number for archive in plan.delete if rows[archive.number].state != DELETING)
        for which in due:
            rows[which] = replace(rows[which], state=DELETING, age=0)
        after = replace(listed, rows=tuple(rows))
        dropped = tuple(
            number
            for number, night in enumerate(after.nights)
            if night.there == FORGOTTEN and not self.comes_back_there(after, night) and night.there_age > 0
        )
        said = Pending(
            False,
            dropped=tuple(which for which in dropped if after.nights[which].there != DROPPED),
            condemned=tuple(archive.number for archive in plan.condemn),
            taken_up=tuple(archive.number for archive in plan.take_up),
        )
        return after, due, said

    def _names(self, world: TwoVaults, which: tuple[int, ...]) -> str:
        return f"the copy of pack {', '.join(str(world.rows[number].pack) for number in which)}"

    def all_read(self, world: TwoVaults) -> TwoVaults:
        """A rebuilt inventory has read both vaults' catalogs, and a list of the destination."""
        return self.listed(replace(world, read=(True, True)))

    def listed(self, world: TwoVaults) -> TwoVaults:
        """The inventory after a list of the destination."""
        rows = []
        for number, row in enumerate(world.rows):
            is_shown = row.shown if self.cast.is_late else row.there
            if row.state == UNKNOWN and is_shown and self.rules.adopts:
                row = replace(row, state=UNCONFIRMED, age=0)
            if row.state == UNCONFIRMED and is_shown:
                if self.is_proven(world, row, number):
                    row = replace(row, state=STORED, age=0)
            elif not is_shown and (row.state == STORED or (row.state == UNCONFIRMED and row.age > 0)):
                row = replace(row, state=LOST, age=0)
            elif not is_shown and row.state == CONDEMNED and row.age > 0:
                row = replace(row, state=DELETED, age=0)
            rows.append(row)
        after = replace(world, rows=tuple(rows))
        nights = tuple(
            replace(night, there_age=OLD)  # what the destination lost was not promised
            if night.there == FORGOTTEN and not self.comes_back_there(after, night)
            else night
            for night in world.nights
        )
        return self.tidy(replace(after, nights=nights))

    def tidy(self, world: TwoVaults) -> TwoVaults:
        """Without what is gone and of no more consequence; while a catalog is begun all keep their numbers."""
        if world.pending:
            return world
        return replace(
            world,
            rows=tuple(
                row
                for row in world.rows
                if row.there or row.dying or row.state in {STORED, UNCONFIRMED, CONDEMNED, DELETING}
                or (row.state == DELETED and row.age == 0)
            ),
        )

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
        rows = []
        for row in world.rows:
            if not row.is_said:
                row = replace(row, state=UNKNOWN, age=0)
            elif row.state in {DELETING, DELETED}:
                row = replace(row, state=CONDEMNED, age=OLD)
            elif row.state in {STORED, LOST}:
                row = replace(row, state=UNCONFIRMED, age=0)
            rows.append(row)
        flights = tuple(sorted((pack, False) for pack, _ in world.flights))
        return self.tidy(replace(world, rows=tuple(rows), flights=flights, pending=(), read=read))

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

    def _with_night(self, world: TwoVaults, which: int, night: Saved) -> TwoVaults:
        return replace(world, nights=put(world.nights, which, night))

    # All comes to a good end.

    def ends_badly(self, world: TwoVaults) -> str:
        """What is wrong in the end, where from here on nothing is done but what has to be done."""
        passed = []
        for _ in range(_DAYS_OF_A_COPY):
            if world in self._ended_well:
                break
            passed.append(world)
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
        wanted = [self.needs(world, night) for night in world.nights if night.there not in {FORGOTTEN, DROPPED}]
        for number, night in enumerate(world.nights):
            if night.there in {FORGOTTEN, DROPPED} or self.is_said_copied(world, night):
                continue
            if not world.spent[KINDS.index("faults")]:
                return f"the copy of snapshot {number}, which is wanted, is never made"
            if not decisions.cannot_be_made(self.needs(world, night), archives, source):
                return f"the copy of snapshot {number} could be made, and is not"
        needed = decisions.needed_there(wanted, archives)
        for which, row in enumerate(world.rows):
            if row.there and which not in needed:
                return f"the copy of pack {row.pack}, which nothing needs, stays at the destination"
        kept = self.needed_here(world) | decisions.held_for_copies(self.wanted_and_said(world), copied, source)
        for which, pack in enumerate(world.packs):
            if pack.state in IN_VAULT and which not in kept:
                return f"pack {which}, which nothing needs, stays at the source"
        return ""
