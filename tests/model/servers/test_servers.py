"""Several machines of one server in one vault, searched; and what it says where a guard is missing."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.model.search import search
from tests.model.servers.mutants import MUTANTS, ServerMutant
from tests.model.servers.servers import Servers
from tests.model.servers.world import Cast, World
from tests.support.campaigns import share

USUAL = 10_000
STATES = share("NIGHTVAULT_MODEL_STATES", USUAL)

WHOLE = {
    "the server alone": Cast(undos=1, undeletes=1, crashes=1),
    "a keeper, one sleep": Cast(keeper=2, undos=1, sleeps=1),
    "a keeper, a late list": Cast(keeper=2, undeletes=1, lag=1),
    "an image of the disk, a late list": Cast(images=1, lag=1),
    "an image of the disk, one sleep": Cast(images=1, sleeps=1),
    "a clock that is off by a period": Cast(skews=1),
    "a rebuilt server": Cast(heirs=1),
    "a rebuilt server, a late list": Cast(heirs=1, lag=1),
    "a pack that the vault loses": Cast(nights=3, packs=4, losses=1, undos=1),
}
"""Searched whole, whatever the share."""

LARGER = {
    "a rebuilt server, one sleep": Cast(heirs=1, sleeps=1),
    "a rebuilt server, one sleep, what is taken back": Cast(heirs=1, sleeps=1, undos=1),
    "a rebuilt server, a power cut": Cast(heirs=1, crashes=1),
    "a rebuilt server, what is taken back": Cast(heirs=1, undos=1, undeletes=1),
    "a rebuilt server and a keeper": Cast(heirs=1, keeper=1),
    "a rebuilt server, a keeper, a late list": Cast(heirs=1, keeper=1, lag=1, nights=3, periods=4),
    "two rebuilt servers": Cast(heirs=2),
    "a hostile server": Cast(
        heirs=1, forgeries=("full", "claims first", "label", "mark", "impostor high"), forged=1, answers=1
    ),
    "a hostile server and a keeper": Cast(
        keeper=1, forgeries=("full claims", "first", "unenrolled label", "mark nobody"), forged=1, answers=1
    ),
    "everything": Cast(
        heirs=2, images=1, keeper=1, undos=1, undeletes=1, crashes=1, sleeps=1, skews=1, lag=1, answers=1,
        forgeries=("full claims", "label", "mark"), forged=1, periods=4,
    ),
}  # fmt: skip

DRAINED = {
    "the server alone": WHOLE["the server alone"],
    "a keeper": Cast(keeper=1, undos=1, undeletes=1),
    "a rebuilt server": Cast(heirs=1),
    "a rebuilt server, one sleep": Cast(heirs=1, sleeps=1),
}
_MANY = 99


@pytest.mark.parametrize("cast", WHOLE.values(), ids=WHOLE)
def test_no_law_is_broken(cast: Cast) -> None:
    found = search(Servers(cast))
    assert not found.broken, found.text()
    assert found.whole


@pytest.mark.parametrize("cast", LARGER.values(), ids=LARGER)
def test_of_larger_casts_as_many_worlds_as_asked_for(cast: Cast) -> None:
    most = STATES // 5
    found = search(Servers(cast), most)
    assert not found.broken, found.text()
    assert found.whole or found.states >= most


class _Draining(Servers):
    """Also wants that what is dead goes, of every 16th world, once only prunes, keeper and time go on."""

    _seen = 0
    fair: tuple[str, ...] = (
        "wakes",
        "set right",
        "prunes:",
        "prunes:",
        "the keeper deletes",
        "a period passes",
    )

    def __init__(self, cast: Cast) -> None:
        super().__init__(cast)
        self._fair = Servers(replace(cast, prunes=_MANY, keeper=_MANY * bool(cast.keeper), periods=_MANY))
        self._fair.vault, self._fair.keeper = self.vault, self.keeper

    def broken(self, world: World) -> str:
        self._seen += 1
        return super().broken(world) or ("" if self._seen % 16 else self.left_over(world))

    def left_over(self, world: World) -> str:
        """A dead pack that is there after six periods in which everybody woke, pruned, and deleted."""
        for _ in range(6):
            for word in self.fair:
                steps = [step for step in self._fair.steps(world) if word in step.story]
                world = steps[-1].world if steps else world
        last, shown = world.machines[-1], self.vault.shown(world)
        if not last.nights or self.stops(last, shown) or self.prune_stops(last, shown):
            return ""  # a person is asked
        there = {pack.order for pack in world.packs if pack.there}
        dead = there & {row.pack for row in last.rows} - self.needed(last, shown.chunks)
        return f"packs {sorted(dead)} stay for ever" if dead else ""


@pytest.mark.parametrize("cast", DRAINED.values(), ids=DRAINED)
def test_what_nothing_needs_goes(cast: Cast) -> None:
    found = search(_Draining(cast), STATES // 4)
    assert not found.broken, found.text()


class _Lazy(_Draining):
    """Nobody prunes."""

    fair = ("wakes", "set right", "a period passes")


def test_what_stays_is_told() -> None:
    assert "stay for ever" in search(_Lazy(DRAINED["the server alone"])).broken


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.guard)
def test_without_a_guard_a_law_is_broken(mutant: ServerMutant) -> None:
    found = mutant.found()
    assert mutant.law in found.broken, found.text()
    assert found.story


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.guard)
def test_with_it_none_is(mutant: ServerMutant) -> None:
    found = search(Servers(mutant.cast), STATES // 10)
    assert not found.broken, found.text()
