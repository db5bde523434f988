"""A prune in the model: a list, a decision, deletions, and what the catalogs are to say."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from msgspec.structs import replace

from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.pruning import Condemnation, StoredArchive
from backup.model import ArchiveId, PackKind
from backup.pruner.decide import as_pruned, changes
from backup.retention.prune import PrunedArchive, PruneRules, plan_prune
from tests.model.catalogs import Saying
from tests.model.laws import too_early
from tests.model.plain import Packs, Place
from tests.model.search import Step
from tests.model.world import (
    BEFORE,
    CONDEMNED,
    DECIDED,
    DELETED,
    DELETES,
    DELETING,
    IN_VAULT,
    LOST,
    NEVER,
    PERIOD,
    RECORDS,
    SAYS,
    STORED,
    UNCONFIRMED,
    Effect,
    Row,
    Worker,
    World,
    at,
    newest,
    says,
)


class Prunes(Saying):
    """The steps of a prune; `plan_prune` and `changes` decide."""

    # A prune.

    def _begin_prune(self, world: World) -> Iterator[Step[World]]:
        """The list, the decision; what others deleted is recorded. A list that lacks a catalog stops it."""
        if any(
            told < world.now and not self._lists(taken, world)
            for row in world.rows
            for _, _, told, taken in row.condemned
        ):
            return
        world, plan, due = self._decided(self._confirmed(world))
        worker = Worker("prune", DECIDED, world.fence, False, due=due, effects=plan, marks=self._marks(world))
        said = "; ".join(f"job {effect.job} {says(effect)}" for effect in plan) or "nothing to say"
        yield Step(
            f"a prune decides: deletes {due or 'nothing'}; {said}",
            self._spend(replace(world, workers=(*world.workers, worker)), "prunes"),
        )

    def _shown(self, row: Row) -> bool:
        return row.shown if self.cast.lag else row.there

    def _confirmed(self, world: World) -> World:
        """What was taken up is built upon again once a list shows it that was made long enough after."""
        rows = tuple(
            replace(row, state=STORED, taken_up=NEVER)
            if row.state == UNCONFIRMED and self._shown(row) and row.taken_up < world.now - self.cast.lag
            else row
            for row in world.rows
        )
        return replace(world, rows=rows)

    def _archives(self, world: World) -> dict[int, StoredArchive]:
        found: dict[int, StoredArchive] = {}
        for number, row in enumerate(world.rows):
            if row.state not in IN_VAULT:
                continue
            found[number] = StoredArchive(
                number,
                bytes([number]),
                ArchiveId(str(number)),
                PackKind.DATA,
                ArchiveState(row.state),
                1,
                at(row.stored),
                frozenset(row.jobs or (row.maker,)),
                self._condemned_by(row, world),
                None if row.retry < 0 else at(row.retry),
                "",
                row.is_open,
                at(row.stored) if self._shown(row) else None,
            )
        return found

    def _condemned_by(self, row: Row, world: World) -> dict[int, Condemnation]:
        """When a catalog was stored is the later of our time and the list's."""
        return {
            job: Condemnation(at(said), at(max(told, taken) if self._lists(taken, world) else told))
            for job, said, told, taken in row.condemned
        }

    def _lists(self, taken: int, world: World) -> bool:
        """Whether the list shows a catalog."""
        return not self.cast.lag or taken < world.now

    def _packs(self, world: World) -> Packs:
        return Packs(
            {number: row.state for number, row in enumerate(world.rows)},
            {number: row.chunks for number, row in enumerate(world.rows)},
        )

    def needed(self, world: World) -> set[int]:
        """The archives that kept snapshots, live entries and open restores need."""
        places: set[Place] = set()
        for night in world.nights:
            is_live = night == newest(world, night.job)
            is_read = self.keeps_reads() and (night.job, night.number) in world.reads
            if night.forgotten < 0 or is_live or is_read:
                places.update(night.places)
        return self._packs(world).needed(places)

    def _decided(self, world: World) -> tuple[World, tuple[Effect, ...], tuple[int, ...]]:
        archives = self._archives(world)
        needed = self.needed(world)
        rules = self.rules(world)
        now = at(world.now + world.ahead)
        minimum = self.cast.minimum * PERIOD
        pruned = [self.pruned(archive, minimum) for archive in archives.values()]
        plan = plan_prune(pruned, needed, rules, now=now, fee=lambda *_: None)
        missing = [number for number, archive in archives.items() if self._is_missing(world, archive)]
        if missing:
            wanted = {archive.number for archive in plan.take_up}
            rows = list(world.rows)
            for number in missing:
                rows[number] = replace(rows[number], state=LOST if number in wanted else DELETED)
            return self._decided(replace(world, rows=tuple(rows)))
        said = changes(plan, archives, self._known_jobs(world), now)
        effects = [
            Effect(
                job,
                condemned=tuple(sorted(pack[0] for pack in change.condemned)),
                taken_up=tuple(sorted(pack[0] for pack in change.taken_up)),
            )
            for job, change in sorted(said.items())
        ]
        return world, tuple(effects), tuple(archive.number for archive in plan.delete)

    def pruned(self, archive: StoredArchive, minimum: timedelta) -> PrunedArchive:
        """What the plan decides by."""
        return as_pruned(archive, minimum)

    def rules(self, world: World) -> PruneRules:
        """The rules of this prune."""
        listed = at(world.now + world.ahead) - (BEFORE if self.cast.lag else timedelta(0))
        return PruneRules(self.cast.grace, listed)

    def _is_missing(self, world: World, archive: StoredArchive) -> bool:
        is_covered = not self.cast.lag or world.rows[archive.number].stored < world.now
        return archive.is_condemned and archive.listed_at is None and is_covered

    def _known_jobs(self, world: World) -> set[int]:
        return {night.job for night in world.nights} | {row.maker for row in world.rows}

    def _beyond(self, world: World) -> dict[int, tuple[int, ...]]:
        """Forgotten snapshots that cannot come back, as `forgotten_beyond_recall` finds them."""
        packs = self._packs(world)
        found: dict[int, tuple[int, ...]] = {}
        for night in world.nights:
            last = newest(world, night.job)
            live = set(last.places) if last else set()
            closed = [place for place in night.places if place not in live]
            is_read = self.keeps_reads() and (night.job, night.number) in world.reads
            if night.forgotten >= 0 and not is_read and packs.gone(closed):
                found[night.job] = (*found.get(night.job, ()), night.number)
        return found

    def keeps_reads(self) -> bool:
        """What an open restore reads is not given up."""
        return True

    def _marks(self, world: World) -> tuple[object, ...]:
        """What a decision depends on: unchanged, it is still right."""
        return (
            tuple((night.job, night.number, night.forgotten) for night in world.nights),
            world.reads,
            tuple(row.state for row in world.rows),
        )

    def _prune(self, world: World, number: int, worker: Worker) -> Iterator[Step[World]]:
        if worker.stage == DECIDED:
            if not self.has_lock(world, worker):
                yield self._stopped(world, number, worker)
                return
            due = worker.due
            if due and self.compares_marks() and self._marks(world) != worker.marks:
                again = self._decided(world)[2]
                due = tuple(which for which in due if which in again)
            rows = list(world.rows)
            asked_first = tuple(which for which in due if rows[which].state != DELETING)
            for which in due:
                rows[which] = self.as_decided(rows[which])
            after = replace(world, rows=tuple(rows))
            early = too_early(world, due, self.cast.minimum, self.cast.grace)
            told = replace(worker, stage=DELETES, due=due, fresh=asked_first, marks=())
            yield Step(
                f"the deletion of {due} is decided" if due else "nothing is deleted",
                self._with(after, number, told if due else self._to_say(after, told)),
                early,
            )
        elif worker.stage == DELETES:
            yield from self._delete(world, number, worker)
        elif worker.stage == RECORDS:
            if not self.has_lock(world, worker):
                yield self._stopped(world, number, worker)
                return
            rows = list(world.rows)
            for which in worker.due:
                rows[which] = replace(rows[which], state=DELETED)
            after = replace(world, rows=tuple(rows))
            yield Step(
                f"it is recorded that {worker.due} are gone",
                self._with(after, number, self._to_say(after, worker)),
            )
        else:
            yield from self._say(world, number, worker)

    def _to_say(self, world: World, worker: Worker) -> Worker:
        """The prune goes on to its catalogs, which also say which snapshots cannot come back."""
        beyond = self._beyond(world)
        effects = {effect.job: effect for effect in worker.effects}
        for job, numbers in beyond.items():
            effects[job] = replace(effects.get(job, Effect(job)), dropped=numbers)
        return replace(
            worker, stage=SAYS, due=(), fresh=(), effects=tuple(effects[job] for job in sorted(effects))
        )

    def as_decided(self, row: Row) -> Row:
        """A deletion is recorded before it is asked for: nothing brings the archive back."""
        return replace(row, state=DELETING, retry=NEVER)

    def has_the_same_time(self, world: World) -> bool:
        """A prune begins only where our clock and the vault's are the same."""
        return not world.ahead

    def compares_marks(self) -> bool:
        """What a decision depends on is compared in the transaction that records it."""
        return True

    def _delete(self, world: World, number: int, worker: Worker) -> Iterator[Step[World]]:
        """The vault is asked; no lock protects a request."""
        gone = replace(
            world,
            rows=tuple(
                replace(row, there=False, dying=False) if which in worker.due else row
                for which, row in enumerate(world.rows)
            ),
        )
        yield Step(
            f"the vault deletes {worker.due}", self._with(gone, number, replace(worker, stage=RECORDS))
        )
        if not self._may(world, "faults"):
            return
        yield Step(
            f"the vault deletes {worker.due}, its answer is lost, and the prune ends",
            self._spend(self._without(gone, number), "faults"),
        )
        late = replace(
            world,
            rows=tuple(
                replace(row, dying=row.there) if which in worker.due else row
                for which, row in enumerate(world.rows)
            ),
        )
        yield Step(
            f"the vault takes the deletion of {worker.due}, carries it out later, and its answer is lost",
            self._spend(self._without(late, number), "faults"),
        )
        if self.has_lock(world, worker):
            rows = tuple(
                replace(row, retry=world.now + 2, state=self.after_refusal(which, worker))
                if which in worker.due
                else row
                for which, row in enumerate(world.rows)
            )
            kept = replace(world, rows=rows)
            yield Step(
                f"the vault refuses to delete {worker.due}",
                self._spend(self._with(kept, number, self._to_say(kept, worker)), "faults"),
            )

    def after_refusal(self, which: int, worker: Worker) -> str:
        """What was asked for before may go yet: it is never relied on again."""
        return CONDEMNED if which in worker.fresh else DELETING
