"""Reads a run's trees into the snapshot: each directory is scanned and compared, and what changed is read.

What could not be read, and what lies on disks that are not mounted, stays as the newest snapshot has it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from functools import partial

from backup.archiver.compare import differing, differing_at_a_glance, is_newly_mounted, is_to_read
from backup.archiver.contents import Contents
from backup.archiver.entry_stager import EntryStager
from backup.archiver.links import Links
from backup.archiver.read_ahead import ReadAhead
from backup.archiver.run_record import RunProgress
from backup.archiver.staged_changes import StagedChanges
from backup.archiver.unmounted import (
    COVERED,
    LINKED,
    UNMOUNTED,
    UNPLUGGED,
    became_link,
    is_missed,
    is_unmounted,
    lost_mounts,
    roots_now,
)
from backup.catalogs.context import BackupJob, OpenBackup
from backup.catalogs.hooks import Hook
from backup.catalogs.report import SourceCounts, Tally
from backup.inventory.content import snapshots
from backup.inventory.content.entries import LiveEntry
from backup.inventory.content.lost import directories_with
from backup.model import EntryKind, Problem, ProblemKind
from backup.source.roots import are_many, symlinks_among
from backup.source.scan import Report, scan
from backup.source.scanned import ScannedDirectory, ScannedEntry
from backup.source.small import LARGEST, is_plain, small_runs
from backup.source.streams import NAME as STREAMS
from backup.source.streams import TOP

MANY_FILES = 20_000
"""From so many files on, two processes are quicker than one."""


def scan_sources(
    job: BackupJob, files: int | None, report: Report, warn: Callable[[str], None]
) -> Generator[ScannedDirectory, None, None]:
    """Yield the directories of a job's sources.

    `files` is their number in the newest snapshot, None without one. `report` is called with each unreadable
    entry, `warn` with a sentence if a second process was not available.
    """
    sources, filters, overrides, places = job.sources, job.filters, job.overrides, job.places
    held = [places.get(source, source) for source in sources]
    if job.memory.workers > 1 and (are_many(held, MANY_FILES) if files is None else files >= MANY_FILES):
        from backup.source.scanner import scan_beside

        found = partial(scan_beside, sources, filters=filters, overrides=overrides, places=places)
        return found(report=report, warn=warn)
    return scan(sources, filters=filters, overrides=overrides, report=report, places=places)


class Trees:
    """The trees of one run, on its thread; `began` (ns) is a moment before the hook `before`.

    `newest` is the job's newest snapshot, None if it has none.
    """

    def __init__(
        self, at: OpenBackup, staged: StagedChanges, tally: Tally, progress: RunProgress, began: int
    ) -> None:
        self._at = at
        self._job = at.job
        self._number = at.row.number
        self._staged = staged
        self._tally = tally
        self._report = tally.problems.append
        self._progress = progress
        self._unmounted: set[bytes] = set()
        self._links = Links()
        self._staging = EntryStager(
            *(staged, self._links, self._report, at.context.stamps, began),
            may_be_frozen=bool(at.job.hooks.commands.get(Hook.BEFORE)),
        )
        with at.context.inventory.reading() as tx:
            before = snapshots.list_snapshots(tx, job=at.job.name)
            self.newest = before[-1] if before else None
            self._roots = roots_now(at.job, before)
            self._not_at_a_glance = directories_with(tx, self._number, staged.lost)

    def read(self, contents: Contents) -> None:
        """Scan all sources, compare each directory with the newest snapshot, and read what changed."""
        job, tally = self._job, self._tally
        tally.warnings += (*symlinks_among(job.sources), *self._roots.warnings)
        tally.problems += self._roots.problems
        tally.roots = self._roots.paths
        reads = ReadAhead(
            *(contents, self._staging, self._at.keys.secret, self._at.context.stamps, job.memory.ahead),
            readers=job.memory.readers,
            warn=tally.warnings.append,
        )
        known = None if self.newest is None else self.newest.files
        counts = SourceCounts(job.sources)
        with closing(reads) as ahead:
            with closing(scan_sources(job, known, self._report, tally.warnings.append)) as directories:
                for directory in directories:
                    files, size = tally.files, tally.bytes
                    self._directory(directory, ahead)
                    counts.add(directory.path, tally.files - files, tally.bytes - size)
            tally.by_source = counts.totals()
            ahead.drain()

    def _directory(self, directory: ScannedDirectory, ahead: ReadAhead) -> None:
        """Compare a directory with the inventory, and read what changed."""
        if self._unmounted and self._is_away(directory.path):
            return
        self._progress.heed_stop()
        self._links.enter(directory)
        is_root = directory.path == b"/"
        if not is_root and not self._staged.knows(directory.path):
            self._new_directory(directory, ahead)
            return
        for scanned, live in self._differing(directory):
            if scanned is None:
                if live is not None:
                    self._gone(directory.prefix + live.name, live)
            elif is_root and scanned.name == STREAMS:
                self._report(Problem(TOP, ProblemKind.SKIPPED, "its name is kept for streams"))
                self._unmounted.add(TOP)
            else:
                found = scanned.stat
                self._tally.see(found)
                if live is None and found.st_size <= LARGEST and is_plain(found):
                    ahead.read(directory, scanned, None)  # most of a first backup
                elif (
                    live is None
                    or live.is_mount
                    or is_newly_mounted(live, scanned, directory)
                    or self._is_to_read(live, scanned)
                ):
                    self._entry(directory, scanned, live, ahead)
        self._progress.tell()

    def _differing(
        self, directory: ScannedDirectory
    ) -> Iterable[tuple[ScannedEntry | None, LiveEntry | None]]:
        """The pairs of `differing`, of a directory that some snapshot had."""
        path = directory.path
        at_a_glance = not self._job.reread and path not in self._not_at_a_glance
        if at_a_glance:
            known = partial(self._staged.looks, path, directory.after, directory.until)
            found = differing_at_a_glance(directory.looks(), known, self._tally)
            if found is not None:
                return (
                    (None if at is None else directory.entries[at], self._staged.live_entry(path, name))
                    for name, at in found
                    if at is not None or name not in directory.unread
                )
        live = self._staged.live(path, after=directory.after, until=directory.until)
        return differing(directory, live, self._tally, at_a_glance=at_a_glance)

    def _new_directory(self, directory: ScannedDirectory, ahead: ReadAhead) -> None:
        """Read everything in a directory that no snapshot ever had; runs of small files at once."""
        columns = directory.columns()
        every = range(len(directory.entries))
        for are_small, run in [(False, every)] if columns is None else small_runs(columns):
            if are_small and columns is not None:
                self._tally.see_files(len(run), sum(columns.sizes[run.start : run.stop]))
                ahead.read_new(directory, columns, run)
                continue
            for scanned in map(directory.entries.__getitem__, run):
                self._tally.see(scanned.stat)
                self._entry(directory, scanned, None, ahead)
        self._progress.tell()

    def _is_away(self, path: bytes) -> bool:
        """Whether a directory lies at or below one that is kept as the newest snapshot has it."""
        return any(path == root or path.startswith(root + b"/") for root in self._unmounted)

    def _gone(self, path: bytes, gone: LiveEntry) -> None:
        """Stage the end of a name that is gone, unless it belongs to a disk that is not mounted."""
        if path == TOP or self._roots.keep(path):
            return  # the inventory has no directory of that disk, or a source leads nowhere
        lost = lost_mounts(self._staged.reading(), self._job, self._number, path, gone)
        if lost:
            for root in lost:
                self._report(Problem(root, ProblemKind.UNREADABLE, UNPLUGGED))
            return
        self._staged.remove(path, gone, is_directory=gone.kind == EntryKind.DIRECTORY)

    def _entry(
        self, directory: ScannedDirectory, scanned: ScannedEntry, live: LiveEntry | None, ahead: ReadAhead
    ) -> None:
        self._progress.heed_stop()
        self._progress.tell()
        path = directory.prefix + scanned.name
        if scanned.stat.st_dev != directory.device and stat.S_ISDIR(scanned.stat.st_mode):
            self._tally.mounted.append(path)
        if live is not None and became_link(self._job, path, live, scanned) and self._staged.holds(path):
            self._tally.warnings.append(f"{os.fsdecode(path)}: {LINKED}")
        if live is not None and is_newly_mounted(live, scanned, directory):
            if live.inode and self._staged.holds(path):  # otherwise nothing is known of its earlier state
                self._tally.warnings.append(f"{os.fsdecode(path)}: {COVERED}")
        elif live is not None and live.is_mount:
            is_away = is_unmounted(live, scanned, directory)
            if is_away and is_missed(self._staged.reading(), self._job, self._number, path):
                self._report(Problem(path, ProblemKind.UNREADABLE, UNMOUNTED))
                self._unmounted.add(path)
                return
            if not is_away and not self._is_to_read(live, scanned):
                return
        if not stat.S_ISREG(scanned.stat.st_mode):
            self._staging.no_file(directory, scanned, live)
        elif is_plain(scanned.stat):
            ahead.read(directory, scanned, live)
        else:
            read, lost = self._staging.file_read, self._staging.file_lost
            self._links.read(ahead, directory, scanned, partial(read, path, live), partial(lost, path))

    def _is_to_read(self, live: LiveEntry, scanned: ScannedEntry) -> bool:
        changed = is_to_read(self._job, live, scanned, self._staged.owners)
        changed = changed or self._staged.lost.spoil(live.chunks)
        return changed or not self._links.are_known(live, scanned.stat)
