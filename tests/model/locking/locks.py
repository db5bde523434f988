"""What may happen to a vault with object locks: the host's doings, an intruder's, renewals, deletions, time.

found = search(Locks(LockCast()))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from msgspec.structs import replace

from tests.model.locking.locked_vault import (
    BACK,
    CATALOGS,
    FOR_EVER,
    HONEST,
    HOSTILE,
    JUNK,
    KINDS,
    PERIOD,
    DeletionAnswer,
    LockCast,
    LockedState,
    LockedVault,
    LockGuards,
    LockObject,
    LockWorld,
    StateCatalog,
    answer_to_deletion,
)
from tests.model.search import Step
from tests.model.world import put


class Locks(LockWorld):
    """The model."""

    def __init__(self, cast: LockCast, guards: LockGuards | None = None) -> None:
        super().__init__(cast, guards)
        self._ended_well: set[int] = set()

    def broken(self, world: LockedVault) -> str:
        """The laws of a moment, and that all comes to a good end from here."""
        return super().broken(world) or self.ends_badly(world)

    # What may happen.

    def steps(self, world: LockedVault) -> Iterator[Step[LockedVault]]:
        """Everything that may happen next."""
        if world.host == HOSTILE:
            yield from self._intrude(world)
        else:
            yield from self._serve(world)
        yield from self._renewals(world)
        yield Step("a period passes", self.later(world))

    def _serve(self, world: LockedVault) -> Iterator[Step[LockedVault]]:
        if world.made < len(self.cast.nights):
            packs = list(world.packs)
            for pack in self.cast.nights[world.made]:
                packs[pack] = replace(packs[pack] or LockObject(self.new_lock(world.phase)), condemned=-1)
            kept = (*world.kept, world.made)
            made = replace(world, packs=tuple(packs), kept=kept, made=world.made + 1)
            yield Step(f"a backup: night {world.made}", self.told(self._said(made, kept)))
        if world.kept and self._may(world, "forgets"):
            kept = world.kept[1:]
            forgotten = self._said(self._spend(replace(world, kept=kept), "forgets"), kept)
            yield Step(f"night {world.kept[0]} is forgotten", self.told(forgotten))
        after = self.pruned(world)
        if after != world:
            yield Step("a prune condemns and deletes what nothing needs", self.told(after))
        if world.host == HONEST:
            yield Step("an intruder has the host, and all its rights", replace(world, host=HOSTILE))

    def _said(self, world: LockedVault, kept: tuple[int, ...], *, says_age: int = 0) -> LockedVault:
        """A catalog that says which nights are kept."""
        is_ours = world.host != HOSTILE
        packs = {pack for night in kept for pack in self.cast.nights[night]}
        packs |= set() if is_ours else {JUNK}
        lock = LockObject(self.new_lock(world.phase))
        catalog = StateCatalog(lock, kept, tuple(sorted(packs)), 0, says_age, is_ours)
        return replace(world, catalogs=(*world.catalogs, catalog))

    def _intrude(self, world: LockedVault) -> Iterator[Step[LockedVault]]:
        """What an intruder may do with the rights of the host; locks end when the vault says so."""
        hidden = self._each(world, lambda found: replace(found, is_hidden=True))
        yield Step("the intruder puts delete markers on everything", hidden)
        gone = self._each(world, lambda found: None if found.until <= 0 else found)
        yield Step("the intruder deletes all versions that are not locked", gone)
        most = self.periods(world, self.guards.longest_lock(self.at(world, 0), self.rules))
        locked = self._each(world, lambda found: replace(found, until=max(found.until, most)))
        yield Step("the intruder locks everything for as long as the policy allows", locked)
        if self._may(world, "changes"):
            spent = self._spend(world, "changes")
            junk = put(spent.packs, JUNK, LockObject(most))
            for says_age in (0, self.cast.lock_for):
                dated = f", dated {says_age} periods ago" if says_age else ""
                yield Step(
                    f"the intruder uploads junk, and a catalog that forgets all nights for it{dated}",
                    self._said(replace(spent, packs=junk, kept=()), (), says_age=says_age),
                )
        yield Step(
            "the host is set up anew from the newest state of before the intruder", self.recovered(world)
        )

    def recovered(self, world: LockedVault) -> LockedVault:
        """Versions that were hidden are shown again; what still restores is kept."""
        shown = self._each(world, lambda found: replace(found, is_hidden=False))
        ours = [catalog for catalog in world.catalogs if catalog.is_ours and catalog.locked]
        kept = tuple(night for night in (ours[-1].nights if ours else ()) if self.restores(shown, night))
        identity = shown.packs[0] or LockObject(self.new_lock(world.phase))
        back = replace(shown, host=BACK, kept=kept, packs=put(shown.packs, 0, identity))
        return self.told(self._said(back, kept))

    # Who renews: another machine, with a role that can do nothing else.

    def _renewals(self, world: LockedVault) -> Iterator[Step[LockedVault]]:
        due = self.due(world)
        if not due:
            if wrong := self.runs_out(world):
                yield Step("a renewal finds nothing to do", world, wrong)
            return
        after = self.renewed(world, due)
        yield Step(f"locks are renewed: {self._names(due)}", self.told(after), self.runs_out(after))
        if len(due) > 1 and self._may(world, "cuts"):
            cut = self._spend(self.renewed(world, due[:1]), "cuts")
            said = after if self.guards.counts_ordered else None
            yield Step(
                f"a renewal of {self._names(due)} is cut after the first request",
                self.told(cut, said),
                self._left_earlier(world, due),
            )

    def _names(self, due: Sequence[tuple[int, int]]) -> str:
        return ", ".join(
            f"catalog {number - CATALOGS}" if number >= CATALOGS else f"pack {number}" for number, _ in due
        )

    def _left_earlier(self, world: LockedVault, due: Sequence[tuple[int, int]]) -> str:
        ends = self._locks(world)
        if any(ends[number].until < ends[due[0][0]].until for number, _ in due):
            return "a renewal that was cut has left what ends first"
        return ""

    def due(self, world: LockedVault) -> list[tuple[int, int]]:
        """What is to be renewed, and the periods until its new end."""
        clock = 0 if self.guards.renews_by_vault_clock else self.cast.clock
        states: list[LockedState] = []
        for number, catalog in enumerate(world.catalogs):
            found = catalog.locked
            if found is None or (found.is_hidden and not self.guards.lists_versions):
                continue
            age = catalog.age if self.guards.dates_by_vault else max(catalog.age, catalog.says_age)
            needs = {*catalog.packs}
            needs |= {0} if self.guards.locks_identity else set()
            needs |= {CATALOGS + number} if self.guards.locks_catalogs else set()
            states.append(LockedState(self.at(world, -age), frozenset(needs)))
        until = {number: self.at(world, found.until) for number, found in self._locks(world).items()}
        now = self.at(world, clock)
        due = self.guards.locks_due(until, states, now, self.rules)
        return [(number, self.periods(world, end)) for number, end in due]

    def _locks(self, world: LockedVault) -> dict[int, LockObject]:
        found = {number: pack for number, pack in enumerate(world.packs) if pack}
        found |= {CATALOGS + which: some.locked for which, some in enumerate(world.catalogs) if some.locked}
        return found

    def renewed(self, world: LockedVault, due: Sequence[tuple[int, int]]) -> LockedVault:
        """These locks end later; the vault shortens none, and refuses what its policy does not allow."""
        most = self.periods(world, self.guards.longest_lock(self.at(world, 0), self.rules))
        packs, catalogs = list(world.packs), list(world.catalogs)
        for number, end in due:
            if end > most:
                continue
            if number >= CATALOGS:
                found = catalogs[number - CATALOGS].locked
                longer = found and replace(found, until=max(found.until, end))
                catalogs[number - CATALOGS] = replace(catalogs[number - CATALOGS], locked=longer)
            else:
                found = packs[number]
                packs[number] = found and replace(found, until=max(found.until, end))
        return replace(world, packs=tuple(packs), catalogs=tuple(catalogs))

    # Who deletes what nothing needs.

    def pruned(self, world: LockedVault) -> LockedVault:
        """What nothing needs is condemned, and deleted once its lock and the grace are over."""
        needed = {0} | {pack for night in world.kept for pack in self.cast.nights[night]}
        packs = list(world.packs)
        for number, found in enumerate(packs):
            if found is None:
                continue
            if number in needed:
                packs[number] = replace(found, condemned=-1)
            elif found.condemned < 0:
                packs[number] = replace(found, condemned=0)
            else:
                packs[number] = self._deleted(world, found)
        catalogs = list(world.catalogs)
        for number, catalog in enumerate(catalogs[:-1]):
            if catalog.locked and catalogs[number + 1].age >= self.cast.lock_for:
                catalogs[number] = replace(
                    catalog, locked=self._deleted(world, replace(catalog.locked, condemned=1))
                )
        return self._tidy(replace(world, packs=tuple(packs), catalogs=tuple(catalogs)))

    def _deleted(self, world: LockedVault, found: LockObject) -> LockObject | None:
        now = self.at(world, 0)
        until = self.at(world, found.until)
        grace_ends = now if found.condemned > 0 else now + PERIOD
        if self.guards.names_version and max(until, grace_ends) > now:
            return found
        answer = answer_to_deletion(until, now, names_version=self.guards.names_version)
        if answer is DeletionAnswer.GONE:
            return None
        return replace(found, is_hidden=answer is DeletionAnswer.HIDDEN or found.is_hidden)

    def later(self, world: LockedVault) -> LockedVault:
        """A period later."""

        def aged(found: LockObject) -> LockObject:
            condemned = min(found.condemned + 1, 1) if found.condemned >= 0 else -1
            until = found.until if found.until >= FOR_EVER else max(found.until - 1, 0)
            return LockObject(until, found.is_hidden, condemned)

        most = self.cast.lock_for + 1
        passed = self._each(world, aged)
        catalogs = tuple(
            replace(
                some,
                age=min(some.age + 1, most),
                says_age=min(some.says_age + 1, most) if some.says_age else 0,
            )
            for some in passed.catalogs
        )
        promised = tuple(max(0, some - 1) for some in world.promised)
        phase = (world.phase + 1) % self.cast.step
        return self._tidy(replace(passed, catalogs=catalogs, promised=promised, phase=phase))

    def _tidy(self, world: LockedVault) -> LockedVault:
        """Without the catalogs that are gone and were of no state that counts."""
        left = tuple(
            some
            for number, some in enumerate(world.catalogs)
            if some.locked
            or number + 1 == len(world.catalogs)
            or world.catalogs[number + 1].age < self.cast.lock_for
        )
        return replace(world, catalogs=left)

    def _each(self, world: LockedVault, change: Callable[[LockObject], LockObject | None]) -> LockedVault:
        return replace(
            world,
            packs=tuple(found and change(found) for found in world.packs),
            catalogs=tuple(
                replace(some, locked=some.locked and change(some.locked)) for some in world.catalogs
            ),
        )

    def _may(self, world: LockedVault, kind: str) -> bool:
        which = KINDS.index(kind)
        return bool(world.spent[which] < self.most[which])

    def _spend(self, world: LockedVault, kind: str) -> LockedVault:
        which = KINDS.index(kind)
        return replace(world, spent=put(world.spent, which, world.spent[which] + 1))

    # All comes to a good end.

    def ends_badly(self, world: LockedVault) -> str:
        """What is wrong in the end, where the host is honest, and what has to be done is done each period."""
        passed: list[int] = []
        for _ in range(4 * (self.cast.lock_for + self.cast.step)):
            if hash(world) in self._ended_well:
                self._ended_well.update(passed)
                return ""
            passed.append(hash(world))
            if world.host == HOSTILE:
                world = self.recovered(world)
            world = self.later(self.pruned(self.renewed(world, self.due(world))))
        needed = {0} | {pack for night in world.kept for pack in self.cast.nights[night]}
        for number, found in enumerate(world.packs):
            if found and number not in needed:
                return f"pack {number}, which nothing needs, stays for ever"
        if sum(some.locked is not None for some in world.catalogs) > 1:
            return "catalogs that nothing needs stay for ever"
        if any(not self.restores(world, night) for night in world.kept):
            return "a night that is kept does not restore, though all was done in time"
        self._ended_well.update(passed)
        return ""
