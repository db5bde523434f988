"""A server's nights, searched whole: no order of what may happen loses what is kept; what is dead goes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.model.chains import Chains
from tests.model.mutants import MUTANTS, QUIET, Mutant
from tests.model.nights import Nights
from tests.model.search import search
from tests.model.world import Cast, World
from tests.support import campaigns

USUAL = 36_000
STATES = campaigns.share("NIGHTVAULT_MODEL_STATES", USUAL)

LIVES = {
    "nights": replace(QUIET, backups=3, undos=1, prunes=3, periods=3),
    "two jobs": replace(QUIET, jobs=2, backups=4, snapshots=2, undos=1, prunes=2),
    "a cut": replace(QUIET, backups=3, undos=1, crashes=1),
    "a sleeping backup": replace(QUIET, backups=3, sleeps=1, cut="backup"),
    "a sleeping prune and a clock": replace(QUIET, prunes=3, sleeps=1, jumps=2, cut="prune"),
    "what a vault answers": replace(QUIET, backups=3, undos=1, prunes=3, periods=3, faults=2),
    "restores": replace(QUIET, backups=3, undos=1, restores=2),
    "compactions": replace(QUIET, backups=3, undos=1, retires=1),
    "a late list": replace(QUIET, backups=3, undos=1, prunes=3, periods=3, faults=1, lag=1),
    "a minimum duration": replace(QUIET, backups=3, undos=1, prunes=3, periods=3, minimum=2),
}


@pytest.mark.parametrize("life", LIVES)
def test_no_way_leads_to_a_loss(life: str) -> None:
    found = search(Nights(LIVES[life]), STATES)
    assert not found.broken, found.text()
    assert found.whole or found.states >= STATES


class _Draining(Nights):
    """Also wants that what is dead goes, of every 64th world."""

    _seen = 0

    def broken(self, world: World) -> str:
        self._seen += 1
        return super().broken(world) or ("" if self._seen % 64 else self.left_over(world))


@pytest.mark.parametrize("life", ["nights", "a cut", "what a vault answers", "compactions"])
def test_what_nothing_needs_goes(life: str) -> None:
    found = search(_Draining(LIVES[life]), STATES // 4)
    assert not found.broken, found.text()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.guard)
def test_without_this_guard_something_is_lost(mutant: Mutant) -> None:
    found = search(mutant.model)
    assert mutant.law in found.broken, found.text()
    assert found.story


def test_a_rebuild_gives_the_newest_state_after_any_loss_of_a_catalog() -> None:
    found = search(Chains(12 if STATES <= USUAL else 16, 3))
    assert not found.broken, found.text()
    assert found.whole


def test_a_life_with_everything() -> None:
    """Two jobs, three chunks, all that may happen at once, as far as the share goes."""
    found = search(Nights(Cast(jumps=1, retires=1)), STATES)
    assert not found.broken, found.text()


@pytest.mark.real
def test_a_million_worlds() -> None:
    """The same, further: it asks no other server, but takes minutes."""
    found = search(Nights(Cast(jumps=1, retires=1)), max(STATES, 1_000_000))
    assert not found.broken, found.text()
