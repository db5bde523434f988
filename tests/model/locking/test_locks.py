"""Object locks, searched whole; and what the search says where a guard is missing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backup.retention import locks as decisions
from backup.retention.locks import LockRules
from tests.model.locking.locked_vault import (
    DeletionAnswer,
    LockCast,
    LockedState,
    answer_to_deletion,
    states_that_count,
)
from tests.model.locking.locks import Locks
from tests.model.locking.mutants import MUTANTS, LockMutant
from tests.model.search import search
from tests.support.campaigns import share

_NOW = datetime(2026, 1, 5, 7, 30, tzinfo=UTC)
_DAY = timedelta(days=1)
_RULES = LockRules(60 * _DAY, 10 * _DAY)

CASTS = {
    "an intruder who uploads and forgets": LockCast(nights=((1,),), forgets=0, cuts=0),
    "two nights that share a pack": LockCast(lock_for=2, changes=0, cuts=0),
}


@pytest.mark.parametrize("cast", CASTS.values(), ids=CASTS)
def test_no_law_is_broken(cast: LockCast) -> None:
    found = search(Locks(cast))
    assert not found.broken, found.text()
    assert found.whole
    assert found.states >= 20_000


def test_of_a_larger_cast_as_many_states_as_asked_for() -> None:
    most = share("NIGHTVAULT_MODEL_STATES", 2_000)
    found = search(Locks(LockCast()), most)
    assert not found.broken, found.text()
    assert found.whole or found.states >= most


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_without_a_guard_a_law_is_broken(mutant: LockMutant) -> None:
    found = mutant.found()
    assert mutant.law in found.broken
    assert found.broken


def test_locks_end_with_a_step_and_the_policy_allows_them() -> None:
    ends = {decisions.locked_until(_NOW + hours * timedelta(hours=1), _RULES) for hours in range(24 * 10)}
    assert len(ends) == 2
    for hours in range(24 * 10):
        now = _NOW + hours * timedelta(hours=1)
        end = decisions.locked_until(now, _RULES)
        assert now + _RULES.lock_for <= end < now + _RULES.lock_for + _RULES.step
        assert end < decisions.longest_lock(now, _RULES)


def test_what_is_renewed_ends_a_step_later_at_least() -> None:
    ends = {number: _NOW + number * _DAY for number in (70, 59, 3, 60)}
    due = decisions.locks_due(ends, _NOW, _RULES)
    assert [number for number, _ in due] == [3, 59]
    assert {end for _, end in due} == {decisions.locked_until(_NOW, _RULES)}


def test_a_state_counts_for_as_long_as_locks_last_after_the_next_one() -> None:
    old, new = LockedState(_NOW - 300 * _DAY, frozenset({1})), LockedState(_NOW - 59 * _DAY, frozenset())
    assert states_that_count([old, new], _NOW, _RULES.lock_for) == [old, new]
    assert states_that_count([old, new], _NOW + _DAY, _RULES.lock_for) == [new]


def test_only_a_version_whose_lock_is_over_is_deleted() -> None:
    assert answer_to_deletion(_NOW + _DAY, _NOW, names_version=True) is DeletionAnswer.REFUSED
    assert answer_to_deletion(_NOW, _NOW, names_version=True) is DeletionAnswer.GONE
    assert answer_to_deletion(_NOW, _NOW, names_version=False) is DeletionAnswer.HIDDEN


def test_a_date_is_the_first_end_of_what_is_needed_and_the_last_of_what_will_do() -> None:
    early, late = _NOW, _NOW + _DAY
    assert decisions.restores_until([[early, late], [late]]) == late
    assert decisions.restores_until([[early], [late]]) == early
    assert decisions.restores_until([[early], []]) is None
    assert decisions.restores_until([]) is None
