"""Catalogs in the model: a submission is recorded, the catalog is sent, what it says is made true."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from tests.model.search import Step
from tests.model.world import (
    APPLIES,
    CONDEMNED,
    DECIDED,
    KINDS,
    NEVER,
    READABLE,
    RETIRED,
    SAYS,
    SENDS,
    STORED,
    SUBMITTED,
    UNCONFIRMED,
    Cast,
    Effect,
    Night,
    Row,
    Worker,
    World,
    put,
    says,
)

_PLACE = {kind: place for place, kind in enumerate(KINDS)}


class Saying:
    """What every process does that changes something: it says so in a catalog first."""

    def __init__(self, cast: Cast) -> None:
        self.cast = cast
        self._most: tuple[int, ...] = tuple(getattr(cast, kind) for kind in KINDS)

    # A catalog: its submission is recorded, it is sent, what it says is made true.

    def _say(self, world: World, number: int, worker: Worker) -> Iterator[Step[World]]:
        if not worker.effects:
            yield Step(f"the {worker.kind} is done", self._without(world, number))
            return
        effect, *rest = worker.effects
        if worker.stage == SAYS:
            if not self.has_lock(world, worker):
                yield self._stopped(world, number, worker)
                return
            submitted = replace(effect, head=self._known_head(world, effect.job), at=world.now + world.ahead)
            after = replace(world, pending=(*world.pending, submitted))
            yield Step(
                f"the catalog of job {effect.job} is about to be sent ({says(effect)})",
                self._with(after, number, replace(worker, stage=SENDS, effects=(submitted, *rest))),
            )
        elif worker.stage == SENDS:
            after, fork = self._arrives(world, effect)
            yield Step(
                f"the catalog of job {effect.job} is stored",
                self._with(after, number, replace(worker, stage=APPLIES)),
                fork,
            )
        elif not self.has_lock(world, worker):
            yield self._stopped(world, number, worker)
        else:
            after = self._made_true(world, effect)
            yield Step(
                f"what the catalog of job {effect.job} says is recorded",
                self._with(after, number, replace(worker, stage=SAYS, effects=tuple(rest))),
            )

    def _known_head(self, world: World, job: int) -> int:
        """How many catalogs of a job the inventory knows to be stored."""
        return world.heads[job] - sum(left.job == job and left.is_stored for left in world.pending)

    def _arrives(self, world: World, effect: Effect) -> tuple[World, str]:
        """The vault has the catalog; the second one that follows the same is a fork."""
        if effect not in world.pending:
            return world, ""  # another process finished it, and this is the same catalog once more
        head = world.heads[effect.job]
        fork = "" if head == effect.head else f"two catalogs of job {effect.job} follow the same one"
        pending = put(world.pending, world.pending.index(effect), replace(effect, is_stored=True))
        return replace(world, heads=put(world.heads, effect.job, head + 1), pending=pending), fork

    def _made_true(self, world: World, effect: Effect) -> World:
        """What a catalog says, in one transaction."""
        rows = list(world.rows)
        job, clock = effect.job, world.now + world.ahead
        if effect.number >= 0:
            self._name(rows, effect)
        for number in effect.taken_up:
            row = rows[number]
            left = tuple(told for told in row.condemned if told[0] != job)
            rows[number] = row = replace(row, condemned=left)
            if row.state in {CONDEMNED, RETIRED} and not left:
                rows[number] = replace(row, state=UNCONFIRMED, taken_up=world.now)
        for number in effect.condemned:
            row = rows[number]
            others = tuple(told for told in row.condemned if told[0] != job)
            told = (job, effect.at, max(effect.at, clock), world.now)
            state = CONDEMNED if row.state in READABLE else row.state
            rows[number] = replace(row, condemned=tuple(sorted((*others, told))), state=state)
        for number in effect.retired:
            if rows[number].state in {STORED, UNCONFIRMED}:
                rows[number] = replace(rows[number], state=RETIRED)
        pending = tuple(other for other in world.pending if other != replace(effect, is_stored=True))
        return replace(world, rows=tuple(rows), nights=self._nights(world, effect), pending=pending)

    def _name(self, rows: list[Row], effect: Effect) -> None:
        """A committed backup names archives; what its job's runs stored before is not waited for any more."""
        named = {archive for archive, _ in effect.places}
        for number, row in enumerate(rows):
            is_open = row.is_open and row.maker != effect.job
            jobs = set(row.jobs) | ({effect.job} if number in named else set())
            rows[number] = replace(row, jobs=tuple(sorted(jobs)), is_open=is_open)

    def _nights(self, world: World, effect: Effect) -> tuple[Night, ...]:
        found: list[Night] = []
        for night in world.nights:
            if night.job == effect.job and night.number in effect.forgotten:
                found.append(replace(night, forgotten=world.now))
            elif night.job == effect.job and night.number in effect.back:
                found.append(replace(night, forgotten=NEVER))
            elif night.job != effect.job or night.number not in effect.dropped:
                found.append(night)
        if effect.number >= 0:
            found.append(Night(effect.job, effect.number, effect.places))
        return tuple(sorted(found, key=lambda night: (night.job, night.number)))

    def has_lock(self, world: World, worker: Worker) -> bool:
        """The fencing number is compared in each transaction."""
        return worker.fence == world.fence

    def _stopped(self, world: World, number: int, worker: Worker) -> Step[World]:
        return Step(f"the {worker.kind} has lost its lock, and ends", self._without(world, number))

    def _recovered(self, world: World) -> World:
        """Who takes the lock finishes what was begun: packs that were sent, catalogs that were submitted."""
        rows = tuple(replace(row, state=STORED) if row.state == SUBMITTED else row for row in world.rows)
        world = replace(world, rows=rows)
        for effect in world.pending:
            if not effect.is_stored:
                world, _ = self._arrives(world, effect)
            world = self._made_true(world, effect)
        return world

    # Cuts and counts.

    def _crash(self, world: World, number: int, worker: Worker) -> Iterator[Step[World]]:
        dead = self._spend(self._without(world, number), "crashes")
        yield Step(f"the {worker.kind} dies", dead)
        if (
            worker.kind == "backup"
            and worker.stage == DECIDED
            and worker.fresh
            and self.has_lock(world, worker)
        ):
            yield Step("the backup dies as its archive arrives", self._sent(dead, worker, SUBMITTED))

    def _sent(self, world: World, worker: Worker, state: str) -> World:
        """The pack of a run is in the vault."""
        if not worker.fresh:
            return world
        row = Row(worker.fresh, world.now, True, False, False, state, worker.job, True)
        return replace(world, rows=(*world.rows, row))

    def _may(self, world: World, kind: str) -> bool:
        which = _PLACE[kind]
        return world.spent[which] < self._most[which]

    def _spend(self, world: World, kind: str) -> World:
        which = _PLACE[kind]
        return replace(world, spent=put(world.spent, which, world.spent[which] + 1))

    def _with(self, world: World, number: int, worker: Worker) -> World:
        return replace(world, workers=put(world.workers, number, worker))

    def _without(self, world: World, number: int) -> World:
        return replace(world, workers=(*world.workers[:number], *world.workers[number + 1 :]))
