"""A server's nights as a model: jobs, packs, snapshots, prunes, cuts, and what a vault may answer.

What is decided is decided by the program's own functions (`plan_prune`, `changes`, `StoredArchive`), and by
`plain.py` where the program asks SQL. What is modelled is the order of transactions and requests, and
everything that may come between two of them.

Time passes in periods of four days, one more than the grace. Chunks and archives are numbered as they come,
so that of states that differ in names alone one is searched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations

from msgspec import Struct
from msgspec.structs import replace

from backup.inventory.content.archives import THERE, ArchiveState
from backup.inventory.content.pruning import Condemnation, StoredArchive
from backup.model import ArchiveId, PackKind
from backup.pruner.decide import as_pruned, changes
from backup.retention import prune as planning
from backup.retention.prune import DEFAULT_GRACE, PruneRules
from tests.model.plain import Packs, Place
from tests.model.search import Step

PERIOD = timedelta(days=4)
_START = datetime(2026, 1, 1, tzinfo=UTC)
_BEFORE = timedelta(hours=1)
_NEVER = -1

STORED, UNCONFIRMED = ArchiveState.STORED.value, ArchiveState.UNCONFIRMED.value
CONDEMNED, DELETING = ArchiveState.CONDEMNED.value, ArchiveState.DELETING.value
DELETED, LOST, SUBMITTED = ArchiveState.DELETED.value, ArchiveState.LOST.value, ArchiveState.SUBMITTED.value
_THERE = frozenset(state.value for state in THERE)
_READABLE = _THERE - {DELETING}


class Cast(Struct, frozen=True):
    """What may happen, and how often; `minimum` and `lag` (of the vault's list) are in periods."""

    jobs: int = 2
    chunks: int = 3
    archives: int = 4
    snapshots: int = 2
    backups: int = 3
    forgets: int = 2
    undos: int = 1
    prunes: int = 3
    periods: int = 4
    crashes: int = 1
    sleeps: int = 1
    restores: int = 1
    faults: int = 1
    rebuilds: int = 0
    minimum: int = 0
    lag: int = 0
    grace: timedelta = DEFAULT_GRACE


class Row(Struct, frozen=True, array_like=True):
    """An archive: what the vault has (the first five), and what the inventory says of it.

    `shown`: it was there when the period began; `dying`: the vault accepted its deletion, and has not carried
    it out. `maker`: the job whose run stored it; `is_open`: that run may still come true.
    """

    chunks: tuple[int, ...]
    stored: int
    there: bool
    shown: bool
    dying: bool
    state: str
    maker: int
    is_open: bool
    jobs: tuple[int, ...] = ()
    condemned: tuple[tuple[int, int, int], ...] = ()
    taken_up: int = _NEVER
    retry: int = _NEVER


class Night(Struct, frozen=True, array_like=True):
    """A snapshot: its job and number, where its chunks lie, and when it was forgotten."""

    job: int
    number: int
    places: tuple[Place, ...]
    forgotten: int = _NEVER


class Effect(Struct, frozen=True, array_like=True):
    """What one catalog says, made true once it is stored; `places` are those of a new snapshot."""

    job: int
    number: int = _NEVER
    places: tuple[Place, ...] = ()
    condemned: tuple[int, ...] = ()
    taken_up: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()
    forgotten: tuple[int, ...] = ()
    back: tuple[int, ...] = ()
    at: int = 0
    head: int = 0


class Worker(Struct, frozen=True, array_like=True):
    """A process that holds the lock, or held it while it slept: where it is, and what it remembers."""

    kind: str
    stage: int
    fence: int
    asleep: bool
    job: int = 0
    places: tuple[Place, ...] = ()
    fresh: tuple[int, ...] = ()
    due: tuple[int, ...] = ()
    effects: tuple[Effect, ...] = ()
    marks: tuple[object, ...] = ()


class World(Struct, frozen=True, array_like=True):
    """Everything: `spent` counts what happened, `heads` the catalogs of each job in the vault."""

    now: int
    rows: tuple[Row, ...]
    nights: tuple[Night, ...]
    pending: tuple[Effect, ...]
    workers: tuple[Worker, ...]
    fence: int
    heads: tuple[int, ...]
    reads: tuple[tuple[int, int], ...]
    spent: tuple[int, ...]


_KINDS = ("backups", "forgets", "undos", "prunes", "crashes", "sleeps", "restores", "faults")


class Nights:
    """The model; a mutant replaces one of its decisions."""

    def __init__(self, cast: Cast) -> None:
        self.cast = cast
        self._most = tuple(getattr(cast, kind) for kind in _KINDS)
        self._contents = [content for size in (1, 2) for content in combinations(range(cast.chunks), size)]

    @property
    def initial(self) -> World:
        """An empty vault and inventory."""
        jobs = self.cast.jobs
        return World(0, (), (), (), (), 0, (0,) * jobs, (), (0,) * len(_KINDS))

    # The laws.

    def broken(self, world: World) -> str:
        """What is kept comes back, a read goes on, an undo within the grace works, rows are true."""
        rows = world.rows
        for night in world.nights:
            is_young = night.forgotten >= 0 and _at(world.now) - _at(night.forgotten) < self.cast.grace
            if not (night.forgotten < 0 or is_young or (night.job, night.number) in world.reads):
                continue
            for place in night.places:
                if not self._comes_back(rows, place[1]):
                    why = (
                        "kept"
                        if night.forgotten < 0
                        else "forgotten within the grace"
                        if is_young
                        else "read"
                    )
                    return f"chunk {place[1]} of snapshot {night.number} of job {night.job}, {why}, is gone"
        for number, row in enumerate(rows):
            if row.state in {STORED, UNCONFIRMED} and (not row.there or row.dying):
                return f"archive {number} is built upon, and the vault has it no longer"
            if row.state == DELETED and row.there:
                return f"archive {number} is said to be deleted, and is there"
        return ""

    def _comes_back(self, rows: Sequence[Row], chunk: int) -> bool:
        return any(
            chunk in row.chunks and row.there and not row.dying and row.state in _READABLE for row in rows
        )

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
        held = any(not worker.asleep for worker in world.workers)
        for number, worker in enumerate(world.workers):
            if worker.asleep:
                yield Step(
                    f"the {worker.kind} wakes", self._with(world, number, replace(worker, asleep=False))
                )
                continue
            yield from self._work(world, number, worker)
            if self._may(world, "crashes"):
                yield from self._crash(world, number, worker)
            if self._may(world, "sleeps") and len(world.workers) == 1:
                slept = self._with(world, number, replace(worker, asleep=True))
                yield Step(
                    f"the {worker.kind} is suspended, and its lock is taken away",
                    self._spend(replace(slept, fence=world.fence + 1), "sleeps"),
                )
        if not held:
            yield from self._begin(world)
            yield from self._pass(world)
        if not held or any(worker.kind == "prune" and worker.stage == 0 for worker in world.workers):
            yield from self._restores(world)

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
                    worker = Worker("backup", 0, found.fence, False, job, places, fresh)
                    yield Step(
                        f"a backup of job {job} begins: chunks {content}, of which {fresh or 'none'} are new",
                        self._spend(replace(found, workers=(*found.workers, worker)), "backups"),
                    )
        if self._may(world, "prunes") and found.rows:
            yield from self._begin_prune(found)
        for night in found.nights:
            if night.forgotten < 0 and self._may(world, "forgets") and night != _newest(found, night.job):
                if (night.job, night.number) not in found.reads:
                    yield self._amend(found, "forgets", Effect(night.job, forgotten=(night.number,)))
            elif night.forgotten >= 0 and self._may(world, "undos") and self._may_come_back(found, night):
                yield self._undo(found, night)

    def _pass(self, world: World) -> Iterator[Step[World]]:
        """Time passes, and the vault does what it accepted; a run takes less than a period, but for a sleep."""
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
        for number, row in enumerate(world.rows):
            if row.dying:
                rows = _put(world.rows, number, replace(row, there=False, dying=False))
                yield Step(
                    f"the vault carries out the deletion of archive {number}", replace(world, rows=rows)
                )

    def _restores(self, world: World) -> Iterator[Step[World]]:
        """A restore takes no lock; it may begin between a decision and what comes of it."""
        for night in world.nights:
            which = night.job, night.number
            if which in world.reads:
                left = tuple(read for read in world.reads if read != which)
                yield Step(f"the restore of {_name(night)} is done", replace(world, reads=left))
            elif self._may(world, "restores") and self._may_come_back(world, night):
                reads = tuple(sorted((*world.reads, which)))
                yield Step(
                    f"a restore of {_name(night)} begins",
                    self._spend(replace(world, reads=reads), "restores"),
                )

    # A backup.

    def _placed(
        self, world: World, job: int, content: tuple[int, ...]
    ) -> tuple[tuple[Place, ...], tuple[int, ...]]:
        """Where the chunks of a new snapshot lie, and which must be sent; those get the next archive."""
        newest = _newest(world, job)
        before = dict((chunk, archive) for archive, chunk in newest.places) if newest else {}
        places: list[Place] = []
        fresh: list[int] = []
        for chunk in content:
            archive = before.get(chunk, _NEVER)
            if archive < 0 or not self.is_kept_as_it_is(world.rows[archive]):
                archive = next(
                    (
                        number
                        for number, row in enumerate(world.rows)
                        if chunk in row.chunks and self.is_built_upon(row)
                    ),
                    _NEVER,
                )
            if archive < 0:
                fresh.append(chunk)
                archive = len(world.rows)
            places.append((archive, chunk))
        return tuple(places), tuple(fresh)

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
        if worker.stage == 0:
            if not self.has_lock(world, worker):
                yield self._stopped(world, number, worker)
                return
            after = self._sent(world, worker, STORED)
            effect = Effect(worker.job, self._next_number(world, worker.job), worker.places, at=world.now)
            told = replace(worker, stage=1, effects=(effect,))
            sent = f"archive {len(world.rows)} is stored" if worker.fresh else "nothing is sent"
            yield Step(sent, self._with(after, number, told))
        else:
            yield from self._say(world, number, worker)

    def _sent(self, world: World, worker: Worker, state: str) -> World:
        if not worker.fresh:
            return world
        row = Row(worker.fresh, world.now, True, False, False, state, worker.job, True)
        return replace(world, rows=(*world.rows, row))

    def _next_number(self, world: World, job: int) -> int:
        return 1 + max((night.number for night in world.nights if night.job == job), default=0)

    # A catalog: its submission is recorded, it is sent, what it says is made true.

    def _say(self, world: World, number: int, worker: Worker) -> Iterator[Step[World]]:
        if not worker.effects:
            yield Step(f"the {worker.kind} is done", self._without(world, number))
            return
        effect, *rest = worker.effects
        if worker.stage == 1:
            if not self.has_lock(world, worker):
                yield self._stopped(world, number, worker)
                return
            submitted = replace(effect, head=world.heads[effect.job], at=world.now)
            after = replace(world, pending=(*world.pending, submitted))
            yield Step(
                f"the catalog of job {effect.job} is about to be sent ({_says(effect)})",
                self._with(after, number, replace(worker, stage=2, effects=(submitted, *rest))),
            )
        elif worker.stage == 2:
            after, fork = self._arrives(world, effect)
            yield Step(
                f"the catalog of job {effect.job} is stored",
                self._with(after, number, replace(worker, stage=3)),
                fork,
            )
        elif not self.has_lock(world, worker):
            yield self._stopped(world, number, worker)
        else:
            after = self._made_true(world, effect)
            yield Step(
                f"what the catalog of job {effect.job} says is recorded",
                self._with(after, number, replace(worker, stage=1, effects=tuple(rest))),
            )

    def _arrives(self, world: World, effect: Effect) -> tuple[World, str]:
        """The vault has the catalog; the second one that follows the same is a fork."""
        if effect not in world.pending:
            return world, ""  # another process finished it, and this is the same catalog once more
        head = world.heads[effect.job]
        if head == effect.head + 1:
            return world, ""
        fork = "" if head == effect.head else f"two catalogs of job {effect.job} follow the same one"
        return replace(world, heads=_put(world.heads, effect.job, head + 1)), fork

    def _made_true(self, world: World, effect: Effect) -> World:
        """What a catalog says, in one transaction."""
        rows = list(world.rows)
        nights = [
            night
            for night in world.nights
            if not (night.job == effect.job and night.number in effect.dropped)
        ]
        if effect.number >= 0:
            nights.append(Night(effect.job, effect.number, effect.places))
            named = {archive for archive, _ in effect.places}
            for number, row in enumerate(rows):
                if number in named and effect.job not in row.jobs:
                    row = replace(row, jobs=tuple(sorted((*row.jobs, effect.job))))
                rows[number] = replace(row, is_open=False) if row.maker == effect.job else row
        for position, night in enumerate(nights):
            if night.job == effect.job and night.number in effect.forgotten:
                nights[position] = replace(night, forgotten=effect.at)
            elif night.job == effect.job and night.number in effect.back:
                nights[position] = replace(night, forgotten=_NEVER)
        for number in effect.taken_up:
            row = rows[number]
            left = tuple(told for told in row.condemned if told[0] != effect.job)
            is_free = row.state == CONDEMNED and not left
            rows[number] = replace(
                row,
                condemned=left,
                state=UNCONFIRMED if is_free else row.state,
                taken_up=world.now if is_free else row.taken_up,
            )
        for number in effect.condemned:
            row = rows[number]
            others = tuple(told for told in row.condemned if told[0] != effect.job)
            told = (effect.job, effect.at, max(effect.at, world.now))
            is_there = row.state in _READABLE
            rows[number] = replace(
                row, condemned=tuple(sorted((*others, told))), state=CONDEMNED if is_there else row.state
            )
        pending = tuple(other for other in world.pending if other != effect)
        nights.sort(key=lambda night: (night.job, night.number))
        return replace(world, rows=tuple(rows), nights=tuple(nights), pending=pending)

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
            world, _ = self._arrives(world, effect)
            world = self._made_true(world, effect)
        return world

    # Forget, and take back.

    def _amend(self, world: World, kind: str, *effects: Effect) -> Step[World]:
        worker = Worker("change", 1, world.fence, False, effects=effects)
        says = "; ".join(f"job {effect.job} {_says(effect)}" for effect in effects)
        return Step(
            f"a change begins: {says}", self._spend(replace(world, workers=(*world.workers, worker)), kind)
        )

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

    # A prune.

    def _begin_prune(self, world: World) -> Iterator[Step[World]]:
        """The list, the decision; what others deleted is recorded."""
        world, plan, due = self._decided(self._confirmed(world))
        worker = Worker("prune", 0, world.fence, False, due=due, effects=plan, marks=self._marks(world))
        said = "; ".join(f"job {effect.job} {_says(effect)}" for effect in plan) or "nothing to say"
        yield Step(
            f"a prune decides: deletes {due or 'nothing'}; {said}",
            self._spend(replace(world, workers=(*world.workers, worker)), "prunes"),
        )

    def _shown(self, row: Row) -> bool:
        return row.shown if self.cast.lag else row.there

    def _confirmed(self, world: World) -> World:
        """What was taken up is built upon again once a list shows it that was made long enough after."""
        rows = tuple(
            replace(row, state=STORED, taken_up=_NEVER)
            if row.state == UNCONFIRMED and self._shown(row) and row.taken_up < world.now - self.cast.lag
            else row
            for row in world.rows
        )
        return replace(world, rows=rows)

    def _archives(self, world: World) -> dict[int, StoredArchive]:
        found: dict[int, StoredArchive] = {}
        for number, row in enumerate(world.rows):
            if row.state not in _THERE:
                continue
            found[number] = StoredArchive(
                number,
                bytes([number]),
                ArchiveId(str(number)),
                PackKind.DATA,
                ArchiveState(row.state),
                1,
                _at(row.stored),
                frozenset(row.jobs or (row.maker,)),
                {job: Condemnation(_at(at), _at(told)) for job, at, told in row.condemned},
                None if row.retry < 0 else _at(row.retry),
                "",
                row.is_open,
                _at(row.stored) if self._shown(row) else None,
            )
        return found

    def _packs(self, world: World) -> Packs:
        return Packs(
            {number: row.state for number, row in enumerate(world.rows)},
            {number: row.chunks for number, row in enumerate(world.rows)},
        )

    def needed(self, world: World) -> set[int]:
        """The archives that kept snapshots, live entries and open restores need."""
        places: set[Place] = set()
        for night in world.nights:
            is_live = night == _newest(world, night.job)
            if night.forgotten < 0 or is_live or (night.job, night.number) in world.reads:
                places.update(night.places)
        return self._packs(world).needed(places)

    def _decided(self, world: World) -> tuple[World, tuple[Effect, ...], tuple[int, ...]]:
        archives = self._archives(world)
        needed = self.needed(world)
        rules = self.rules(world)
        now = _at(world.now)
        minimum = self.cast.minimum * PERIOD
        plan = planning.plan_prune(
            [as_pruned(archive, minimum) for archive in archives.values()],
            needed,
            rules,
            now=now,
            fee=lambda *_: None,
        )
        missing = [number for number, archive in archives.items() if self._is_missing(world, archive)]
        if missing:
            wanted = {archive.number for archive in plan.take_up}
            rows = list(world.rows)
            for number in missing:
                rows[number] = replace(rows[number], state=LOST if number in wanted else DELETED)
            return self._decided(replace(world, rows=tuple(rows)))
        said = changes(plan, archives, self._known_jobs(world), now)
        beyond = self._beyond(world, ())
        effects = [
            Effect(
                job,
                condemned=tuple(sorted(pack[0] for pack in said[job].condemned)) if job in said else (),
                taken_up=tuple(sorted(pack[0] for pack in said[job].taken_up)) if job in said else (),
                dropped=beyond.get(job, ()),
            )
            for job in sorted({*said, *beyond})
        ]
        return world, tuple(effects), tuple(archive.number for archive in plan.delete)

    def rules(self, world: World) -> PruneRules:
        """The rules of this prune."""
        listed = _at(world.now) - _BEFORE if self.cast.lag else _at(world.now)
        return PruneRules(self.cast.grace, listed)

    def _is_missing(self, world: World, archive: StoredArchive) -> bool:
        is_covered = not self.cast.lag or world.rows[archive.number].stored < world.now
        return archive.is_condemned and archive.listed_at is None and is_covered

    def _known_jobs(self, world: World) -> set[int]:
        return {night.job for night in world.nights} | {row.maker for row in world.rows}

    def _beyond(self, world: World, going: tuple[int, ...]) -> dict[int, tuple[int, ...]]:
        """Forgotten snapshots that cannot come back, as `forgotten_beyond_recall` finds them."""
        packs = self._packs(world)
        found: dict[int, tuple[int, ...]] = {}
        for night in world.nights:
            live = dict.fromkeys(_newest(world, night.job).places)
            closed = [place for place in night.places if place not in live]
            is_read = (night.job, night.number) in world.reads
            if night.forgotten >= 0 and not is_read and packs.gone(closed, going=going):
                found[night.job] = (*found.get(night.job, ()), night.number)
        return found

    def _marks(self, world: World) -> tuple[object, ...]:
        """What a decision depends on: unchanged, it is still right."""
        return (
            tuple((night.job, night.number, night.forgotten) for night in world.nights),
            world.reads,
            tuple(row.state for row in world.rows),
        )

    def _prune(self, world: World, number: int, worker: Worker) -> Iterator[Step[World]]:
        if worker.stage == 0:
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
                rows[which] = replace(rows[which], state=DELETING, retry=_NEVER)
            after = replace(world, rows=tuple(rows))
            early = self._too_early(world, due)
            yield Step(
                f"the deletion of {due} is decided" if due else "nothing is deleted",
                self._with(
                    after,
                    number,
                    replace(worker, stage=4 if due else 1, due=due, fresh=asked_first, marks=()),
                ),
                early,
            )
        elif worker.stage == 4:
            yield from self._delete(world, number, worker)
        elif worker.stage == 5:
            if not self.has_lock(world, worker):
                yield self._stopped(world, number, worker)
                return
            rows = list(world.rows)
            for which in worker.due:
                rows[which] = replace(rows[which], state=DELETED)
            after = replace(world, rows=tuple(rows))
            beyond = self._beyond(after, ())
            effects = {effect.job: replace(effect, dropped=()) for effect in worker.effects}
            for job, numbers in beyond.items():
                effects[job] = replace(effects.get(job, Effect(job)), dropped=numbers)
            told = tuple(effects[job] for job in sorted(effects) if _says(effects[job]))
            yield Step(
                f"it is recorded that {worker.due} are gone",
                self._with(after, number, replace(worker, stage=1, due=(), effects=told)),
            )
        else:
            yield from self._say(world, number, worker)

    def compares_marks(self) -> bool:
        """What a decision depends on is compared in the transaction that records it."""
        return True

    def _too_early(self, world: World, due: tuple[int, ...]) -> str:
        """Whether the minimum duration, the grace or a need is violated by a deletion that begins."""
        for which in due:
            row = world.rows[which]
            if row.state == DELETING:
                continue
            if row.stored + self.cast.minimum > world.now:
                return f"archive {which} is deleted before its minimum duration is over"
            said = {job: told for job, _, told in row.condemned}
            if not set(row.jobs) <= said.keys() or not said:
                return f"archive {which} is deleted, and not all catalogs say that it is condemned"
            if _at(world.now) - _at(max(said.values())) < self.cast.grace:
                return f"archive {which} is deleted within the grace"
        return ""

    def _delete(self, world: World, number: int, worker: Worker) -> Iterator[Step[World]]:
        """The vault is asked; no lock protects a request."""
        gone = replace(
            world,
            rows=tuple(
                replace(row, there=False, dying=False) if which in worker.due else row
                for which, row in enumerate(world.rows)
            ),
        )
        yield Step(f"the vault deletes {worker.due}", self._with(gone, number, replace(worker, stage=5)))
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
            yield Step(
                f"the vault refuses to delete {worker.due}",
                self._spend(
                    self._with(replace(world, rows=rows), number, replace(worker, stage=1, due=())), "faults"
                ),
            )

    def after_refusal(self, which: int, worker: Worker) -> str:
        """What was asked for before may go yet: it is never relied on again."""
        return CONDEMNED if which in worker.fresh else DELETING

    # Cuts and counts.

    def _crash(self, world: World, number: int, worker: Worker) -> Iterator[Step[World]]:
        dead = self._spend(self._without(world, number), "crashes")
        yield Step(f"the {worker.kind} dies", dead)
        if worker.kind == "backup" and worker.stage == 0 and worker.fresh and self.has_lock(world, worker):
            yield Step("the backup dies as its archive arrives", self._sent(dead, worker, SUBMITTED))

    def _may(self, world: World, kind: str) -> bool:
        which = _KINDS.index(kind)
        return world.spent[which] < self._most[which]

    def _spend(self, world: World, kind: str) -> World:
        which = _KINDS.index(kind)
        return replace(world, spent=_put(world.spent, which, world.spent[which] + 1))

    def _with(self, world: World, number: int, worker: Worker) -> World:
        return replace(world, workers=_put(world.workers, number, worker))

    def _without(self, world: World, number: int) -> World:
        return replace(world, workers=(*world.workers[:number], *world.workers[number + 1 :]))


def _put(items: tuple, number: int, item: object) -> tuple:
    return (*items[:number], item, *items[number + 1 :])


def _at(period: int) -> datetime:
    return _START + period * PERIOD


def _newest(world: World, job: int) -> Night | None:
    return max(
        (night for night in world.nights if night.job == job), key=lambda night: night.number, default=None
    )


def _name(night: Night) -> str:
    return f"snapshot {night.number} of job {night.job}"


def _says(effect: Effect) -> str:
    told = [f"a snapshot at {effect.places}"] if effect.number >= 0 else []
    for word in ("condemned", "taken_up", "dropped", "forgotten", "back"):
        if numbers := getattr(effect, word):
            told.append(f"{word.replace('_', ' ')} {numbers}")
    return ", ".join(told)
