"""Queries for entries as versions: all of them, those of a path or a directory, and suggestions for a path.

Each is one query that streams in the order of paths, by the indexes on directories and on their entries: no
row is sorted or held. A page is such a stream with a limit, after the last name that was shown.
"""

from __future__ import annotations

import difflib
import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from backup.errors import UsageError
from backup.inventory.content.entries import ROOT, VERSION
from backup.inventory.content.snapshots import Snapshot, TagSets, list_snapshots
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import raw_rows, row_of, stream
from backup.model import Extra

_MOST_NAMES = 20_000


class NamePlace(NamedTuple):
    """A name in a directory of a job (by number), as the stream of all versions has them in order."""

    job: int
    directory: bytes
    name: bytes


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


COLUMNS = ", ".join(["d.path", *(f"e.{column}" for column in Version._fields[1:])])
IN_SNAPSHOT = "e.added_in <= ? AND (e.removed_in IS NULL OR e.removed_in > ?)"
BELOW = "(d.path = ? OR (d.path >= ? AND d.path < ?))"

_VERSIONS = f"SELECT {COLUMNS} FROM directories d JOIN entries e ON e.directory = d.number WHERE d.job = ?"
_PLACES = "FROM directories d CROSS JOIN entries e ON e.directory = d.number WHERE"
_FITS = "LIKE ? ESCAPE '\\'"
_IN_ORDER = "ORDER BY d.job, d.path, e.name"
_AFTER = "(d.job, d.path) >= (?, ?) AND NOT (d.job = ? AND d.path = ? AND e.name <= ?)"
_UNTIL = "(d.job, d.path) <= (?, ?) AND NOT (d.job = ? AND d.path = ? AND e.name > ?)"
_IN_DIRECTORY = f"{_VERSIONS} AND d.path = ? AND e.name > ? AND {IN_SNAPSHOT} ORDER BY e.name LIMIT ?"
_AT = f"{_VERSIONS} AND d.path = ? AND e.name = ? AND {IN_SNAPSHOT}"
_OF_PATH = f"{_VERSIONS} AND d.path = ? AND e.name = ? ORDER BY e.added_in DESC LIMIT ?"
_EVERYTHING = -1
"""The limit that is none."""


class Numbered(Protocol):
    """A snapshot, or a part of it."""

    @property
    def number(self) -> int:
        """Its number within the job."""


_S = TypeVar("_S", bound=Numbered)


class Series(Generic[_S]):
    """A job's snapshots by number, to find those that contain a version."""

    def __init__(self, snapshots: Iterable[_S] = ()) -> None:
        self._snapshots = sorted(snapshots, key=lambda snapshot: snapshot.number)
        self._numbers = [snapshot.number for snapshot in self._snapshots]

    @property
    def newest(self) -> _S | None:
        """The newest snapshot."""
        return self._snapshots[-1] if self._snapshots else None

    def of(self, version: Version) -> Sequence[_S]:
        """The snapshots that contain it, oldest first; none if all were forgotten."""
        return self.having(version.added_in, version.removed_in)

    def having(self, added_in: int, removed_in: int | None) -> Sequence[_S]:
        """Same as `of`, for a version that is known by the numbers of snapshots alone."""
        first = bisect_left(self._numbers, added_in)
        last = len(self._numbers) if removed_in is None else bisect_left(self._numbers, removed_in)
        return self._snapshots[first:last]

    def beside(self, number: int) -> tuple[_S | None, _S | None]:
        """The next older and the next newer snapshot."""
        older, newer = self.having(0, number), self.having(number + 1, None)
        return older[-1] if older else None, newer[0] if newer else None


def series_by_job(tx: Transaction, tags: TagSets = ()) -> dict[int, Series[Snapshot]]:
    """The snapshots that pass the filter `tags`, of each job that has any, by the job's number."""
    found: dict[int, list[Snapshot]] = {}
    for snapshot in list_snapshots(tx, tags=tags):
        found.setdefault(snapshot.job_number, []).append(snapshot)
    return {job: Series(of_job) for job, of_job in found.items()}


def versions_below(
    tx: Transaction, job: int, path: bytes = ROOT, *, at: int | None = None
) -> Iterator[Version]:
    """Every version of every entry below `path`, by directory, name and age; `at`: as of that snapshot."""
    sql, values = f"{_VERSIONS} AND {BELOW}", (job, *bounds(path))
    if at is not None:
        sql, values = f"{sql} AND {IN_SNAPSHOT}", (*values, at, at)
    return stream(tx, f"{sql} ORDER BY d.path, e.name, e.added_in", values, Version)


def versions_called(
    tx: Transaction,
    *,
    job: int | None = None,
    names: str | None = None,
    folders: str | None = None,
    at: int | None = None,
    after: NamePlace | None = None,
    until: NamePlace | None = None,
) -> Iterator[tuple[int, Version]]:
    """Versions with their jobs' numbers, by job, directory, name and age.

    Only those of that job, and as of that snapshot; with names, in directories whose paths fit LIKE patterns
    (with a backslash as escape); after a name, and up to one. Names are looked at in the index: no row is
    read but of those that fit.
    """
    given: dict[str, tuple[Any, ...] | None] = {
        "d.job = ?": None if job is None else (job,),
        f"CAST(d.path AS TEXT) {_FITS}": None if folders is None else (folders,),
        f"CAST(e.name AS TEXT) {_FITS}": None if names is None else (names,),
        IN_SNAPSHOT: None if at is None else (at, at),
        _AFTER: after and (*after[:2], *after),
        _UNTIL: until and (*until[:2], *until),
    }
    conditions = {condition: values for condition, values in given.items() if values is not None}
    where = " AND ".join(conditions) or "1"
    sql = f"SELECT {COLUMNS}, d.job {_PLACES} {where} {_IN_ORDER}, e.added_in"
    for row in raw_rows(tx, sql, tuple(chain(*conditions.values()))):
        yield row[-1], Version._make(row[:-1])


def place_after(tx: Transaction, after: NamePlace, count: int, *, job: int | None) -> NamePlace | None:
    """The name of the version that comes so many versions after a name; None if there are no more."""
    of_job, values = ("", ()) if job is None else (" AND d.job = ?", (job,))
    sql = f"SELECT d.job, d.path, e.name {_PLACES} {_AFTER}{of_job} {_IN_ORDER} LIMIT 1 OFFSET ?"
    row = row_of(tx, sql, (*after[:2], *after, *values, count))
    return None if row is None else NamePlace._make(row)


def versions_of(tx: Transaction, job: int, path: bytes, *, limit: int = _EVERYTHING) -> list[Version]:
    """The versions of the entry with that absolute path, newest first."""
    return list(stream(tx, _OF_PATH, (job, *_parts(path), limit), Version))


def version_at(tx: Transaction, job: int, path: bytes, snapshot: int) -> Version | None:
    """The version of the entry at an absolute path that a snapshot has; None if it does not have the path."""
    return next(stream(tx, _AT, (job, *_parts(path), snapshot, snapshot), Version), None)


def versions_in(
    tx: Transaction, job: int, path: bytes, snapshot: int, *, after: bytes = b"", limit: int = _EVERYTHING
) -> Iterator[Version]:
    """The entries of a directory in a snapshot whose names come after `after`, by name."""
    return stream(tx, _IN_DIRECTORY, (job, path, after, snapshot, snapshot, limit), Version)


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
    names = versions_in(tx, snapshot.job_number, known, snapshot.number)
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
        if version_at(tx, snapshot.job_number, parent, snapshot.number) is not None:
            return parent, b"/".join(steps[count:])
    return ROOT, b"/".join(steps)


def bounds(path: bytes) -> tuple[bytes, ...]:
    """The values for the parameters of `BELOW`."""
    stem = path.rstrip(b"/")
    return path, stem + b"/", stem + b"0"


def _parts(path: bytes) -> tuple[bytes, bytes]:
    """The directory of an absolute path, and its name in it."""
    parent, _, name = path.rstrip(b"/").rpartition(b"/")
    return parent or ROOT, name


# What copies in other vaults say.


def entries_since(tx: Transaction, job: int, number: int) -> Iterator[tuple[Any, ...]]:
    """Every version of an entry of a job that began after a snapshot: the fields of `EntryRow`."""
    sql = f"{VERSION} WHERE d.job = ? AND e.added_in > ? ORDER BY d.number, e.name, e.added_in"
    return raw_rows(tx, sql, (job, number))


def ended_since(tx: Transaction, job: int, number: int, until: int) -> Iterator[tuple[int, int]]:
    """Versions of entries that a snapshot had and that ended after it, by end: number and end."""
    sql = """SELECT e.number, e.removed_in
             FROM entries e JOIN directories d ON d.number = e.directory
             WHERE d.job = ? AND e.added_in <= ? AND e.removed_in > ? AND e.removed_in <= ?
             ORDER BY e.removed_in, e.number"""
    return raw_rows(tx, sql, (job, number, number, until))
