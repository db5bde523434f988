"""Compares scanned entries with the newest snapshot without reading content."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from operator import attrgetter, itemgetter
from typing import Any, Final

from backup.catalogs.context import BackupJob
from backup.catalogs.report import Tally
from backup.inventory.content.entries import LiveEntry
from backup.model import EntryKind, Owner
from backup.source.metadata import ctime_of, inode_of, kind_of, mtime_of
from backup.source.roots import is_at_or_below, resolved, roots_of
from backup.source.scanned import Look, ScannedDirectory, ScannedEntry
from backup.source.small import is_plain

# Positions in the fields of `LiveEntry`: unchanged files are compared as columns of plain tuples.
_NAME, _KIND, _EXTRA, _LOOK = 1, 2, 4, slice(8, None)
_FEW: Final = 8  # one of so many: from there on all rows are fetched at once
_SIZE: Final = 2  # in a `Look`
_name_of, _size_of = itemgetter(0), itemgetter(_SIZE)
_look = attrgetter("st_mode", "st_size", "st_mtime_ns", "st_ctime_ns", "st_ino")
_links = attrgetter("st_nlink")
_FILE: Final = int(EntryKind.FILE)
_A_DIRECTORY = os.stat_result((stat.S_IFDIR, *[0] * 9))
_A_FILE = os.stat_result((stat.S_IFREG, *[0] * 9))


def differing_at_a_glance(
    looks: Sequence[Look], known: Callable[[int], Sequence[tuple[Any, ...]]], tally: Tally
) -> list[tuple[bytes, int | None]] | None:
    """Return name and index in `looks` of each entry that may have changed, in the order of names.

    The index is None if the entry is gone. Returns None if there are more than a few: then the whole
    directory must be compared by `differing`. `known` returns at most so many rows (`looks_in`), in
    the order of names. Unchanged files are counted here, without an object for each.
    """
    few = len(looks) // _FEW
    if list(map(len, looks)).count(1) > few:
        return None  # they look like nothing in the inventory: not worth a statement
    most = len(looks) + few + 1
    rows = known(most)
    if rows == looks:
        tally.see_files(len(looks), sum(map(_size_of, looks)))
        return []
    if len(rows) == most:
        return None
    before = dict(zip(map(_name_of, rows), rows, strict=True))
    found: list[tuple[bytes, int | None]] = [
        (look[0], index) for index, look in enumerate(looks) if before.get(look[0]) != look
    ]
    gone = before.keys() - set(map(_name_of, looks))
    if len(found) + len(gone) > few:
        return None
    size = sum(look[_SIZE] for look in looks if len(look) > 1)
    size -= sum(looks[at][_SIZE] for _, at in found if at is not None and len(looks[at]) > 1)
    tally.see_files(len(looks) - len(found), size)
    return sorted([*found, *((name, None) for name in gone)], key=_name_of)


def differing(
    directory: ScannedDirectory, live: Iterator[tuple[Any, ...]], tally: Tally, *, at_a_glance: bool
) -> Iterator[tuple[ScannedEntry | None, LiveEntry | None]]:
    """Yield pairs of a scanned entry and its live row, by name, for a directory or a piece of it.

    `live` are rows (`LiveEntry`) of the same names, in order. A pair with one side is a new or a removed
    entry; an unreadable entry is in none. A file that is the same `at_a_glance` (nothing special about it,
    and all that `is_unchanged` asks for equal) is left out, and only counted.
    """
    found = directory.entries
    rows = list(islice(live, len(found)))
    if at_a_glance and list(map(itemgetter(_NAME), rows)) == [entry.name for entry in found]:
        yield from _of_same_names(found, rows, tally)
        found, rows = (), []
    yield from _merged(directory, found, chain(rows, live), tally, at_a_glance=at_a_glance)


def _of_same_names(
    found: Sequence[ScannedEntry], rows: Sequence[tuple[Any, ...]], tally: Tally
) -> Iterator[tuple[ScannedEntry, LiveEntry]]:
    """The pairs that differ at a glance, where scan and rows have the same names, as they mostly do."""
    kind_at, extra_at, look_at, file = _KIND, _EXTRA, _LOOK, _FILE
    looks = [entry.stat for entry in found]
    total = sum(map(attrgetter("st_size"), looks))
    differ = 0
    columns = zip(found, rows, map(_look, looks), map(_links, looks), strict=True)
    for scanned, row, look, links in columns:
        if row[look_at] != look or row[extra_at] is not None or row[kind_at] != file or links != 1:
            differ += 1
            total -= scanned.stat.st_size
            yield scanned, LiveEntry._make(row)
    tally.see_files(len(found) - differ, total)


def _merged(
    directory: ScannedDirectory,
    entries: Sequence[ScannedEntry],
    live: Iterator[tuple[Any, ...]],
    tally: Tally,
    *,
    at_a_glance: bool,
) -> Iterator[tuple[ScannedEntry | None, LiveEntry | None]]:
    """The pairs of `differing` by merging both sides, name by name."""
    name_at, extra_at, look_at = _NAME, _EXTRA, _LOOK
    files = size = 0
    row = next(live, None)
    for scanned in entries:
        name, found, _ = scanned
        while row is not None and row[name_at] < name:
            if row[name_at] not in directory.unread:
                yield None, LiveEntry._make(row)
            row = next(live, None)
        if row is None or row[name_at] != name:
            yield scanned, None
            continue
        if at_a_glance and row[look_at] == _look(found) and row[extra_at] is None and is_plain(found):
            files += 1
            size += found.st_size
        else:
            yield scanned, LiveEntry._make(row)
        row = next(live, None)
    while row is not None:
        if row[name_at] not in directory.unread:
            yield None, LiveEntry._make(row)
        row = next(live, None)
    tally.see_files(files, size)


def is_unchanged(live: LiveEntry, scanned: ScannedEntry, owners: Mapping[int, Owner]) -> bool:
    """Whether size, times and inode are unchanged, which is enough where nobody can set ctime.

    (FAT and sshfs show mtime as ctime: there a change that keeps the size and sets mtime back is not
    noticed.)

    Of a directory above a source only kind, mode and owner are compared, as its times do not concern the job.
    `owners` are the inventory's, by number.
    """
    found = scanned.stat
    kind = kind_of(found.st_mode)
    if live.kind != kind or live.mode != stat.S_IMODE(found.st_mode):
        return False
    if scanned.leads_on:
        owner = owners[live.owner]
        return (owner.uid, owner.gid) == (found.st_uid, found.st_gid)
    ctime_ns, mtime_ns, inode = found.st_ctime_ns, found.st_mtime_ns, found.st_ino
    return (  # the value itself, or the nearest that a database integer holds
        (live.ctime_ns == ctime_ns or live.ctime_ns == ctime_of(found))
        and (live.inode == inode or live.inode == inode_of(found))
        and (live.mtime_ns == mtime_ns or live.mtime_ns == mtime_of(found))
        and (kind is not EntryKind.FILE or live.size == found.st_size)
    )


def is_to_read(job: BackupJob, live: LiveEntry, scanned: ScannedEntry, owners: Mapping[int, Owner]) -> bool:
    """Whether an entry has changed, or is a file of a job that rereads all files."""
    if job.reread and stat.S_ISREG(scanned.stat.st_mode):
        return True
    return not is_unchanged(live, scanned, owners)


def is_newly_mounted(live: LiveEntry, scanned: ScannedEntry, directory: ScannedDirectory) -> bool:
    """Whether another file system is mounted on this entry of `directory`, and none was before."""
    found = scanned.stat
    return not live.is_mount and found.st_dev != directory.device and stat.S_ISDIR(found.st_mode)


def is_left_out(job: BackupJob, path: bytes) -> bool:
    """Whether the job now excludes a directory or one above it, or none of its sources contains it any more.

    As in a scan, the filters of the innermost source that contains it decide, and only below that source: a
    source itself is never excluded.
    """
    roots = roots_of(job.sources, job.filters, job.overrides)
    top = max((root for root in roots if is_at_or_below(path, root)), key=len, default=None)
    if top is None:
        return True
    steps, first = path.split(b"/"), len(top.rstrip(b"/").split(b"/"))
    return any(
        roots[top].leaving_out(b"/".join(steps[:end]) or b"/", steps[end], _A_DIRECTORY) is not None
        for end in range(first, len(steps))
    )


def leads_to_source(job: BackupJob, path: bytes) -> bool:
    """Whether a directory lies above a source: no pattern excludes it."""
    return any(resolved(source).startswith(path.rstrip(b"/") + b"/") for source in job.sources)


def is_excluded(job: BackupJob, path: bytes) -> bool:
    """Whether a pattern of the job excludes a stream, which lies in no source, or a directory above it."""
    above, _, name = path.rpartition(b"/")
    steps = above.split(b"/")
    ways = ((b"/".join(steps[:end]) or b"/", steps[end], _A_DIRECTORY) for end in range(1, len(steps)))
    return any(
        job.filters.leaving_out(directory, step, found) is not None
        for directory, step, found in (*ways, (above, name, _A_FILE))
    )
