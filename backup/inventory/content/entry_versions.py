"""Queries for entries over several snapshots: every version, differences, and suggestions for a path.

Each is one query that streams in the order of paths, by the indexes on directories and on their entries: no
row is sorted or held.
"""

from __future__ import annotations

import difflib
import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from backup.errors import UsageError
from backup.inventory.content import entries
from backup.inventory.content.entries import ROOT
from backup.inventory.content.snapshots import Snapshot, TagSets, list_snapshots
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import raw_rows, stream
from backup.model import Extra

Takes = Callable[[bytes, bytes], object]

_MOST_NAMES = 20_000


class Version(NamedTuple):
    """One version of an entry, with its directory's path and without its chunks."""

    directory: bytes
    number: int
    name: bytes
    kind: int
    mode: int
    owner: int
    mtime_ns: int
    size: int
    extra: bytes | None
    content_id: bytes | None
    added_in: int
    removed_in: int | None

    @property
    def path(self) -> bytes:
        """The absolute path."""
        return self.directory.rstrip(b"/") + b"/" + self.name


_COLUMNS = ", ".join(["d.path", *(f"e.{column}" for column in Version._fields[1:])])


class Series:
    """A job's snapshots by number, to find those that contain a version."""

    def __init__(self, snapshots: Sequence[Snapshot]) -> None:
        self._snapshots = sorted(snapshots, key=lambda snapshot: snapshot.number)
        self._numbers = [snapshot.number for snapshot in self._snapshots]

    @property
    def newest(self) -> Snapshot | None:
        """The newest snapshot."""
        return self._snapshots[-1] if self._snapshots else None

    def of(self, version: Version) -> Sequence[Snapshot]:
        """The snapshots that contain it, oldest first; none if all were forgotten."""
        first = bisect_left(self._numbers, version.added_in)
        if version.removed_in is None:
            return self._snapshots[first:]
        return self._snapshots[first : bisect_left(self._numbers, version.removed_in)]


def series_by_job(tx: Transaction, tags: TagSets = ()) -> dict[int, Series]:
    """The snapshots that pass the filter `tags`, of each job that has any, by the job's number."""
    found: dict[int, list[Snapshot]] = {}
    for snapshot in list_snapshots(tx, tags=tags):
        found.setdefault(snapshot.job_number, []).append(snapshot)
    return {job: Series(of_job) for job, of_job in found.items()}


def versions_below(
    tx: Transaction, job: int, path: bytes = ROOT, *, at: int | None = None, takes: Takes | None = None
) -> Iterator[Version]:
    """Every version of every entry below `path`, by directory, name and age; `at`: as of that snapshot.

    `takes` is called with each row's directory and name, and decides whether the row is returned.
    """
    sql = f"""SELECT {_COLUMNS} FROM directories d JOIN entries e ON e.directory = d.number
              WHERE d.job = ? AND {_below(path)}"""
    values: tuple[object, ...] = (job, *_range(path))
    if at is not None:
        sql += " AND e.added_in <= ? AND (e.removed_in IS NULL OR e.removed_in > ?)"
        values = (*values, at, at)
    rows = raw_rows(tx, f"{sql} ORDER BY d.path, e.name, e.added_in", values)
    return map(Version._make, rows if takes is None else (row for row in rows if takes(row[0], row[2])))


def versions_of(tx: Transaction, job: int, path: bytes) -> list[Version]:
    """Every version of the entry with that absolute path, oldest first."""
    parent, _, name = path.rstrip(b"/").rpartition(b"/")
    sql = f"""SELECT {_COLUMNS} FROM directories d JOIN entries e ON e.directory = d.number
              WHERE d.job = ? AND d.path = ? AND e.name = ? ORDER BY e.added_in"""
    return list(stream(tx, sql, (job, parent or ROOT, name), Version))


def differing(
    tx: Transaction, before: Snapshot, after: Snapshot, path: bytes = ROOT
) -> Iterator[tuple[Version | None, Version | None]]:
    """Pairs of versions that differ between two snapshots at and below `path`, in the order of paths."""
    if path != ROOT:
        ours = (_version_at(tx, before, path), _version_at(tx, after, path))
        if ours[0] != ours[1]:
            yield ours
    if before.job_number == after.job_number:
        yield from _changed_between(tx, before, after, path)
        return
    old = versions_below(tx, before.job_number, path, at=before.number)
    new = versions_below(tx, after.job_number, path, at=after.number)
    yield from _merged(old, new)


def _version_at(tx: Transaction, snapshot: Snapshot, path: bytes) -> Version | None:
    for version in versions_of(tx, snapshot.job_number, path):
        if version.added_in <= snapshot.number and (
            version.removed_in is None or version.removed_in > snapshot.number
        ):
            return version
    return None


def _changed_between(
    tx: Transaction, before: Snapshot, after: Snapshot, path: bytes
) -> Iterator[tuple[Version | None, Version | None]]:
    """The versions of one job that are in only one of the snapshots; the database filters."""
    first, last = sorted((before.number, after.number))
    sql = f"""SELECT {_COLUMNS} FROM directories d JOIN entries e ON e.directory = d.number
              WHERE d.job = ? AND {_below(path)} AND (
                (e.added_in <= ? AND e.removed_in > ? AND e.removed_in <= ?) OR
                (e.added_in > ? AND e.added_in <= ?
                 AND (e.removed_in IS NULL OR e.removed_in > ?)))
              ORDER BY d.path, e.name, e.added_in"""
    values = (before.job_number, *_range(path), first, first, last, first, last, last)
    held: Version | None = None
    for version in stream(tx, sql, values, Version):
        if held is not None and (held.directory, held.name) == (version.directory, version.name):
            yield _turned((held, version), backwards=before.number > after.number)
            held = None
            continue
        if held is not None:
            yield _alone(held, first, before.number > after.number)
        held = version
    if held is not None:
        yield _alone(held, first, before.number > after.number)


def _alone(version: Version, first: int, backwards: bool) -> tuple[Version | None, Version | None]:
    return _turned((version, None) if version.added_in <= first else (None, version), backwards=backwards)


def _turned(
    pair: tuple[Version | None, Version | None], *, backwards: bool
) -> tuple[Version | None, Version | None]:
    return (pair[1], pair[0]) if backwards else pair


def _merged(
    old: Iterator[Version], new: Iterator[Version]
) -> Iterator[tuple[Version | None, Version | None]]:
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


def changes(before: Version, after: Version) -> list[str]:
    """The differences of two versions: kind, content, mode, owner, times, attributes."""
    from backup.format.catalog import decode_extra  # what only lists names needs no format

    if before.kind != after.kind:
        return ["kind"]
    old, new = decode_extra(before.extra) or Extra(), decode_extra(after.extra) or Extra()
    found = {
        "content": (before.content_id, before.size, old.target, old.device)
        != (after.content_id, after.size, new.target, new.device),
        "mode": before.mode != after.mode,
        "owner": before.owner != after.owner,
        "times": before.mtime_ns != after.mtime_ns,
        "attributes": (old.xattrs, old.flags, old.acl_names) != (new.xattrs, new.flags, new.acl_names),
    }
    return [what for what, differs in found.items() if differs]


def no_such_path(tx: Transaction, snapshot: Snapshot, path: bytes) -> UsageError:
    """The error for a path that a snapshot does not have, with the nearest that it has."""
    known, rest = _deepest(tx, snapshot, path)
    names = entries.entries_in(tx, snapshot.job_number, known, snapshot.number)
    wanted = os.fsdecode(rest.partition(b"/")[0])
    near = difflib.get_close_matches(
        wanted, (os.fsdecode(row.name) for row in islice(names, _MOST_NAMES)), n=3
    )
    stem = os.fsdecode(known).rstrip("/")
    meant = ", ".join(f"{stem}/{name}" for name in near)
    shown = shown_words(stem or "/")
    return UsageError(
        f"snapshot {snapshot.id[:8]} has no {shown_words(os.fsdecode(path))}",
        advice=f"did you mean {shown_words(meant)}?"
        if near
        else f"`nightvault ls {snapshot.id[:8]}:{shown}` shows what it has there",
    )


def shown_words(text: str) -> str:
    """A path for a message: non-UTF-8 bytes and control characters are escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode()
        for letter in text
    )


def _deepest(tx: Transaction, snapshot: Snapshot, path: bytes) -> tuple[bytes, bytes]:
    """The deepest directory of the path that the snapshot has, and the rest of the path."""
    steps = path.strip(b"/").split(b"/")
    for count in range(len(steps) - 1, 0, -1):
        parent = b"/" + b"/".join(steps[:count])
        row = entries.entry_at(tx, snapshot.job_number, parent, snapshot.number)
        if row is not None:
            return parent, b"/".join(steps[count:])
    return ROOT, b"/".join(steps)


def _below(path: bytes) -> str:
    if path == ROOT:
        return "d.path >= ?"
    return "(d.path = ? OR (d.path >= ? AND d.path < ?))"


def _range(path: bytes) -> tuple[bytes, ...]:
    stem = path.rstrip(b"/")
    return (ROOT,) if path == ROOT else (path, stem + b"/", stem + b"0")
