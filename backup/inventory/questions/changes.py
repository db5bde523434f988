"""Queries for changes between two snapshots: counts, and a stream in the order of paths, of which a page is
the beginning.

Few changes, as of a night, are found by the indexes on the snapshots in which versions begin and end, and
sorted. Where there are very many (a first snapshot, years apart), the directories are walked in order.

A pair is the version of an entry in each of the two snapshots. Counts leave out directories of which only the
times differ (`is_touched`), as of each in which something was made.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from msgspec import Struct

from backup.inventory.content.entries import ROOT
from backup.inventory.content.entry_versions import (
    BELOW,
    COLUMNS,
    Version,
    bounds,
    version_at,
    versions_below,
)
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import row_of, stream, sum_of
from backup.model import EntryKind

MOST_FOUND = 50_000
"""So many versions are looked at by the indexes, and counted; with more, counts are a least number."""

_OLD = "e.added_in <= {a} AND (e.removed_in IS NULL OR e.removed_in > {a})"
_NEW = "e.added_in <= {b} AND (e.removed_in IS NULL OR e.removed_in > {b})"

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
WHERE d.job = ? AND {below} AND {differ}
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
_CHANGED = """
SELECT {columns} FROM {source}
WHERE d.job = ? AND {below} AND {differ} {after} ORDER BY d.path, e.name, e.added_in"""

Pair = tuple[Version | None, Version | None]


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
        return text.format(**known, below=BELOW, **numbers, **more)


def is_much(tx: Transaction, between: Between) -> bool:
    """Whether more versions differ than can be listed by the indexes."""
    sql = between.sql(_MANY, most=str(MOST_FOUND + 1))
    return int(row_of(tx, sql, ())[0]) > MOST_FOUND


def count_changes(tx: Transaction, between: Between) -> Counts:
    """Count the differences; only if they are not much (`is_much`)."""
    paths = between.sql(_PATHS, source=between.sql(_BY_INDEX))
    return Counts(*row_of(tx, _COUNTS.replace("{paths}", paths), (between.job, *bounds(between.path))))


def changed(
    tx: Transaction, between: Between, *, much: bool, after: tuple[bytes, bytes] | None = None
) -> Iterator[Pair]:
    """Pairs that differ, by path, after a directory and name; for `much` by a walk of directories."""
    source = _BY_PATH if much else between.sql(_BY_INDEX)
    sql = between.sql(_CHANGED, source=source, columns=COLUMNS, after="" if after is None else _AFTER)
    place = () if after is None else (after[0], after[0], after[1])
    rows = stream(tx, sql, (between.job, *bounds(between.path), *place), Version)
    for _, some in groupby(rows, key=attrgetter("directory", "name")):
        versions = list(some)
        before = versions[0] if versions[0].added_in <= between.older else None
        yield before, versions[-1] if versions[-1].added_in > between.older else None


def is_touched(before: Version | None, after: Version | None) -> bool:
    """Whether a pair is a directory of which nothing but its times differs."""
    if before is None or after is None or {before.kind, after.kind} != {EntryKind.DIRECTORY}:
        return False
    return (before.mode, before.owner, before.extra) == (after.mode, after.owner, after.extra)


def differing(tx: Transaction, before: Snapshot, after: Snapshot, path: bytes = ROOT) -> Iterator[Pair]:
    """Pairs that differ between two snapshots, also of two jobs, at and below `path`, by path."""
    if path != ROOT:
        ours = [version_at(tx, snapshot.job_number, path, snapshot.number) for snapshot in (before, after)]
        if ours[0] != ours[1]:
            yield ours[0], ours[1]
    if before.job_number != after.job_number:
        old, new = (
            versions_below(tx, snapshot.job_number, path, at=snapshot.number) for snapshot in (before, after)
        )
        yield from _merged(old, new)
        return
    first, last = sorted((before.number, after.number))
    between = Between(before.job_number, first, last, path)
    for pair in changed(tx, between, much=is_much(tx, between)):
        yield pair if before.number <= after.number else pair[::-1]


def _merged(old: Iterator[Version], new: Iterator[Version]) -> Iterator[Pair]:
    left, right = next(old, None), next(new, None)
    while left is not None or right is not None:
        if right is None or (
            left is not None and (left.directory, left.name) < (right.directory, right.name)
        ):
            yield left, None
            left = next(old, None)
        elif left is None or (left.directory, left.name) > (right.directory, right.name):
            yield None, right
            right = next(new, None)
        else:
            yield left, right
            left, right = next(old, None), next(new, None)
