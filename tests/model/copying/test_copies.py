"""Copies in a second vault, searched whole; and what the search says where a guard is missing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backup.inventory.content.archives import ArchiveState
from backup.retention import copies as decisions
from backup.retention.copies import ArchiveThere
from tests.model.copying import decisions as later
from tests.model.copying.copies import Copies
from tests.model.copying.mutants import MUTANTS, CopyMutant
from tests.model.copying.two_vaults import CopyCast
from tests.model.search import search
from tests.support.campaigns import share

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_SAME = ((0,), (0,))

CASTS = {
    "everything, of two nights with one pack": CopyCast(nights=_SAME),
    "rebuilds and cuts, of two nights that share a pack": CopyCast(forgets_there=0, faults=0),
}
LARGER = {
    "everything, of two nights that share a pack": CopyCast(),
    "archives with ids of their own": CopyCast(nights=_SAME, is_named=False, is_late=True, again=1),
    "two faults, and taking back": CopyCast(nights=((0,), (0,), (1,)), forgets_there=2, faults=2, undos=1),
}


@pytest.mark.parametrize("cast", CASTS.values(), ids=CASTS)
def test_no_law_is_broken(cast: CopyCast) -> None:
    found = search(Copies(cast))
    assert not found.broken, found.text()
    assert found.whole
    assert found.states >= 20_000


@pytest.mark.parametrize("cast", LARGER.values(), ids=LARGER)
def test_of_larger_casts_as_many_states_as_asked_for(cast: CopyCast) -> None:
    most = share("NIGHTVAULT_MODEL_STATES", 2_000)
    found = search(Copies(cast), most)
    assert not found.broken, found.text()
    assert found.whole or found.states >= most


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_without_a_guard_a_law_is_broken(mutant: CopyMutant) -> None:
    found = mutant.found()
    assert mutant.law in found.broken
    assert found.broken


def _archive(pack: int, state: ArchiveState, *, days: int = 9) -> ArchiveThere:
    return ArchiveThere(pack, pack, state, _NOW - timedelta(days=days), is_said=True)


@pytest.mark.parametrize("state", ArchiveState)
def test_a_copy_counts_on_stored_archives_alone(state: ArchiveState) -> None:
    copied = decisions.packs_copied([_archive(1, state)])
    assert later.is_copied([[1]], copied, is_said=True) is (state is ArchiveState.STORED)


@pytest.mark.parametrize("state", ArchiveState)
def test_a_pack_is_sent_again_only_where_nothing_of_it_is_left(state: ArchiveState) -> None:
    ordered = decisions.packs_to_send([[[1]]], [_archive(1, state)], {1: ArchiveState.STORED}, _NOW)
    assert ordered == ({1} if state in {ArchiveState.DELETED, ArchiveState.LOST} else set())


def test_what_is_neither_here_nor_there_cannot_be_copied() -> None:
    source = {1: ArchiveState.STORED, 2: ArchiveState.DELETED, 3: ArchiveState.RETIRED}
    assert not later.cannot_be_made([[1], [2, 3]], [], source)
    assert later.cannot_be_made([[1], [2]], [], source)
    assert not later.cannot_be_made([[1], [2]], [_archive(2, ArchiveState.CONDEMNED)], source)


def test_of_several_packs_with_a_chunk_the_source_keeps_the_first_that_is_stored() -> None:
    source = {1: ArchiveState.RETIRED, 2: ArchiveState.STORED, 3: ArchiveState.STORED}
    assert decisions.held_for_copies([([[1, 2, 3]], False)], {3}, source) == {2}
    assert decisions.held_for_copies([([[1, 2, 3]], True)], {3}, source) == set()
