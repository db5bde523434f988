"""The decisions on object locks: dates and sets in, dates and sets out; pure.

    until = locked_until(now, rules)                     # with an upload, and when a lock is renewed
    date = restores_until(locks_of_parts)                # "whatever an intruder does, this restores until"

`now` is always the vault's date, never this machine's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from msgspec import Struct

_STEPS_BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
_TO_SPARE = timedelta(days=1)


class LockRules(Struct, frozen=True):
    """For how long objects are locked, and to which steps the end is rounded up."""

    lock_for: timedelta
    step: timedelta


class LockedState(Struct, frozen=True):
    """A state of a job: when the vault stored the catalog that made it true, and the objects that it needs.

    These are the packs of its snapshots, the catalogs that tell of them, and the vault's identity.
    """

    since: datetime
    needs: frozenset[int]


def locked_until(now: datetime, rules: LockRules) -> datetime:
    """The end of a lock that begins now: after `lock_for`, rounded up to a step."""
    least = now + rules.lock_for - _STEPS_BEGIN
    steps = -(-least // rules.step)
    return _STEPS_BEGIN + steps * rules.step


def longest_lock(now: datetime, rules: LockRules) -> datetime:
    """The latest end of a lock that the vault's policy allows to anybody."""
    return now + rules.lock_for + rules.step + _TO_SPARE


def states_that_count(states: Sequence[LockedState], now: datetime, lock_for: timedelta) -> list[LockedState]:
    """The states that were in force at some time of the last `lock_for`, however old they are.

    `states` in the order in which the vault stored their catalogs. Each is in force until the next one.
    """
    ends = [*(state.since for state in states[1:]), None]
    pairs = zip(states, ends, strict=False)
    return [state for state, end in pairs if end is None or end > now - lock_for]


def locks_due(
    until: Mapping[int, datetime], states: Sequence[LockedState], now: datetime, rules: LockRules
) -> list[tuple[int, datetime]]:
    """The objects whose locks are to be renewed, with the new end; what ends first comes first.

    What any state that counts needs is renewed, whatever was forgotten since.
    """
    needed = {number for state in states_that_count(states, now, rules.lock_for) for number in state.needs}
    least = now + rules.lock_for
    due = sorted((until[number], number) for number in needed if number in until and until[number] < least)
    return [(number, locked_until(now, rules)) for _, number in due]


def may_go_from(until: datetime, free_at: datetime, grace_ends: datetime) -> datetime:
    """The day from which on what nothing needs may go: lock, minimum duration and grace are over."""
    return max(until, free_at, grace_ends)


def restores_until(parts: Iterable[Iterable[datetime]]) -> datetime | None:
    """Until when something restores whatever an intruder does; None where nothing holds it.

    For each part that it needs (a chunk, the catalogs that tell of it, the vault's identity) the ends of the
    locks of those objects of which any will do.
    """
    best = [max(locks, default=None) for locks in parts]
    known = [end for end in best if end is not None]
    return min(known) if known and len(known) == len(best) else None
