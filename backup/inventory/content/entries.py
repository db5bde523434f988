"""Queries for entries: versions as intervals of snapshots, and a run's staged changes until its commit.

Raw SQL where there is one row for each file, and the driver's own cursor where there is one query for each
directory (`driver`).
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from backup.inventory.content.numbers import reserve
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import (
    changed,
    insert_columns,
    insert_row,
    insert_tuples,
    number_of,
    pages,
    raw_rows,
    row_of,
    stream,
    sum_of,
)
from backup.model import EntryKind, Hint, Owner

ROOT = b"/"
ROWS_A_FETCH = 5_000
_ROWS_A_WRITE = 20_000


class LiveEntry(NamedTuple):
    """The newest version of an entry, with its hints (0 where they were lost).

    The last five fields are compared as one tuple with the status of a file on the disk
    (`compare.differing`).
    """

    number: int
    name: bytes
    kind: int
    owner: int
    extra: bytes | None
    content_id: bytes | None
    chunks: bytes | None
    is_mount: int
    st_mode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @property
    def mode(self) -> int:
        """The permission bits."""
        return self.st_mode & 0o7777


class StagedEntry(NamedTuple):
    """A new version of an entry before its commit: the columns of `staged_entries` without the run."""

    number: int
    directory: int
    name: bytes
    kind: int
    mode: int
    owner: int
    mtime_ns: int
    size: int
    extra: bytes | None
    content_id: bytes | None
    chunks: bytes | None
    inode: int
    ctime_ns: int
    is_mount: int


class EntryRow(NamedTuple):
    """A version of an entry as a snapshot holds it."""

    number: int
    directory: int
    name: bytes
    kind: int
    mode: int
    owner: int
    mtime_ns: int
    size: int
    extra: bytes | None
    content_id: bytes | None
    chunks: bytes | None
    added_in: int
    removed_in: int | None


class ContentRow(NamedTuple):
    """A version of a file that has content, with the path that leads to it."""

    number: int
    job: int
    directory: bytes
    name: bytes
    size: int
    extra: bytes | None
    content_id: bytes | None
    chunks: bytes
    added_in: int
    removed_in: int | None

    @property
    def path(self) -> bytes:
        """The absolute path."""
        return self.directory.rstrip(b"/") + b"/" + self.name


_STAGED = StagedEntry._fields
_OFTEN_ALIKE = ("owner", "extra", "is_mount")  # in ten thousand entries; all or none: few statements to keep
_SHARED = EntryRow._fields[:-2]  # without added_in and removed_in
_COLUMNS = ", ".join(_SHARED)
_ENTRY = ", ".join(f"e.{column}" for column in _SHARED)
VERSION = (
    f"SELECT {_ENTRY}, e.added_in, e.removed_in FROM entries e JOIN directories d ON d.number = e.directory"
)

_OF_JOB = "WHERE +d.job = ?"
"""A job's rows by numbers of directories: those of all jobs are walked (`+`), so that none need be sorted."""

_NOT_ALONE = """AND (e.removed_in IS NULL OR EXISTS (
    SELECT 1 FROM snapshots s WHERE s.job = d.job AND s.number >= e.added_in AND s.number < e.removed_in
    AND NOT EXISTS (SELECT 1 FROM copied_snapshots k
                    WHERE k.job = s.job AND k.number = s.number AND k.is_alone)))"""
_TYPES = {
    EntryKind.FILE: stat.S_IFREG,
    EntryKind.DIRECTORY: stat.S_IFDIR,
    EntryKind.SYMLINK: stat.S_IFLNK,
    EntryKind.FIFO: stat.S_IFIFO,
    EntryKind.CHARACTER_DEVICE: stat.S_IFCHR,
    EntryKind.BLOCK_DEVICE: stat.S_IFBLK,
}
_TYPE = " ".join(f"WHEN {int(kind)} THEN {mode}" for kind, mode in _TYPES.items())
_LIVE = f"""
SELECT e.number, e.name, e.kind, e.owner, e.extra, e.content_id, e.chunks, coalesce(h.is_mount, 0),
       e.mode + CASE e.kind {_TYPE} END, e.size, e.mtime_ns, coalesce(h.ctime_ns, 0), coalesce(h.inode, 0)
FROM entries e LEFT JOIN hints h ON h.entry = e.number
WHERE e.directory = ? AND e.removed_in IS NULL
"""
_LIVE_AFTER = " AND e.name > ?"
_LIVE_UNTIL = " AND e.name <= ?"
_LIVE_NAMED = " AND e.name = ?"
_LIVE_PAGE = " ORDER BY e.name LIMIT ?"


def find_directory(tx: Transaction, job: int, path: bytes) -> int | None:
    """The number of a directory of the job, if any snapshot ever had it."""
    row = row_of(tx, "SELECT number FROM directories WHERE job = ? AND path = ?", (job, path))
    return int(row[0]) if row else None


def add_directories(tx: Transaction, job: int, paths: Mapping[bytes, int]) -> None:
    """Insert directories with reserved numbers; one that no snapshot uses does no harm."""
    rows = [(number, job, path) for path, number in paths.items()]
    insert_tuples(tx, "directories", ("number", "job", "path"), rows)


def load_owners(tx: Transaction) -> dict[Owner, int]:
    """The numbers of all owners ever seen."""
    rows = raw_rows(tx, 'SELECT number, uid, gid, user, "group" FROM owners', ())
    return {Owner(*owner): number for number, *owner in rows}


def add_owner(tx: Transaction, owner: Owner) -> int:
    """Insert an owner; returns its number."""
    number = reserve(tx, "owners", 1)
    insert_row(tx, "owners", number=number, **owner._asdict())
    return number


def live_rows(
    look: Callable[[], Transaction], directory: int, *, after: bytes | None = None, until: bytes | None = None
) -> Iterator[tuple[Any, ...]]:
    """The newest version of every entry in a directory, by name; only names after `after`, up to `until`.

    Rows have the fields of `LiveEntry`. One page is fetched at a time, in the transaction that `look` returns
    for it.
    """
    while True:
        page = _live_page(look(), directory, after, until)
        yield from page
        if len(page) < ROWS_A_FETCH:
            return
        after = page[-1][1]


def _live_page(
    tx: Transaction, directory: int, after: bytes | None, until: bytes | None
) -> list[tuple[Any, ...]]:
    sql = _LIVE
    values: list[Any] = [directory]
    for condition, name in ((_LIVE_AFTER, after), (_LIVE_UNTIL, until)):
        if name is not None:
            sql += condition
            values.append(name)
    return list(raw_rows(tx, sql + _LIVE_PAGE, (*values, ROWS_A_FETCH)))


def live_named(tx: Transaction, directory: int, name: bytes) -> LiveEntry | None:
    """The newest version of one entry of a directory; None if it has none."""
    row = row_of(tx, _LIVE + _LIVE_NAMED, (directory, name))
    return None if row is None else LiveEntry._make(row)


def has_live(tx: Transaction, directory: int) -> bool:
    """Whether the newest version of the directory has any entry."""
    sql = "SELECT 1 FROM entries WHERE directory = ? AND removed_in IS NULL LIMIT 1"
    return row_of(tx, sql, (directory,)) is not None


def count_live(tx: Transaction, job: int) -> tuple[int, int]:
    """Number of files (all but directories) in the job's newest snapshot, and their bytes."""
    sql = f"""
    SELECT count(*), coalesce({sum_of("e.size")}, 0)
    FROM entries e JOIN directories d ON d.number = e.directory
    WHERE d.job = ? AND e.removed_in IS NULL AND e.kind != ?
    """
    (row,) = raw_rows(tx, sql, (job, int(EntryKind.DIRECTORY)))
    return int(row[0]), int(row[1])


def count_names(tx: Transaction, job: int, snapshot_number: int) -> int:
    """Number of all entries but directories in a snapshot: its `files`, if the inventory is whole."""
    sql = """SELECT count(*) FROM entries e JOIN directories d ON d.number = e.directory
             WHERE d.job = ? AND e.kind != ? AND e.added_in <= ?
               AND (e.removed_in IS NULL OR e.removed_in > ?)"""
    return number_of(tx, sql, (job, int(EntryKind.DIRECTORY), snapshot_number, snapshot_number))


def count_with_staged(tx: Transaction, job: int, run: int) -> tuple[int, int]:
    """Same as `count_live`, for the snapshot that the run's staged changes will make."""
    sql = f"""
    SELECT count(*), coalesce({sum_of("size")}, 0) FROM (
      SELECT e.size FROM entries e JOIN directories d ON d.number = e.directory
      WHERE d.job = ? AND e.removed_in IS NULL AND e.kind != ?
        AND e.number NOT IN (SELECT entry FROM staged_removals WHERE run = ?)
      UNION ALL SELECT size FROM staged_entries WHERE run = ? AND kind != ?) AS all_of_them
    """
    directory = int(EntryKind.DIRECTORY)
    (row,) = raw_rows(tx, sql, (job, directory, run, run, directory))
    return int(row[0]), int(row[1])


def live_below(tx: Transaction, job: int, path: bytes) -> list[int]:
    """Numbers of all live entries in the directory `path` and below it."""
    sql = """
    SELECT e.number FROM entries e JOIN directories d ON d.number = e.directory
    WHERE d.job = ? AND e.removed_in IS NULL AND (d.path = ? OR (d.path >= ? AND d.path < ?))
    """
    stem = path.rstrip(b"/")
    return [row[0] for row in raw_rows(tx, sql, (job, path, stem + b"/", stem + b"0"))]


# Staged changes: written during the run, applied by its commit, deleted by its failure.


def stage(
    tx: Transaction,
    run: int,
    *,
    added: Sequence[Sequence[Any]] = (),
    removed: Sequence[int] = (),
    hinted: Sequence[tuple[int, Hint]] = (),
) -> None:
    """Insert new versions (columns of `StagedEntry`), ends of entries and fresh hints (by number)."""
    if added:
        own, same = dict(zip(_STAGED, added, strict=True)), {"run": run}
        if all(len(set(own[name])) == 1 for name in _OFTEN_ALIKE):
            same |= {name: own.pop(name)[0] for name in _OFTEN_ALIKE}
        insert_columns(tx, "staged_entries", list(own), list(own.values()), same=same)
    for start in range(0, len(removed), _ROWS_A_WRITE):  # a removed directory may have held a million entries
        some = removed[start : start + _ROWS_A_WRITE]
        insert_tuples(tx, "staged_removals", ("run", "entry"), [(run, number) for number in some])
    if hinted:
        rows = [(run, number, hint.inode, hint.ctime_ns, int(hint.is_mount)) for number, hint in hinted]
        insert_tuples(tx, "staged_hints", ("run", "entry", "inode", "ctime_ns", "is_mount"), rows)


def discard_staged(tx: Transaction, run: int) -> None:
    """Delete a run's staged changes."""
    others = row_of(tx, "SELECT 1 FROM staged_entries WHERE run <> ? LIMIT 1", (run,))
    if others is None:
        changed(tx, "DELETE FROM staged_entries", ())  # all at once, not row by row
    else:
        changed(tx, "DELETE FROM staged_entries WHERE run = ?", (run,))
    for table in ("staged_removals", "staged_hints"):
        changed(tx, f"DELETE FROM {table} WHERE run = ?", (run,))


def apply_staged(tx: Transaction, run: int, snapshot_number: int) -> None:
    """Make a run's staged changes true as of its snapshot."""
    close = """UPDATE entries SET removed_in = ?
               WHERE number IN (SELECT entry FROM staged_removals WHERE run = ?)"""
    add = f"""INSERT INTO entries ({_COLUMNS}, added_in)
              SELECT {_COLUMNS}, ? FROM staged_entries WHERE run = ?"""
    forget = """DELETE FROM hints WHERE entry IN (SELECT entry FROM staged_removals WHERE run = ?
                                        UNION SELECT entry FROM staged_hints WHERE run = ?)"""
    hint = "INSERT INTO hints (entry, inode, ctime_ns, is_mount) SELECT "
    hint_new = hint + "number, inode, ctime_ns, is_mount FROM staged_entries WHERE run = ?"
    hint_old = hint + "entry, inode, ctime_ns, is_mount FROM staged_hints WHERE run = ?"
    changed(tx, close, (snapshot_number, run))
    changed(tx, forget, (run, run))
    changed(tx, add, (snapshot_number, run))
    changed(tx, hint_new, (run,))
    changed(tx, hint_old, (run,))
    discard_staged(tx, run)


def staged_ends(tx: Transaction, run: int) -> list[int]:
    """Numbers of the entries that a run ends."""
    sql = "SELECT entry FROM staged_removals WHERE run = ? ORDER BY entry"
    return [row[0] for row in raw_rows(tx, sql, (run,))]


def count_staged(tx: Transaction, run: int) -> tuple[int, int]:
    """The numbers of versions that a run adds and ends."""
    added = number_of(tx, "SELECT count(*) FROM staged_entries WHERE run = ?", (run,))
    return added, number_of(tx, "SELECT count(*) FROM staged_removals WHERE run = ?", (run,))


# Queries.


def all_directories(tx: Transaction, job: int) -> Iterator[tuple[int, bytes]]:
    """Every directory of a job, by number."""
    yield from raw_rows(tx, f"SELECT number, path FROM directories d {_OF_JOB} ORDER BY number", (job,))


def all_entries(tx: Transaction, job: int, *, without_alone: bool = False) -> Iterator[tuple[Any, ...]]:
    """Every version of every entry of a job, by directory, name and age: the fields of `EntryRow`.

    `without_alone`: but for those of which only copies in other vaults are left.
    """
    which = _NOT_ALONE if without_alone else ""
    sql = f"{VERSION} {_OF_JOB} {which} ORDER BY d.number, e.name, e.added_in"
    return raw_rows(tx, sql, (job,))


def content_rows(tx: Transaction) -> Iterator[ContentRow]:
    """Every version of every file that has content, of all jobs, by number."""
    sql = """SELECT e.number, d.job, d.path, e.name, e.size, e.extra, e.content_id, e.chunks, e.added_in,
                    e.removed_in
             FROM entries e JOIN directories d ON d.number = e.directory
             WHERE e.chunks IS NOT NULL ORDER BY e.number"""
    return stream(tx, sql, (), ContentRow)


def entry_at(tx: Transaction, job: int, path: bytes, snapshot_number: int) -> EntryRow | None:
    """The entry with that absolute path in a snapshot."""
    parent, _, name = path.rstrip(b"/").rpartition(b"/")
    sql = f"""{VERSION}
              WHERE d.job = ? AND d.path = ? AND e.name = ? AND e.added_in <= ?
                AND (e.removed_in IS NULL OR e.removed_in > ?)"""
    values = (job, parent or ROOT, name, snapshot_number, snapshot_number)
    return next(stream(tx, sql, values, EntryRow), None)


def entries_below(
    tx: Transaction, job: int, path: bytes, snapshot_number: int
) -> Iterator[tuple[bytes, EntryRow]]:
    """Every entry below the directory `path` in a snapshot, with its directory's path, parents first."""
    for page in pages_below(tx, job, path, snapshot_number):
        for row in page:
            yield row[0], EntryRow._make(row[1:])


def pages_below(
    tx: Transaction, job: int, path: bytes, snapshot_number: int
) -> Iterator[Sequence[tuple[Any, ...]]]:
    """Same as `entries_below`, some thousands at a time: directory's path, then the fields of `EntryRow`."""
    sql = f"""SELECT d.path, {_ENTRY}, e.added_in, e.removed_in
              FROM directories d JOIN entries e ON e.directory = d.number
              WHERE d.job = ? AND (d.path = ? OR (d.path >= ? AND d.path < ?))
                AND e.added_in <= ? AND (e.removed_in IS NULL OR e.removed_in > ?)
              ORDER BY d.path, e.name"""
    stem = path.rstrip(b"/")
    return pages(tx, sql, (job, path, stem + b"/", stem + b"0", snapshot_number, snapshot_number))


def owners_by_number(tx: Transaction) -> dict[int, Owner]:
    """Every owner by its number."""
    return {number: owner for owner, number in load_owners(tx).items()}
