"""Search for names over all snapshots: a part of all names at a time, so that it stays quick.

The index holds the names themselves: a million versions are looked at in a fifth of a second, and no row of
the table is read but for what is found. Another index (of words, of three letters) would have to be kept by
each backup, and would be as large as all names.
"""

from __future__ import annotations

from itertools import groupby
from typing import Final, NamedTuple

from backup.inventory.content.entry_versions import NamePlace, Version, place_after, versions_called
from backup.inventory.store.connections import Transaction

MOST_LOOKED_AT: Final = 2_000_000
"""Versions that one search looks at; it goes on after them if it is asked to."""
START: Final = NamePlace(0, b"", b"")
"""Before all names."""


class FoundName(NamedTuple):
    """A name that fits, with its newest version, and how many versions there are."""

    place: NamePlace
    newest: Version
    versions: int


def search_names(
    tx: Transaction, pattern: str, *, folders: str | None, job: int | None, after: NamePlace, limit: int
) -> tuple[list[FoundName], NamePlace | None]:
    """Names that fit a LIKE pattern, of that job if it is given, in directories that fit another.

    Also returns where to continue: after the last hit if there are `limit`, after the last name examined if
    there are more, else None.
    """
    end = place_after(tx, after, MOST_LOOKED_AT, job=job)
    fitting = versions_called(tx, job=job, names=pattern, folders=folders, after=after, until=end)
    found: list[FoundName] = []
    for place, of_name in groupby(fitting, key=_place_of):
        *older, (_, newest) = of_name
        found.append(FoundName(place, newest, len(older) + 1))
        if len(found) == limit:
            return found, place
    return found, end


def _place_of(found: tuple[int, Version]) -> NamePlace:
    job, version = found
    return NamePlace(job, version.directory, version.name)
