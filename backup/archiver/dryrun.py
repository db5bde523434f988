"""A dry run: the changes that a backup would make, by scan and comparison alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct, field

from backup.archiver.compare import differing, is_to_read
from backup.archiver.links import Links
from backup.archiver.unmounted import Roots, is_missed, is_unmounted, lost_mounts, roots_now, with_volumes
from backup.catalogs.context import BackupJob
from backup.catalogs.report import Tally
from backup.inventory.content import entries
from backup.inventory.content.entries import LiveEntry
from backup.inventory.content.snapshots import list_snapshots
from backup.inventory.records import runs
from backup.inventory.records.runs import JobRow
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.model import Owner
from backup.source.scan import LeaveOut, scan
from backup.source.scanned import ScannedDirectory, ScannedEntry
from backup.source.streams import TOP


class ChangeKind(StrEnum):
    """The kind of a change; part of the JSON interface."""

    NEW = "new"
    CHANGED = "changed"
    REMOVED = "removed"


class Change(Struct, frozen=True):
    """An entry that a backup would add, change or end; `size` is its content in bytes, 0 but for files.

    A stream's size is not known before: 0. A removed directory stands for all that was in it.
    """

    what: ChangeKind
    path: bytes
    size: int


def changes(
    job: BackupJob, inventory: Inventory, tally: Tally, *, left_out: LeaveOut | None = None
) -> Iterator[Change]:
    """Yield every change, in the order of paths; the tally counts all entries. Writes nothing.

    `left_out` is called with each excluded entry, and why, before the changes of its directory.
    """
    with inventory.reading() as tx:
        known = runs.find_job(tx, job.name)
        before = list_snapshots(tx, job=job.name)
        job = with_volumes(job, before)
        roots = roots_now(job, before)
        look = _StateBefore(tx, job, known, entries.owners_by_number(tx), tally, roots)
        yield from _streams(tx, job, known)
        for directory in scan(
            () if job.only_streams else job.sources,
            filters=job.filters,
            overrides=job.overrides,
            places=job.places,
            report=tally.problems.append,
            left_out=left_out,
        ):
            if not job.only_streams:
                yield from look.directory(directory)


class _StateBefore(Struct, frozen=True):
    """The state that directories are compared with."""

    tx: Transaction
    job: BackupJob
    known: JobRow | None
    owners: Mapping[int, Owner]
    tally: Tally
    roots: Roots
    links: Links = field(default_factory=Links)
    kept: set[bytes] = field(default_factory=lambda: {TOP})

    def directory(self, directory: ScannedDirectory) -> Iterator[Change]:
        """Yield the changes of a directory, or of a piece of one."""
        if any(directory.path == kept or directory.path.startswith(kept + b"/") for kept in self.kept):
            return
        self.links.enter(directory)
        prefix = directory.path.rstrip(b"/") + b"/"
        live = _live(self.tx, self.known, directory.path, directory.after, directory.until)
        for scanned, before in differing(directory, live, self.tally, at_a_glance=not self.job.reread):
            if scanned is not None:
                self.tally.see(scanned.stat)
                yield from self._entry(directory, prefix + scanned.name, scanned, before)
            elif before is not None and prefix + before.name != TOP:
                yield from self._gone(prefix + before.name, before)

    def _entry(
        self, directory: ScannedDirectory, path: bytes, scanned: ScannedEntry, before: LiveEntry | None
    ) -> Iterator[Change]:
        if before is None or path == TOP:
            yield Change(ChangeKind.NEW, path, _content(scanned.stat))
        elif is_unmounted(before, scanned, directory) and self._is_missed(path):
            self.kept.add(path)
        elif self._is_to_read(before, scanned):
            yield Change(ChangeKind.CHANGED, path, _content(scanned.stat))

    def _is_to_read(self, before: LiveEntry, scanned: ScannedEntry) -> bool:
        changed = is_to_read(self.job, before, scanned, self.owners)
        return changed or not self.links.are_known(before, scanned.stat)

    def _is_missed(self, path: bytes) -> bool:
        return self.known is not None and is_missed(self.tx, self.job, self.known.number, path)

    def _gone(self, path: bytes, gone: LiveEntry) -> Iterator[Change]:
        if self.roots.keep(path):
            return
        if self.known is None or not lost_mounts(self.tx, self.job, self.known.number, path, gone):
            yield Change(ChangeKind.REMOVED, path, gone.size)


def _content(found: os.stat_result) -> int:
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _streams(tx: Transaction, job: BackupJob, known: JobRow | None) -> Iterator[Change]:
    for path in job.stream_paths:
        above, _, name = path.rpartition(b"/")
        is_known = any(live[1] == name for live in _live(tx, known, above))
        yield Change(ChangeKind.CHANGED if is_known else ChangeKind.NEW, path, 0)


def _live(
    tx: Transaction,
    known: JobRow | None,
    path: bytes,
    after: bytes | None = None,
    until: bytes | None = None,
) -> Iterator[tuple[Any, ...]]:
    number = None if known is None else entries.find_directory(tx, known.number, path)
    if number is None:
        return iter(())
    return entries.live_rows(lambda: tx, number, after=after, until=until)
