"""The questions that a prune asks SQL, a second time in plain Python; `test_plain.py` holds them equal.

A chunk's place is a pair: the number of an archive, and the chunk's id. All archives are of one domain.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple, TypeVar

from backup.inventory.content.archives import THERE, ArchiveState

Place = tuple[int, int]
"""The number of an archive, and the id of a chunk that lies in it."""

S = TypeVar("S", bound=Hashable)

_FULLS_KEPT = 2
_STORED, _RETIRED, _UNCONFIRMED = ArchiveState.STORED, ArchiveState.RETIRED, ArchiveState.UNCONFIRMED
_GOING = frozenset({ArchiveState.DELETING, ArchiveState.DELETED})
_REMAIN = frozenset(THERE) - {ArchiveState.DELETING}
_THERE = frozenset(THERE)


class Packs:
    """The data archives of an inventory: their states, and the chunks that are known to lie in them."""

    def __init__(self, states: Mapping[int, str], contents: Mapping[int, Collection[int]]) -> None:
        self.states, self.contents = states, contents
        self.copies: dict[int, list[int]] = defaultdict(list)
        for archive, chunks in contents.items():
            for chunk in chunks:
                self.copies[chunk].append(archive)

    def needed(self, named: Iterable[Place]) -> set[int]:
        """The archives that these places need, as `pruner.needed` finds them, catalogs apart."""
        places = self.with_copies(named)
        found: set[int] = set()
        for archive, state in self.states.items():
            if state not in _THERE:
                continue
            chunks = self.contents[archive]
            if not chunks or any(
                (archive, chunk) in places and not self._kept_by_another(archive, chunk, places)
                for chunk in chunks
            ):
                found.add(archive)
        return found

    def with_copies(self, named: Iterable[Place]) -> set[Place]:
        """These places, and the copies of what lies where it cannot be relied on (`need.mark_copies`)."""
        places = {place for place in named if place[1] in self.contents.get(place[0], ())}
        unsure = {chunk for archive, chunk in places if self.states[archive] != _STORED}
        return places | {(archive, chunk) for chunk in unsure for archive in self.copies[chunk]}

    def _kept_by_another(self, archive: int, chunk: int, places: AbstractSet[Place]) -> bool:
        """Whether another archive keeps a chunk for this one (`need.stored_elsewhere`)."""
        copies = self.copies[chunk]
        if not any(self.states[other] in _NOT_BUILT_UPON and (other, chunk) in places for other in copies):
            return False
        state = self.states[archive]
        if any(self.states[other] == _STORED for other in copies):
            return state != _STORED
        retired = [other for other in copies if self.states[other] == _RETIRED]
        return bool(retired) and max(retired) != archive and state != _UNCONFIRMED

    def gone(self, places: Iterable[Place]) -> bool:
        """Whether one of these is only in an archive that was deleted or will be (`gone_with_deletions`)."""
        return any(
            self.states[archive] in _GOING
            and not any(self.states[other] in _REMAIN for other in self.copies[chunk])
            for archive, chunk in places
        )

    def beyond_recall(self, closed: Mapping[S, Iterable[Place]], going: Collection[int] = ()) -> list[S]:
        """The forgotten snapshots, read by nobody, that cannot come back (`forgotten_beyond_recall`).

        `closed` are the places that their entries name which are not live any more.
        """
        left = _REMAIN | {ArchiveState.SUBMITTED}
        gone = {
            (archive, chunk)
            for chunk, copies in self.copies.items()
            for archive in copies
            if (self.states[archive] in _GOING or archive in going)
            and not any(other not in going and self.states[other] in left for other in copies)
        }
        return [snapshot for snapshot, places in closed.items() if not gone.isdisjoint(places)]

    def condemned(self, places: Iterable[Place]) -> set[int]:
        """The condemned archives in which one of these lies (`need.condemned_with`)."""
        return {archive for archive, _ in places if self.states[archive] == ArchiveState.CONDEMNED}


class CatalogRow(NamedTuple):
    """A catalog as an inventory has it."""

    archive: int
    job: int
    number: int
    is_full: bool
    state: str


def needed_catalogs(rows: Collection[CatalogRow]) -> set[int]:
    """The archives of each job's catalogs since the older of two full ones (`pruning.needed_catalogs`)."""
    found: set[int] = set()
    for job in {row.job for row in rows}:
        own = [row for row in rows if row.job == job and row.state in _THERE]
        fulls = sorted((row.number for row in own if row.is_full and row.state == _STORED), reverse=True)
        since = fulls[_FULLS_KEPT - 1] if len(fulls) >= _FULLS_KEPT else 0
        found |= {row.archive for row in own if row.number >= since}
    return found


_NOT_BUILT_UPON = frozenset(
    {ArchiveState.RETIRED, ArchiveState.CONDEMNED, ArchiveState.DAMAGED, ArchiveState.DELETING}
)
