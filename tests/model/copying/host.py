"""What the host of two vaults does, at the source, at the destination, and after a list."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from tests.model.copying.two_vaults import (
    ABSENT,
    CONDEMNED,
    DELETED,
    DELETING,
    DROPPED,
    FORGOTTEN,
    KEPT,
    LOST,
    OLD,
    STORED,
    UNCONFIRMED,
    UNKNOWN,
    CopyRow,
    CopyWorld,
    ModelStep,
    Pending,
    Saved,
    SourcePack,
    TwoVaults,
)
from tests.model.search import Step
from tests.model.world import put

_DAYS_OF_A_COPY = 60
"""Steps after which a host that does all it can, and is not disturbed, must have come to an end."""


class CopyHost(CopyWorld):
    """The host."""

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
        return Step(
            f"a backup: snapshot {len(world.nights)} needs packs {[pack for pack, _ in places]}", after
        )

    def prune_here(self, world: TwoVaults) -> Iterator[ModelStep]:
        if world.pending or not world.read[0] or not self.rules.may_change(world.read):
            return
        plan = self.plan_here(world)
        if plan.is_empty:
            return
        after = self.pruned_here(world)
        told = ", ".join(
            f"{word} pack {', '.join(str(archive.number) for archive in some)}"
            for word, some in (
                ("condemns", plan.condemn),
                ("keeps again", plan.take_up),
                ("deletes", plan.delete),
            )
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

    def there(self, world: TwoVaults) -> Iterator[ModelStep]:
        if world.pending:
            yield Step("the catalog that was begun is finished", self.made_true(world))
            return
        if not all(world.read):
            yield Step(
                "the catalogs of both vaults are read, the destination is listed", self.all_read(world)
            )
        if not self.rules.may_change(world.read):
            return
        for story, said in self.sayings(world):
            yield from self._said(world, story, said)
        yield from self._prune_there(world)

    def sayings(self, world: TwoVaults) -> Iterator[tuple[str, Pending]]:
        """What the host may say in a catalog of the destination."""
        known, stored = self.known(world), self.rules.stored(self.archives(world))
        for number, night in enumerate(world.nights):
            if night not in known:
                continue
            is_due = self.rules.wants(night) and not self.is_said_copied(world, night)
            if is_due and self.rules.is_whole(self.needs(world, night), stored):
                yield f"snapshot {number} is copied", Pending(False, copied=(number,))
            if night.there in {ABSENT, KEPT} and self.may(world, "forgets_there"):
                yield (
                    f"snapshot {number} is forgotten at the destination",
                    Pending(False, forgotten=(number,)),
                )
            elif night.there_age < OLD and self.may_come_back(world, night):
                yield f"snapshot {number} is taken back there", Pending(False, back=(number,))

    def may_come_back(self, world: TwoVaults, night: Saved) -> bool:
        """Whether a copy that was forgotten may be taken back."""
        is_left = night.there == FORGOTTEN and self.comes_back_there(world, night)
        return is_left and self.may(world, "undos")

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
            nights = [
                night if night.here in {KEPT, FORGOTTEN} else replace(night, there=DROPPED)
                for night in nights
            ]
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
        if self.cast.is_named:
            world = self._by_name(world)
        rows = tuple(self._seen(world, row, number) for number, row in enumerate(world.rows))
        lost = {
            world.packs[after.pack].chunk
            for before, after in zip(world.rows, rows, strict=True)
            if after.state == LOST and before.state != LOST
        }
        nights = tuple(
            replace(night, there_age=OLD)  # what the destination lost was not promised
            if night.there == FORGOTTEN and lost.intersection(chunk for _, chunk in night.places)
            else night
            for night in world.nights
        )
        return self.tidy(replace(world, rows=rows, nights=nights))

    def _seen(self, world: TwoVaults, row: CopyRow, number: int) -> CopyRow:
        """What a list makes of an archive."""
        is_shown = row.shown if self.cast.is_late else row.there
        state, age = row.state, row.age
        if state == UNKNOWN and is_shown and self.rules.adopts:
            state, age = UNCONFIRMED, 0
        if state == UNCONFIRMED and is_shown:
            if self.is_proven(world, replace(row, age=age), number):
                state, age = STORED, 0
        elif not is_shown and (state == STORED or (state == UNCONFIRMED and age > 0)):
            state, age = LOST, 0
        elif not is_shown and state == CONDEMNED and age > 0:
            state, age = DELETED, 0
        return replace(row, state=state, age=age)

    def _by_name(self, world: TwoVaults) -> TwoVaults:
        """What nobody knows and has the name of a known archive is taken for that."""
        rows = list(world.rows)
        for number, row in enumerate(rows):
            for other, unknown in enumerate(rows):
                is_same = unknown.pack == row.pack and unknown.state == UNKNOWN and unknown.there
                if is_same and not row.there and row.state in {CONDEMNED, UNCONFIRMED}:
                    rows[number] = replace(row, there=True, shown=unknown.shown)
                    rows[other] = replace(unknown, there=False)
                    break
        return replace(world, rows=tuple(rows))

    def tidy(self, world: TwoVaults) -> TwoVaults:
        """Without what is gone and of no consequence; where a catalog is begun all keep their numbers."""
        if world.pending:
            return world
        return replace(
            world,
            rows=tuple(
                row
                for row in world.rows
                if row.there
                or row.dying
                or row.state in {STORED, UNCONFIRMED, CONDEMNED, DELETING}
                or (row.state == DELETED and row.age == 0)
            ),
        )

    def _with_night(self, world: TwoVaults, which: int, night: Saved) -> TwoVaults:
        return replace(world, nights=put(world.nights, which, night))
