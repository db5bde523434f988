"""The snapshots of a job as the rules of a policy see them: newest first, each with its local periods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Self
from zoneinfo import ZoneInfo

from msgspec import Struct

from backup.retention.periods import Key, Period
from backup.retention.spans import Span

if TYPE_CHECKING:
    from backup.inventory.content.snapshots import Snapshot


class Candidate(Struct, frozen=True):
    """One snapshot that a policy keeps or forgets.

    `number` is linear within the job and says what is newer, whatever the clock showed. `started_at` has a
    time zone. A snapshot is whole if everything that it should have was read.
    """

    number: int
    started_at: datetime
    is_whole: bool = True
    tags: frozenset[str] = frozenset()
    is_pinned: bool = False

    @classmethod
    def of_snapshot(cls, snapshot: Snapshot, now: datetime) -> Self:
        """A snapshot as a policy takes it; an expired pin is left out."""
        is_pinned = snapshot.pin is not None and snapshot.pin.holds_at(now)
        return cls(
            snapshot.number, snapshot.started_at, snapshot.is_whole, frozenset(snapshot.tags), is_pinned
        )


class Dated(Struct, frozen=True):
    """A candidate with its time in the job's time zone, and the periods in which it lies.

    `periods` has the values of `Period` as keys: plain strings are looked up much faster than enum members.
    """

    candidate: Candidate
    local: datetime
    periods: Mapping[str, Key]

    @classmethod
    def of(cls, candidate: Candidate, zone: ZoneInfo) -> Dated:
        """The candidate as dated in `zone`."""
        local = candidate.started_at.astimezone(zone)
        return cls(candidate, local, {period.value: period.of(local) for period in Period})


class History(Struct, frozen=True, dict=True):
    """Snapshots that take part in the rules, newest first; a position is a place in this order."""

    newest_first: Sequence[Dated]
    zone: ZoneInfo

    @cached_property
    def newest(self) -> int:
        """The position of the newest whole snapshot; of the newest at all if none is whole."""
        return next((n for n, dated in enumerate(self.newest_first) if dated.candidate.is_whole), 0)

    @cached_property
    def has_partial(self) -> bool:
        """Whether any of them is partial."""
        return not all(dated.candidate.is_whole for dated in self.newest_first)

    def since(self, span: Span) -> datetime:
        """The moment in UTC that lies `span` before the newest snapshot (`newest`)."""
        return span.before(self.newest_first[self.newest].candidate.started_at, self.zone)

    def counting(self, period: Period, positions: Iterable[int]) -> list[int]:
        """Those positions that count for a period: partial ones only if the period has no whole one."""
        if not self.has_partial:
            return list(positions)
        among, word = list(positions), period.value
        seen = self.newest_first
        whole = {seen[n].periods[word] for n in among if seen[n].candidate.is_whole}
        return [n for n in among if seen[n].candidate.is_whole or seen[n].periods[word] not in whole]
