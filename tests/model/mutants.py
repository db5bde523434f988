"""The guards of a prune, each taken out in turn, with the smallest life in which that does harm.

python -m tests.model.mutants        # the story of each
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple

from msgspec.structs import replace

from backup.inventory.content.pruning import Condemnation, StoredArchive
from backup.retention.prune import DEFAULT_GRACE, PrunedArchive, PruneRules
from tests.model.chains import Chains, Links
from tests.model.nights import Nights
from tests.model.plain import Packs
from tests.model.search import Model, search
from tests.model.world import CONDEMNED, DELETING, STORED, Cast, Night, Row, Worker, World, at, newest

QUIET = Cast(
    jobs=1, chunks=2, archives=3, snapshots=3, backups=2, forgets=1, undos=0, prunes=2, periods=2, crashes=0,
    sleeps=0, restores=0, faults=0,
)  # fmt: skip


class _NoGrace(Nights):
    def rules(self, world: World) -> PruneRules:
        return replace(super().rules(world), grace=timedelta(0))


class _NoMinimum(Nights):
    def pruned(self, archive: StoredArchive, minimum: timedelta) -> PrunedArchive:
        return super().pruned(archive, timedelta(0))


class _SaidIsEnough(Nights):
    def pruned(self, archive: StoredArchive, minimum: timedelta) -> PrunedArchive:
        pruned = super().pruned(archive, minimum)
        return replace(pruned, told_at=pruned.condemned_at)


class _OurClock(Nights):
    def _condemned_by(self, row: Row, world: World) -> dict[int, Condemnation]:
        return {job: Condemnation(at(said), at(told)) for job, said, told, _ in row.condemned}


class _ClocksApart(Nights):
    def has_the_same_time(self, world: World) -> bool:
        return True


class _OneJob(Nights):
    def _archives(self, world: World) -> dict[int, StoredArchive]:
        found = super()._archives(world)
        return {
            number: replace(archive, jobs=frozenset(archive.condemned_by) or archive.jobs)
            for number, archive in found.items()
        }


class _NoFence(Nights):
    def has_lock(self, world: World, worker: Worker) -> bool:
        return True


class _NoMarks(Nights):
    def compares_marks(self) -> bool:
        return False


class _NoReads(Nights):
    def keeps_reads(self) -> bool:
        return False


class _BuildsOnCondemned(Nights):
    def is_built_upon(self, row: Row) -> bool:
        return row.state in {STORED, CONDEMNED, DELETING}


class _ReliesOnRefused(Nights):
    def after_refusal(self, which: int, worker: Worker) -> str:
        return CONDEMNED


class _NotRecorded(Nights):
    def as_decided(self, row: Row) -> Row:
        return row


class _AlwaysBack(Nights):
    def _may_come_back(self, world: World, night: Night) -> bool:
        return True


class _NotFinished(Nights):
    def _recovered(self, world: World) -> World:
        return world


class _Stored(Packs):
    def _kept_by_another(self, archive: int, chunk: int, places: object) -> bool:
        return len(self.copies[chunk]) > 1


class _EachOther(Nights):
    def _packs(self, world: World) -> Packs:
        states = dict(enumerate(row.state for row in world.rows))
        return _Stored(states, dict(enumerate(row.chunks for row in world.rows)))


class _OnlyNewest(Nights):
    def needed(self, world: World) -> set[int]:
        last = [newest(world, job) for job in range(self.cast.jobs)]
        return super().needed(replace(world, nights=tuple(night for night in last if night)))


class _OnlyFirstJob(Nights):
    def needed(self, world: World) -> set[int]:
        return super().needed(replace(world, nights=tuple(night for night in world.nights if not night.job)))


class _OneGeneration(Chains):
    def needed(self, world: Links) -> set[int]:
        fulls = [number for number, link in enumerate(world.links) if link.is_full and link.state == STORED]
        return {number for number in super().needed(world) if number >= max(fulls, default=0)}


class _OnlyFulls(Chains):
    def needed(self, world: Links) -> set[int]:
        return {number for number in super().needed(world) if world.links[number].is_full}


class _NeverBroken(Chains):
    def due(self, world: Links) -> str:
        said = super().due(world)
        return "" if said == "broken" else said


class Mutant(NamedTuple):
    """A guard that is taken out, the model without it, and words of the law that breaks."""

    guard: str
    model: Model[Any]
    law: str


def _cast(*, long_grace: bool = False, cut: str = "", **counts: int) -> Cast:
    grace = 2 * DEFAULT_GRACE if long_grace else DEFAULT_GRACE
    return replace(QUIET, grace=grace, cut=cut, **counts)


MUTANTS = (
    Mutant("what kept snapshots need stays, not the newest alone", _OnlyNewest(QUIET), "kept, is gone"),
    Mutant("what other jobs need stays", _OnlyFirstJob(_cast(jobs=2)), "kept, is gone"),
    Mutant("the grace period", _NoGrace(_cast(long_grace=True, periods=3)), "within the grace"),
    Mutant("the minimum duration", _NoMinimum(_cast(minimum=2)), "minimum duration"),
    Mutant(
        "grace begins when the catalog is stored", _SaidIsEnough(_cast(crashes=1, cut="prune")),
        "within the grace",
    ),
    Mutant(
        "stored by the vault's clock, too", _OurClock(_cast(jumps=2, sleeps=1, cut="prune")),
        "within the grace",
    ),
    Mutant("clocks are compared before", _ClocksApart(_cast(jumps=1)), "within the grace"),
    Mutant(
        "each job must have said so",
        _OneJob(
            _cast(
                jobs=2, snapshots=2, archives=2, backups=4, forgets=2, crashes=1, cut="prune", periods=1
            )
        ),
        "not each",
    ),
    Mutant("the fencing number is compared", _NoFence(_cast(backups=3, sleeps=1, cut="backup")), "same one"),
    Mutant("what a decision depends on is compared again", _NoMarks(_cast(restores=1)), "is gone"),
    Mutant("what an open restore reads stays", _NoReads(_cast(restores=1)), "read"),
    Mutant(
        "nothing builds on what is to go",
        _BuildsOnCondemned(_cast(backups=3, prunes=3, crashes=1, cut="prune")),
        "gone",
    ),
    Mutant("what may go yet is not relied on", _ReliesOnRefused(_cast(faults=2, prunes=3, undos=1)), "gone"),
    Mutant(
        "a deletion is recorded before it is asked for", _NotRecorded(_cast(crashes=1, undos=1, cut="prune")),
        "gone",
    ),
    Mutant(
        "a snapshot comes back only if all is there", _AlwaysBack(_cast(undos=1, crashes=1, cut="prune")),
        "gone",
    ),
    Mutant("what a dead run sent is finished first", _NotFinished(_cast(crashes=1)), "follow the same one"),
    Mutant("two are not dispensable because of each other", _EachOther(_cast(retires=1)), "gone"),
    Mutant("two generations of full catalogs stay", _OneGeneration(8, 2), "a rebuild gives"),
    Mutant("the deltas since the older one stay", _OnlyFulls(8, 2), "a rebuild gives"),
    Mutant("a full catalog is due once one is lost", _NeverBroken(8, 2), "a rebuild gives"),
)  # fmt: skip


def stories() -> Iterator[tuple[Mutant, str]]:
    """Each mutant and its story; empty if none was found."""
    for mutant in MUTANTS:
        found = search(mutant.model, 2_000_000)
        yield mutant, found.text() if found.broken else ""


if __name__ == "__main__":
    for mutant, story in stories():
        print(f"Without: {mutant.guard}\n{story or 'no story'}\n", flush=True)
