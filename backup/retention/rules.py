"""The rules of a policy, one class for each kind; each says what it keeps, and why it does not keep the rest.

The rules are restic's: a count is of periods that have a snapshot, of each period the newest is kept, and
the oldest snapshot of all is kept while a count or a span has some left. A snapshot needs one rule only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Final, Literal, Protocol

from msgspec import Struct

from backup.retention.history import History
from backup.retention.periods import Key, Period
from backup.retention.spans import Span


class Unlimited(Enum):
    """The count that has no limit."""

    ALL = "all"


ALL: Final = Unlimited.ALL
Count = int | Literal[Unlimited.ALL]


class Applied(Struct, frozen=True):
    """The result of a rule for a history: why it keeps snapshots, by position, and why not the others."""

    kept: Mapping[int, str]
    why_not: Callable[[int], str]


class Rule(Protocol):
    """A rule of a policy; as a text, it says what it keeps, such as "8 weekly"."""

    def apply(self, history: History) -> Applied:
        """Apply the rule to a history that is not empty."""
        ...


class Last(Struct, frozen=True):
    """`keep_last`: the newest snapshots, and as many of the newest whole ones.

    So nights that were only partly read do not push out those that were read in full.
    """

    count: Count

    def __str__(self) -> str:
        return "all snapshots" if self.count is ALL else _the_last("snapshot", self.count)

    def apply(self, history: History) -> Applied:
        positions = range(len(history.newest_first))
        if self.count is ALL:
            sentence = "all snapshots are kept"
            return Applied(dict.fromkeys(positions, sentence), lambda _: sentence)
        whole = [n for n in positions if history.newest_first[n].candidate.is_whole]
        kept = dict.fromkeys(whole[: self.count], _one_of("whole snapshot", self.count))
        kept |= dict.fromkeys(positions[: self.count], _one_of("snapshot", self.count))
        sentence = f"older than {_the_last('snapshot', self.count)}"
        return Applied(kept, lambda _: sentence)


class Counted(Struct, frozen=True):
    """`keep_daily` and the like: the newest snapshot of each of the last periods that have one.

    While fewer periods than the count have a snapshot, the oldest one of all is kept, too.
    """

    period: Period
    count: Count

    def __str__(self) -> str:
        return f"{'all' if self.count is ALL else self.count} {self.period.adverb}"

    def apply(self, history: History) -> Applied:
        counting = history.counting(self.period, range(len(history.newest_first)))
        limit = math.inf if self.count is ALL else self.count
        newest = _newest_of_each(history, self.period, counting, limit)
        kept = dict.fromkeys(newest.values(), self._reason())
        if counting[-1] not in kept and len(newest) < limit:
            left = "no limit" if self.count is ALL else f"{self.count - len(newest)} left"
            kept[counting[-1]] = f"the oldest: {self.period.adverb} has {left}"
        return Applied(kept, lambda position: self._why_not(history, newest, position))

    def _reason(self) -> str:
        if self.count is ALL:
            return f"the newest of its {self.period}: {self.period.adverb} has no limit"
        return f"{_one_of(self.period, self.count)} that {_has(self.count)} a backup"

    def _why_not(self, history: History, newest: Mapping[Key, int], position: int) -> str:
        if history.newest_first[position].periods[self.period.value] in newest or self.count is ALL:
            return _another(history, self.period, position)
        return f"older than {_the_last(self.period, self.count)} that {_has(self.count)} a backup"


class Within(Struct, frozen=True):
    """`keep_within`: all snapshots within a span of the newest one, whole or not."""

    span: Span

    def __str__(self) -> str:
        return f"all within {self.span}"

    def apply(self, history: History) -> Applied:
        since = history.since(self.span)
        kept = [n for n, dated in enumerate(history.newest_first) if dated.candidate.started_at > since]
        sentence = _too_old(history, self.span)
        return Applied(dict.fromkeys(kept, f"within {_of_newest(history, self.span)}"), lambda _: sentence)


class CountedWithin(Struct, frozen=True):
    """`keep_within_daily` and the like: the newest of each period, within a span of the newest snapshot.

    While the whole history is shorter than the span, its oldest snapshot is kept, too.
    """

    period: Period
    span: Span

    def __str__(self) -> str:
        return f"{self.period.adverb} within {self.span}"

    def apply(self, history: History) -> Applied:
        since = history.since(self.span)
        near = [n for n, dated in enumerate(history.newest_first) if dated.candidate.started_at > since]
        counting = history.counting(self.period, near)
        newest = _newest_of_each(history, self.period, counting, math.inf)
        reason = f"the newest of its {self.period}, within {_of_newest(history, self.span)}"
        kept = dict.fromkeys(newest.values(), reason)
        if near[-1] == len(history.newest_first) - 1:
            kept.setdefault(counting[-1], f"the oldest: within {_of_newest(history, self.span)}")
        within, too_old = frozenset(near), _too_old(history, self.span)

        def why_not(position: int) -> str:
            return _another(history, self.period, position) if position in within else too_old

        return Applied(kept, why_not)


class Tagged(Struct, frozen=True):
    """`keep_tags`: snapshots that have all tags of any one of these sets."""

    tags: tuple[frozenset[str], ...]

    def __str__(self) -> str:
        return f"tagged {' or '.join(map(_together, self.tags))}"

    def apply(self, history: History) -> Applied:
        kept: dict[int, str] = {}
        for position, dated in enumerate(history.newest_first):
            having = [_together(tags) for tags in self.tags if tags <= dated.candidate.tags]
            if having:
                kept[position] = f"tagged {', '.join(having)}"
        sentence = f"not {self}"
        return Applied(kept, lambda _: sentence)


def _newest_of_each(
    history: History, period: Period, positions: Sequence[int], limit: float
) -> dict[Key, int]:
    """The newest position of each period, of no more periods than `limit`."""
    newest: dict[Key, int] = {}
    seen, word, before = history.newest_first, period.value, None
    for position in positions:
        key = seen[position].periods[word]
        if key == before:  # most are: a look at the last one is faster than at all
            continue
        before = key
        if key not in newest:
            if len(newest) >= limit:
                break
            newest[key] = position
    return newest


def _another(history: History, period: Period, position: int) -> str:
    """Why a snapshot does not stand for its period, though another one does."""
    dated = history.newest_first[position]
    kind = "newer" if dated.candidate.is_whole else "newer or a whole"
    return f"{period.label(dated.local)} has a {kind} snapshot"


def _one_of(noun: str, count: int) -> str:
    return f"one of the last {count} {noun}s" if count != 1 else f"the last {noun}"


def _the_last(noun: str, count: int) -> str:
    return f"the last {count} {noun}s" if count != 1 else f"the last {noun}"


def _has(count: int) -> str:
    return "have" if count != 1 else "has"


def _of_newest(history: History, span: Span) -> str:
    return f"{span} of the newest {_kind(history)}"


def _too_old(history: History, span: Span) -> str:
    return f"{span} or more before the newest {_kind(history)}"


def _kind(history: History) -> str:
    return "whole snapshot" if history.newest else "snapshot"


def _together(tags: frozenset[str]) -> str:
    return "+".join(sorted(tags))
