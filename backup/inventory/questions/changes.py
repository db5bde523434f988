"""Queries for changes between two snapshots of a job: counts, and a page at a time in the order of paths.

Few changes, as of a night, are found by the indexes on the snapshots in which versions begin and end. Where
there are very many (a first snapshot, years apart), the directories are walked in order until a page is full.

A pair is the version of an entry in each of the two snapshots; directories of which only the times differ,
as of each in which something was made, are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from backup.inventory.content.entry_versions import Version
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import raw_rows, row_of, sum_of

MOST_FOUND = 50_000
"""So many versions are looked at by the indexes, and counted; with more, counts are a least number."""

_COLUMNS = ", ".join(["d.path", *(f"e.{column}" for column in Version._fields[1:])])
_OLD = "e.added_in <= {a} AND (e.removed_in IS NULL OR e.removed_in > {a})"
_NEW = "e.added_in <= {b} AND (e.removed_in IS NULL OR e.removed_in > {b})"
_BELOW = "(d.path = ? OR (d.path >= ? AND d.path < ?))"

# The numbers stand in the text: they are integers of ours, and each is used many times.
_DIFFER = (
    "((e.added_in <= {a} AND e.removed_in > {a} AND e.removed_in <= {b}) OR (e.added_in > {a} AND "
    + _NEW
    + "))"
)
_FOUND = """
SELECT number FROM entries WHERE added_in > {a} AND added_in <= {b}
UNION ALL SELECT number FROM entries WHERE removed_in > {a} AND removed_in <= {b} AND added_in <= {a}"""
_MANY = "SELECT count(*) FROM (SELECT 1 FROM ({found}) AS one LIMIT {most}) AS some"

# One row for each path: whether it was there, and is, with sizes; what only touches a directory goes.
_PATHS = """
SELECT e.directory, e.name, d.path AS path, max({old}) AS was, max({new}) AS is_there,
       coalesce(sum(CASE WHEN {old} THEN e.size END), 0) AS size_was,
       coalesce(sum(CASE WHEN {new} THEN e.size END), 0) AS size_is
FROM {source}
WHERE d.job = ? AND {below} AND {differ} {after}
GROUP BY d.path, e.name
HAVING NOT (count(*) = 2 AND min(e.kind) = 2 AND max(e.kind) = 2 AND min(e.mode) = max(e.mode)
            AND min(e.owner) = max(e.owner) AND coalesce(min(e.extra), x'') = coalesce(max(e.extra), x'')
            AND count(e.extra) <> 1)"""
_BY_INDEX = (
    "({found}) AS f CROSS JOIN entries e ON e.number = f.number JOIN directories d ON d.number = e.directory"
)
_BY_PATH = "directories d CROSS JOIN entries e ON e.directory = d.number"
_AFTER = "AND d.path >= ? AND (d.path > ? OR e.name > ?)"

_COUNTS = f"""
SELECT coalesce(sum(was = 0), 0), coalesce(sum(is_there = 0), 0), coalesce(sum(was AND is_there), 0),
       coalesce({sum_of("CASE WHEN size_is > size_was THEN size_is - size_was END")}, 0),
       coalesce({sum_of("CASE WHEN size_is < size_was THEN size_was - size_is END")}, 0)
FROM ({{paths}}) AS p"""
_PAGE = """
WITH chosen AS ({paths} ORDER BY d.path, e.name LIMIT ?)
SELECT {columns} FROM chosen c
CROSS JOIN entries e ON e.directory = c.directory AND e.name = c.name
JOIN directories d ON d.number = e.directory
WHERE {differ} ORDER BY d.path, e.name, e.added_in"""


class Counts(NamedTuple):
    """How many paths were added, removed and changed, and by how many bytes files grew and shrank."""

    added: int
    removed: int
    changed: int
    bytes_more: int
    bytes_less: int


class Between(Struct, frozen=True):
    """Two snapshots of a job by their numbers, the older first (0: before there was any), and a path."""

    job: int
    older: int
    newer: int
    path: bytes

    def sql(self, text: str, **more: str) -> str:
        """SQL with `old`, `new`, `differ`, `below`, `found` and the names in `more` filled in."""
        numbers = {"a": str(int(self.older)), "b": str(int(self.newer))}
        parts = {"old": _OLD, "new": _NEW, "differ": _DIFFER, "found": _FOUND}
        known = {name: part.format(**numbers) for name, part in parts.items()}
        return text.format(**known, below=_BELOW, **numbers, **more)

    @property
    def bounds(self) -> tuple[bytes, ...]:
        """The values for the parameters of `below`."""
        stem = self.path.rstrip(b"/")
        return self.path, stem + b"/", stem + b"0"


def is_much(tx: Transaction, between: Between) -> bool:
    """Whether more versions differ than can be listed by the indexes."""
    sql = between.sql(_MANY, most=str(MOST_FOUND + 1))
    return int(row_of(tx, sql, ())[0]) > MOST_FOUND


def count_changes(tx: Transaction, between: Between) -> Counts:
    """Count the differences; only if they are not much (`is_much`)."""
    paths = between.sql(_PATHS, source=between.sql(_BY_INDEX), after="")
    return Counts(*row_of(tx, _COUNTS.replace("{paths}", paths), (between.job, *between.bounds)))


def changed_page(
    tx: Transaction, between: Between, *, after: tuple[bytes, bytes] | None, limit: int, much: bool
) -> list[tuple[Version | None, Version | None]]:
    """Pairs that differ, by path, after a directory and name; for `much` by a walk of directories."""
    source = _BY_PATH if much else between.sql(_BY_INDEX)
    paths = between.sql(_PATHS, source=source, after="" if after is None else _AFTER)
    sql = between.sql(_PAGE, paths=paths, columns=_COLUMNS)
    place = () if after is None else (after[0], after[0], after[1])
    rows = raw_rows(tx, sql, (between.job, *between.bounds, *place, limit))
    return _paired([Version._make(row) for row in rows], between.older)


def _paired(rows: Sequence[Version], older: int) -> list[tuple[Version | None, Version | None]]:
    found: dict[tuple[bytes, bytes], tuple[Version | None, Version | None]] = {}
    for version in rows:
        before, after = found.get((version.directory, version.name), (None, None))
        found[version.directory, version.name] = (
            (version, after) if version.added_in <= older else (before, version)
        )
    return list(found.values())
