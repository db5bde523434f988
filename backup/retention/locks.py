"""The decisions on object locks: dates and sets in, dates and sets out; pure.

    until = locked_until(now, rules)                     # with an upload, and when a lock is renewed
    date = restores_until(locks_of_parts)                # "whatever an intruder does, this restores until"

`now` is always the vault's date, never this machine's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from msgspec import Struct

from backup.model import ArchiveId, InventoryId

_STEPS_BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
_TO_SPARE = timedelta(days=1)
_Key = TypeVar("_Key", int, ArchiveId)


class LockRules(Struct, frozen=True):
    """For how long objects are locked, and to which steps the end is rounded up."""

    lock_for: timedelta
    step: timedelta


class GivenUp(Struct, frozen=True):
    """The archives of a vault that its servers have given up, by their catalogs: no lock of these is renewed.

    `inventories` are all that have stored there, `stored` the vault's dates of all archives. `problems`: a
    sentence for each server of which nothing counts as given up, or that shows signs of an intruder.
    """

    archives: frozenset[ArchiveId] = frozenset()
    inventories: frozenset[InventoryId] = frozenset()
    stored: Mapping[ArchiveId, datetime] = {}
    problems: tuple[str, ...] = ()


def taken_in(
    there: Iterable[ArchiveId], known: Collection[ArchiveId], stored: Mapping[ArchiveId, datetime], most: int
) -> set[ArchiveId]:
    """The objects that are renewed in place of servers: those that are known, and `most` new ones at most.

    Of new ones those that were stored first: what somebody stores in masses comes last. Where nothing is
    known yet, all are new, and all are taken in.
    """
    there = set(there)
    new = sorted(there - set(known), key=lambda key: (stored.get(key, _STEPS_BEGIN), key))
    return there if not known else there - set(new[most:])


def locked_until(now: datetime, rules: LockRules) -> datetime:
    """The end of a lock that begins now: after `lock_for`, rounded up to a step."""
    least = now + rules.lock_for - _STEPS_BEGIN
    steps = -(-least // rules.step)
    return _STEPS_BEGIN + steps * rules.step


def longest_lock(now: datetime, rules: LockRules) -> datetime:
    """The latest end of a lock that the vault's policy allows to anybody."""
    return now + rules.lock_for + rules.step + _TO_SPARE


def locks_due(
    needed: Mapping[_Key, datetime], now: datetime, rules: LockRules
) -> list[tuple[_Key, datetime]]:
    """The objects whose locks are to be renewed, with the new end; what ends first comes first.

    `needed`: the ends of the locks of what any state of the last `lock_for` needed.
    """
    least = now + rules.lock_for
    due = sorted((end, key) for key, end in needed.items() if end < least)
    return [(key, locked_until(now, rules)) for _, key in due]


def renewals(
    end: datetime, now: datetime, until: datetime, every: timedelta, rules: LockRules
) -> Iterator[datetime]:
    """Yield when a lock that ends then is renewed, by a run now and one `every` so often, to `until`.

    Each renewal is as `locks_due` and `locked_until` have it, so once in a step if runs come that often.
    """
    run = now
    while run <= until:
        if end < run + rules.lock_for:
            yield run
            end = locked_until(run, rules)
        run += max(1, (end - rules.lock_for - run) // every + 1) * every


def restores_until(parts: Iterable[Iterable[datetime]]) -> datetime | None:
    """Until when something restores whatever an intruder does; None where nothing holds it.

    For each part that it needs (a chunk, the catalogs that tell of it, the vault's identity) the ends of the
    locks of those objects of which any will do.
    """
    best = [max(locks, default=None) for locks in parts]
    known = [end for end in best if end is not None]
    return min(known) if known and len(known) == len(best) else None
