"""A server's nights as a model: jobs, packs, snapshots, prunes, cuts, and what a vault may answer.

What is decided is decided by the program's own functions (`plan_prune`, `changes`, `StoredArchive`), and by
`plain.py` where the program asks SQL. What is modelled is the order of transactions and requests, and
everything that may come between two of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from msgspec.structs import replace

from backup.retention.forget import plan_chosen
from backup.retention.history import Candidate
from tests.model.laws import broken
from tests.model.plain import Place
from tests.model.prunes import Prunes
from tests.model.search import Step
from tests.model.world import (
    DECIDED,
    KINDS,
    NEVER,
    NEW,
    SAYS,
    STORED,
    UNCONFIRMED,
    Cast,
    Effect,
    Night,
    Row,
    Worker,
    World,
    at,
    name,
    newest,
    put,
    says,
)

_MANY = 6  # prunes, and periods: more than it takes until nothing changes


class Nights(Prunes):
    """The model; a mutant replaces one of its decisions."""

    def __init__(self, cast: Cast) -> None:
        super().__init__(cast)
        self._contents = [content for size in (1, 2) for content in combinations(range(cast.chunks), size)]

    @property
    def initial(self) -> World:
        """An empty vault and inventory."""
        jobs = self.cast.jobs
        return World(0, 0, (), (), (), (), 0, (0,) * jobs, (), (0,) * len(KINDS))

    def broken(self, world: World) -> str:
        """The law that does not hold; empty if all do."""
        return broken(world, self.cast.grace)

    def left_over(self, world: World) -> str:
        """What is never deleted, although nothing needs it, where nothing else happens but prunes."""
        counts = dict.fromkeys(KINDS, 0) | {"prunes": _MANY}
        model = type(self)(replace(self.cast, **counts, periods=world.now + _MANY))
        world = replace(world, ahead=0, reads=(), spent=(0,) * len(KINDS))
        for _ in range(_MANY):
            world = model._at_rest(world)
            pruning = next(model._begin_prune(model._recovered(world)), Step("", world))
            world = next(model._pass(model._at_rest(pruning.world))).world
        stay = [night for night in world.nights if night.forgotten < 0 or night == newest(world, night.job)]
        kept = self._packs(world).needed(place for night in stay for place in night.places)
        stays = [number for number, row in enumerate(world.rows) if row.there and number not in kept]
        return f"archives {stays} are never deleted, and nothing needs them" if stays else ""

    def _at_rest(self, world: World) -> World:
        """Processes that were suspended wake, and end."""
        while world.workers:
            world = next(self._options(world)).world
        return world

    # What may happen.

    def steps(self, world: World) -> Iterator[Step[World]]:
        """All that may happen next, each followed to where there is a choice."""
        for step in self._options(world):
            yield self._followed(step)

    def _followed(self, step: Step[World]) -> Step[World]:
        story, world, broken = step
        while not (broken or all(worker.asleep for worker in world.workers)):
            options = list(self._options(world))
            if len(options) != 1:
                break
            broken = self.broken(world) or options[0].broken
            story, world = f"{story}; {options[0].story}", options[0].world
        return Step(story, world, broken)

    def _options(self, world: World) -> Iterator[Step[World]]:
        is_held = any(worker.fence == world.fence for worker in world.workers)
        is_busy = any(not worker.asleep for worker in world.workers)
        for number, worker in enumerate(world.workers):
            if worker.asleep:
                yield from self._sleeps_on(world, number, worker)
                continue
            yield from self._work(world, number, worker)
            if self.cast.cut not in {"", worker.kind}:
                continue
            if self._may(world, "crashes"):
                yield from self._crash(world, number, worker)
            if self._may(world, "sleeps"):
                slept = self._with(world, number, replace(worker, asleep=True))
                yield Step(f"the {worker.kind} is suspended", self._spend(slept, "sleeps"))
        if not is_busy:
            if not is_held:
                yield from self._begin(world)
            yield from self._pass(world)
        if not is_busy or any(worker.kind == "prune" and worker.stage == DECIDED for worker in world.workers):
            yield from self._restores(world)

    def _sleeps_on(self, world: World, number: int, worker: Worker) -> Iterator[Step[World]]:
        """A suspended process wakes, or somebody takes its lock away."""
        yield Step(f"the {worker.kind} wakes", self._with(world, number, replace(worker, asleep=False)))
        if worker.fence == world.fence:
            yield Step(f"the lock of the {worker.kind} is taken away", replace(world, fence=world.fence + 1))

    def _begin(self, world: World) -> Iterator[Step[World]]:
        """A process takes the lock; what a dead one left is finished first."""
        cast = self.cast
        found = self._recovered(world)
        if self._may(world, "backups"):
            known = 1 + max((chunk for row in found.rows for chunk in row.chunks), default=-1)
            for job in range(min(cast.jobs, 1 + max((night.job for night in found.nights), default=-1) + 1)):
                if sum(night.job == job for night in found.nights) >= cast.snapshots:
                    continue
                for content in self._contents:
                    if content[-1] > known + len(content) - 1 or (content[-1] > known and content[0] > known):
                        continue
                    places, fresh = self._placed(found, job, content)
                    if fresh and len(found.rows) >= cast.archives:
                        continue
                    worker = Worker("backup", DECIDED, found.fence, False, job, places, fresh)
                    yield Step(
                        f"a backup of job {job} begins: chunks {content}, of which {fresh or 'none'} are new",
                        self._spend(replace(found, workers=(*found.workers, worker)), "backups"),
                    )
        if self._may(world, "retires"):
            for number, row in enumerate(found.rows):
                if row.state == STORED and row.jobs:
                    effects = [Effect(job, retired=(number,)) for job in row.jobs]
                    yield self._amend(found, "retires", *effects)
        if self._may(world, "prunes") and found.rows and self.has_the_same_time(found):
            yield from self._begin_prune(found)
        for night in found.nights:
            if self._may(world, "forgets") and self._may_be_forgotten(found, night):
                yield self._amend(found, "forgets", Effect(night.job, forgotten=(night.number,)))
            elif night.forgotten >= 0 and self._may(world, "undos") and self._may_come_back(found, night):
                yield self._undo(found, night)

    def _pass(self, world: World) -> Iterator[Step[World]]:
        """Time passes, our clock jumps, the vault does what it accepted; a run that sleeps not is short."""
        if world.now < self.cast.periods:
            rows = tuple(
                replace(
                    row, shown=row.there and not row.dying, there=row.there and not row.dying, dying=False
                )
                if row.there or row.shown
                else row
                for row in world.rows
            )
            yield Step("a period passes", replace(world, now=world.now + 1, rows=rows))
        if self._may(world, "jumps"):
            for ahead in {-1, 0, 1} - {world.ahead}:
                jumped = self._spend(replace(world, ahead=ahead), "jumps")
                yield Step(f"our clock is set to {ahead:+d} periods of the vault's", jumped)
        for number, row in enumerate(world.rows):
            if row.dying:
                rows = put(world.rows, number, replace(row, there=False, dying=False))
                yield Step(
                    f"the vault carries out the deletion of archive {number}", replace(world, rows=rows)
                )

    def _restores(self, world: World) -> Iterator[Step[World]]:
        """A restore takes no lock; it may begin between a decision and what comes of it."""
        for night in world.nights:
            which = night.job, night.number
            if which in world.reads:
                left = tuple(read for read in world.reads if read != which)
                yield Step(f"the restore of {name(night)} is done", replace(world, reads=left))
            elif self._may(world, "restores") and self._may_come_back(world, night):
                reads = tuple(sorted((*world.reads, which)))
                yield Step(
                    f"a restore of {name(night)} begins",
                    self._spend(replace(world, reads=reads), "restores"),
                )

    # A backup.

    def _placed(
        self, world: World, job: int, content: tuple[int, ...]
    ) -> tuple[tuple[Place, ...], tuple[int, ...]]:
        """Where the chunks of a new snapshot lie, and which must be sent; those get the next archive."""
        last = newest(world, job)
        before = {chunk: archive for archive, chunk in last.places} if last else {}
        places: list[Place] = []
        fresh: list[int] = []
        for chunk in content:
            archive = before.get(chunk, NEVER)
            if archive < 0 or not self.is_kept_as_it_is(world.rows[archive]):
                archive = self._found(world, chunk)
            if archive < 0:
                fresh.append(chunk)
                archive = NEW
            places.append((archive, chunk))
        return tuple(places), tuple(fresh)

    def _found(self, world: World, chunk: int) -> int:
        for number, row in enumerate(world.rows):
            if chunk in row.chunks and self.is_built_upon(row):
                return number
        return NEVER

    def is_built_upon(self, row: Row) -> bool:
        """Whether a chunk that lies there is not sent again."""
        return row.state == STORED

    def is_kept_as_it_is(self, row: Row) -> bool:
        """Whether a file that did not change stays where it lies."""
        return row.state in {STORED, UNCONFIRMED}

    def _work(self, world: World, number: int, worker: Worker) -> Iterator[Step[World]]:
        """The next step of a process."""
        if worker.kind == "backup":
            yield from self._back_up(world, number, worker)
        elif worker.kind == "prune":
            yield from self._prune(world, number, worker)
        else:
            yield from self._say(world, number, worker)

    def _back_up(self, world: World, number: int, worker: Worker) -> Iterator[Step[World]]:
        if worker.stage == DECIDED:
            if not self.has_lock(world, worker):
                yield self._stopped(world, number, worker)
                return
            after = self._sent(world, worker, STORED)
            new = len(world.rows)
            places = tuple((new if archive == NEW else archive, chunk) for archive, chunk in worker.places)
            effect = Effect(worker.job, self._next_number(world, worker.job), places)
            told = replace(worker, stage=SAYS, effects=(effect,))
            sent = f"archive {new} is stored" if worker.fresh else "nothing is sent"
            yield Step(sent, self._with(after, number, told))
        else:
            yield from self._say(world, number, worker)

    def _next_number(self, world: World, job: int) -> int:
        return 1 + max((night.number for night in world.nights if night.job == job), default=0)

    # Forget, and take back.

    def _amend(self, world: World, kind: str, *effects: Effect) -> Step[World]:
        worker = Worker("change", SAYS, world.fence, False, effects=effects)
        said = "; ".join(f"job {effect.job} {says(effect)}" for effect in effects)
        return Step(
            f"a change begins: {said}", self._spend(replace(world, workers=(*world.workers, worker)), kind)
        )

    def _may_be_forgotten(self, world: World, night: Night) -> bool:
        """Whether `forget` takes that snapshot, if it is named."""
        if night.forgotten >= 0:
            return False
        kept = [other.number for other in world.nights if other.job == night.job and other.forgotten < 0]
        read = {number for job, number in world.reads if job == night.job}
        candidates = [Candidate(number, at(0)) for number in kept]
        return night.number in plan_chosen(candidates, {night.number}, read_by_restores=read).numbers

    def _may_come_back(self, world: World, night: Night) -> bool:
        return not self._packs(world).gone(night.places)

    def _undo(self, world: World, night: Night) -> Step[World]:
        """As `undo_of_job`: other jobs' catalogs first take up what they condemned."""
        packs = self._packs(world)
        condemned = packs.condemned(packs.with_copies(night.places))
        own: tuple[int, ...] = ()
        effects: list[Effect] = []
        for job in range(self.cast.jobs):
            some = tuple(
                number
                for number in sorted(condemned)
                if any(told[0] == job for told in world.rows[number].condemned)
            )
            if job == night.job:
                own = some
            elif some:
                effects.append(Effect(job, taken_up=some))
        effects.append(Effect(night.job, taken_up=own, back=(night.number,)))
        return self._amend(world, "undos", *effects)
