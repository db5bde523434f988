"""What the search says of object locks where a guard is missing, and of designs that are simpler than ours.

.venv/bin/python -m tests.model.locking.mutants        # each with its shortest story
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from msgspec.structs import replace

from backup.retention.locks import LockRules
from tests.model.locking.locked_vault import LockCast, LockedState, LockGuards, due_of_states
from tests.model.locking.locks import Locks
from tests.model.search import Found, search

_DUE = due_of_states
_BEGIN = datetime(2020, 1, 1, tzinfo=UTC)


class LockMutant(NamedTuple):
    """A guard taken out, or a simpler design; the law that breaks, by some of its words."""

    name: str
    law: str
    guards: LockGuards
    cast: LockCast
    is_design: bool = False

    def found(self) -> Found:
        """What the search finds."""
        return search(Locks(self.cast, self.guards))


Due = list[tuple[int, datetime]]


def _rounded_down(now: datetime, rules: LockRules) -> datetime:
    return _BEGIN + (now + rules.lock_for - _BEGIN) // rules.step * rules.step


def _due_rounded_down(
    until: Mapping[int, datetime], states: Sequence[LockedState], now: datetime, rules: LockRules
) -> Due:
    return [(number, _rounded_down(now, rules)) for number, _ in _DUE(until, states, now, rules)]


def _due_of_the_newest(
    until: Mapping[int, datetime], states: Sequence[LockedState], now: datetime, rules: LockRules
) -> Due:
    return _DUE(until, states[-1:], now, rules)


def _due_of_young_states(
    until: Mapping[int, datetime], states: Sequence[LockedState], now: datetime, rules: LockRules
) -> Due:
    return _DUE(until, [state for state in states if state.since > now - rules.lock_for], now, rules)


def _newest_first(
    until: Mapping[int, datetime], states: Sequence[LockedState], now: datetime, rules: LockRules
) -> Due:
    return _DUE(until, states, now, rules)[::-1]


def _due_of_all(
    until: Mapping[int, datetime], states: Sequence[LockedState], now: datetime, rules: LockRules
) -> Due:
    everything = LockedState(now, frozenset(until))
    return _DUE(until, [everything], now, rules)


def _renewed_late(
    until: Mapping[int, datetime], states: Sequence[LockedState], now: datetime, rules: LockRules
) -> Due:
    due = _DUE(until, states, now, rules)
    return [(number, end) for number, end in due if until[number] <= now + rules.step]


def _best_of_all(parts: Iterable[Iterable[datetime]]) -> datetime | None:
    return max((end for locks in parts for end in locks), default=None)


_ONE = LockCast(nights=((1,),), forgets=0, changes=0, cuts=0)
_FORGETS = LockCast(nights=((1,),), forgets=1, changes=0, cuts=0)
_CHANGES = LockCast(nights=((1,),), forgets=0, changes=1, cuts=0)
_CUTS = LockCast(nights=((1,),), forgets=0, changes=0, cuts=1)
_TWO = LockCast(forgets=0, changes=0, cuts=0)

MUTANTS = (
    LockMutant(
        "the end of a lock is rounded down",
        "of the last",
        LockGuards(locked_until=_rounded_down, locks_due=_due_rounded_down),
        _ONE,
    ),
    LockMutant("catalogs are not renewed", "catalog 0", LockGuards(locks_catalogs=False), _ONE),
    LockMutant("the vault's identity is not renewed", "pack 0", LockGuards(locks_identity=False), _ONE),
    LockMutant(
        "only states that were made within the time count",
        "of the last",
        LockGuards(locks_due=_due_of_young_states),
        _ONE,
    ),
    LockMutant(
        "who renews looks at the newest versions alone", "of the last", LockGuards(lists_versions=False), _ONE
    ),
    LockMutant(
        "states are dated by their catalogs' own word",
        "of the last",
        LockGuards(dates_by_vault=False),
        _CHANGES,
    ),
    LockMutant(
        "what ends last is renewed first",
        "has left what ends first",
        LockGuards(locks_due=_newest_first),
        _CUTS,
    ),
    LockMutant(
        "the date counts on locks that were asked for",
        "before the date",
        LockGuards(counts_ordered=True),
        _CUTS,
    ),
    LockMutant(
        "the date counts on packs alone",
        "before the date",
        LockGuards(counts_catalogs=False),
        replace(_CUTS, cuts=2),
    ),
    LockMutant(
        "the date is that of the best lock", "before the date", LockGuards(restores_until=_best_of_all), _TWO
    ),
    LockMutant(
        "a restore reads the newest version", "before the date", LockGuards(restores_versions=False), _ONE
    ),
    LockMutant("a deletion names no version", "for ever", LockGuards(names_version=False), _FORGETS),
    LockMutant(
        "the vault's policy bounds no lock",
        "for ever",
        LockGuards(longest_lock=lambda now, _: now + timedelta(days=36500)),
        _CHANGES,
    ),
    LockMutant(
        "only what the newest state needs is renewed",
        "of the last",
        LockGuards(locks_due=_due_of_the_newest),
        _FORGETS,
        is_design=True,
    ),
    LockMutant(
        "locks are renewed by this machine's clock, which is behind",
        "of the last",
        LockGuards(renews_by_vault_clock=False),
        replace(_ONE, clock=-1),
        is_design=True,
    ),
    LockMutant(
        "locks are renewed by this machine's clock, which is ahead",
        "of the last",
        LockGuards(renews_by_vault_clock=False),
        replace(_ONE, clock=3),
        is_design=True,
    ),
    LockMutant(
        "everything in the vault is renewed",
        "for ever",
        LockGuards(locks_due=_due_of_all),
        _FORGETS,
        is_design=True,
    ),
    LockMutant(
        "a lock is renewed in its last step alone",
        "of the last",
        LockGuards(locks_due=_renewed_late),
        replace(_ONE, lock_for=4),
        is_design=True,
    ),
)


def main() -> None:
    """Print each mutant with its shortest story."""
    for mutant in MUTANTS:
        found = mutant.found()
        print(f"\n{mutant.name}\n{found.text() if found.broken else found}")


if __name__ == "__main__":
    main()
