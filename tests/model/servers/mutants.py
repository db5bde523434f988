"""The guards against other machines of one server, each taken out in turn, in the smallest cast it needs.

python -m tests.model.servers.mutants        # the story of each
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import NamedTuple
from unittest.mock import patch

from msgspec.structs import replace

from backup.lineage import Family
from backup.model import InventoryId
from backup.pruner import listed
from backup.pruner.keeper.lineages import Lineage
from backup.pruner.keeper.rules import Decision, KeeperRules
from backup.pruner.keeper.state import State
from backup.retention.prune import DEFAULT_GRACE
from tests.model.search import Found, search
from tests.model.servers.keeping import Keeper
from tests.model.servers.rebuilding import RebuildableVault
from tests.model.servers.servers import Servers
from tests.model.servers.vault import IDS, Shown
from tests.model.servers.world import LOOKS, PERIOD, STORED, UNCONFIRMED, Cast, Machine, Row, now


class _NotOvertaken(Servers):
    def is_overtaken(self, machine: Machine, shown: Shown) -> bool:
        return False


class _NotOlder(Servers):
    def is_older(self, machine: Machine, shown: Shown) -> bool:
        return False


class _NoMarks(Servers):
    def has_heir(self, machine: Machine, shown: Shown) -> bool:
        return False


class _NotCareful(Servers):
    def is_careful(self, machine: Machine, shown: Shown) -> bool:
        return False


class _TakesBackBlindly(Servers):
    def looks_before_taking_back(self, machine: Machine) -> bool:
        return False


class _NoSecondLook(Servers):
    def looks_again(self, since: int, period: int) -> bool:
        return False


class _AnyList(Servers):
    def listed_before(self, shown: Shown) -> datetime:
        return now(shown.period)


class _ShortList(Servers):
    def is_short(self, missing: Sequence[Row]) -> bool:
        return False


class _Unknown(Servers):
    def has_unknown(self, machine: Machine, shown: Shown) -> bool:
        return False


class _Strangers(Servers):
    def has_strangers(self, machine: Machine, shown: Shown) -> bool:
        return False


class _OneAnswersAll(Servers):
    def answered(self, machine: Machine) -> set[InventoryId]:
        return set(IDS) if machine.answered else set()


class _AtOnce(Servers):
    def is_built_upon(self, row: Row) -> bool:
        return row.state in {STORED, UNCONFIRMED}


class _AnyListConfirms(Servers):
    def is_old_enough(self, row: Row, shown: Shown) -> bool:
        return True


class _OldDecision(Servers):
    def is_valid(self, begun: int, period: int) -> bool:
        return True


class _SleptOver(Servers):
    def is_late(self, since: int, period: int) -> bool:
        return False


def _keeper(guard: type[Keeper]) -> type[Servers]:
    """The model with a keeper that lacks a guard."""

    class Keeping(Servers):
        def make_keeper(self, vault: RebuildableVault) -> Keeper:
            return guard(vault)

    return Keeping


class _ListsTime(Keeper):
    def time(self, clock: datetime, listed: datetime) -> datetime:
        return listed


class _OwnTime(Keeper):
    def time(self, clock: datetime, listed: datetime) -> datetime:
        return clock


class _NoFloor(Keeper):
    def rules(self, shown: Shown) -> KeeperRules:
        rules = super().rules(shown)
        return replace(rules, floor=rules.at - DEFAULT_GRACE)


class _NoGrace(Keeper):
    def rules(self, shown: Shown) -> KeeperRules:
        rules = super().rules(shown)
        return replace(rules, floor=rules.at - DEFAULT_GRACE)


class _NotCovered(Keeper):
    def require_covered(self, lineage: Lineage, newest: State, floor: State) -> None:
        pass


class _NotItsOwn(Keeper):
    def require_its_own(self, lineage: Lineage) -> None:
        pass


class _NeededThen(Keeper):
    def decide_on(self, lineage: Lineage, newest: State, floor: State, rules: KeeperRules) -> Decision:
        return super().decide_on(lineage, newest, replace(floor, needed=frozenset()), rules)


class ServerMutant(NamedTuple):
    """A guard taken out: the words of the law that breaks, the cast, the model; or patches of the program."""

    guard: str
    law: str
    cast: Cast
    model: type[Servers] = Servers
    patches: tuple[tuple[object, str, object], ...] = ()

    def found(self, most: int | None = None) -> Found:
        """What the search finds."""
        with ExitStack() as stack:
            for owner, name, value in self.patches:
                stack.enter_context(patch.object(owner, name, value))
            return search(self.model(self.cast), most)


_GONE = "is gone"
_TWO = "two go on from one state"
_HEIR = Cast(heirs=1)
_LATE = Cast(heirs=1, lag=1)
_SMALL = Cast(packs=2, periods=2, heirs=1)
_EARLY = "does not condemn it"
_FLOOR = "within the floor"
_ANSWERED = Cast(
    packs=2, periods=1, heirs=1, proof="", forgeries=("mark",), forged=1, answers=1,
)  # fmt: skip
_UNDELETED = Cast(packs=2, nights=3, undeletes=1, lag=1, keeper=1, periods=4)
_PLACED = Cast(
    packs=2, nights=3, heirs=1, heir_nights=0, keeper=1, lag=1, periods=4, sleeps=1, sleepers=("run",),
)  # fmt: skip
_KEPT = Cast(packs=2, prunes=2, keeper=1, periods=4)

MUTANTS: list[ServerMutant] = [
    ServerMutant(
        "a machine before that went on stops the first run after a rebuild", _GONE, _LATE, _NotOvertaken
    ),
    ServerMutant("an inventory older than the vault stops", _GONE, Cast(images=1), _NotOlder),
    ServerMutant("a proven heir's mark stops", _GONE, _LATE, _NoMarks),
    ServerMutant(
        "a first night builds only on what the list shows", _GONE, Cast(heirs=1, answers=1), _NotCareful
    ),
    ServerMutant(
        "a run that slept looks at the vault again",
        _GONE,
        replace(_SMALL, sleeps=1, sleepers=("run",)),
        _NoSecondLook,
    ),
    ServerMutant(
        "a prune that slept asks for nothing",
        _GONE,
        replace(_SMALL, periods=3, undos=1, sleeps=1, sleepers=("prune",)),
        _SleptOver,
    ),
    ServerMutant(
        "a rebuilt server looks at the list before it takes anything back",
        "the list shows no",
        replace(_SMALL, undos=1, sleeps=1, sleepers=("prune",)),
        _TakesBackBlindly,
    ),
    ServerMutant(
        "a list of before the catalogs is not gone by",
        _EARLY,
        replace(_LATE, grace=timedelta(hours=1)),
        _AnyList,
    ),
    ServerMutant(
        "a list that lacks archives stops a prune",
        _GONE,
        Cast(nights=3, packs=4, losses=1, undos=1),
        _ShortList,
    ),
    ServerMutant("unknown catalogs stop a prune", _TWO, _LATE, _Unknown),
    ServerMutant(
        "their numbers alone do not say that they are old",
        _TWO,
        _LATE,
        patches=((listed, "_is_before", lambda *_: True),),
    ),
    ServerMutant("others' catalogs stop a prune", _TWO, Cast(heirs=1, proof=""), _Strangers),
    ServerMutant("an answer is one on that inventory", _TWO, _ANSWERED, _OneAnswersAll),
    ServerMutant("what was taken back is not built upon at once", _GONE, _UNDELETED, _AtOnce),
    ServerMutant("a list of before, or soon after, does not confirm it", _GONE, _UNDELETED, _AnyListConfirms),
    ServerMutant(
        "a keeper that slept decides anew",
        _GONE,
        replace(_UNDELETED, lag=0, sleeps=1, periods=3, sleepers=("keeper",)),
        _OldDecision,
    ),
    ServerMutant(
        "a keeper goes by more than the list's time",
        _FLOOR,
        replace(_KEPT, clocks=(0, 1), has_clock=False),
        _keeper(_ListsTime),
    ),
    ServerMutant(
        "a keeper goes by more than its own clock",
        _FLOOR,
        replace(_KEPT, clocks=(1, 0), has_clock=False),
        _keeper(_OwnTime),
    ),
    ServerMutant("a keeper waits for its floor", _FLOOR, replace(_KEPT, floor=2), _keeper(_NoFloor)),
    ServerMutant(
        "a keeper waits for the grace",
        _FLOOR,
        replace(_KEPT, grace=2 * PERIOD - LOOKS, periods=5),
        _keeper(_NoGrace),
    ),
    ServerMutant("a keeper stops at catalogs that it cannot place", _TWO, _PLACED, _keeper(_NotCovered)),
    ServerMutant(
        "a keeper stops for others' catalogs",
        _GONE,
        replace(_KEPT, periods=2, heirs=1, proof=""),
        _keeper(_NotItsOwn),
    ),
    ServerMutant("a keeper keeps what the floor's state needs", _FLOOR, _KEPT, _keeper(_NeededThen)),
    ServerMutant(
        "claims of ancestors need a proof",
        _EARLY,
        Cast(keeper=1, forged=1, forgeries=("full claims",)),
        patches=((Family, "ancestors", Family.claimed),),
    ),
]


if __name__ == "__main__":
    for mutant in MUTANTS:
        print(f"\n{mutant.guard}: {mutant.found().text()}")
