"""Keeps the entries of disks that are not mounted, and of sources that now lead nowhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from backup.archiver.compare import is_left_out, leads_to_source
from backup.catalogs.context import BackupJob
from backup.inventory.content import entries, mounts
from backup.inventory.content.entries import LiveEntry
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.store.connections import Transaction
from backup.model import EntryKind, Problem, ProblemKind
from backup.source.roots import VOLUMES, is_at_or_below, resolved
from backup.source.scanned import ScannedDirectory, ScannedEntry
from backup.wording import printable

_A_DIRECTORY: Final = os.stat_result((stat.S_IFDIR, *[0] * 9))
UNMOUNTED: Final = (
    "the file system that was mounted on it is not: what it held is kept, and what lies there now is not "
    "saved; mount it, or, if it is gone for good, run once with --disk-gone and this path"
)
UNPLUGGED: Final = (
    "the file system that was mounted on it is gone, with its mount point: what it held is kept; "
    "if it is gone for good, exclude it, or run once with --disk-gone and this path"
)
COVERED: Final = (
    "a file system was mounted on it since the last snapshot: what it held before is covered, and counts as "
    "removed (older snapshots have it)"
)
LED_ELSEWHERE: Final = (
    "when this job last ran it led to {before}, and now to {now}: what only the first holds counts as "
    "removed (older snapshots have it); let it lead there again if this is a mistake"
)
LEADS_NOWHERE: Final = (
    "source {source} led here, and now leads to {now}, where nothing is: what it held is kept; let it lead "
    "to where its files are, or, if they are gone for good, take it out of the job"
)


class Roots(Struct, frozen=True):
    """The real paths of a job's sources; `kept` are those that lead nowhere.

    `paths` has the real path of each source. Of those in `kept` it is the path by which the newest snapshot
    has their entries.
    """

    paths: Sequence[bytes]
    kept: Collection[bytes]
    problems: Sequence[Problem]
    warnings: Sequence[str]

    def keep(self, path: bytes) -> bool:
        """Whether a path that no scan finds leads to a kept source, or belongs to one."""
        if not self.kept:
            return False
        if any(is_at_or_below(kept, path) for kept in self.kept):
            return True
        around = [root for root in self.paths if is_at_or_below(path, root)]
        return max(around, key=len, default=None) in self.kept


def with_volumes(job: BackupJob, snapshots: Sequence[Snapshot]) -> BackupJob:
    """The job with the volumes of its containers as sources; those that are gone are kept as they were."""
    if job.containers is None:
        return job
    last = next(
        (snapshot for snapshot in reversed(snapshots) if snapshot.roots), None
    )  # not of streams alone
    known = [] if last is None else [path for path in last.sources if path.startswith(VOLUMES)]
    places = {**{path: path for path in known}, **job.containers.volumes()}
    steps = {path: path.rpartition(b"/") for path in sorted(places)}
    found = [
        path
        for path, (above, _, name) in steps.items()
        if job.filters.leaving_out(above or b"/", name, _A_DIRECTORY) is None
    ]
    names_only = {path: places[path] for path in found if path.startswith(VOLUMES)}
    return replace(job, sources=tuple(dict.fromkeys((*job.sources, *found))), places=names_only)


def roots_now(job: BackupJob, snapshots: Sequence[Snapshot]) -> Roots:
    """Return the real paths of a job's sources, compared with those in the newest of its `snapshots`.

    If a source now leads to another path, and nothing is there, its entries are kept, unless another source
    contains their old path.
    """
    last = next((snapshot for snapshot in reversed(snapshots) if snapshot.roots), None)
    known = {} if last is None else dict(zip(last.sources, last.roots, strict=False))  # streams come last
    found = [resolved(source) for source in job.sources]
    paths, kept, problems, warnings = list(found), set[bytes](), list[Problem](), list[str]()
    for index, (source, now) in enumerate(zip(job.sources, found, strict=True)):
        before = known.get(source, now)
        if before == now:
            continue
        words = {"source": _shown(source), "before": _shown(before), "now": _shown(now)}
        if os.path.lexists(now) or any(is_at_or_below(before, root) for root in found if root != now):
            warnings.append(f"source {words['source']}: {LED_ELSEWHERE.format(**words)}")
            continue
        paths[index] = before
        kept.add(before)
        problems.append(Problem(before, ProblemKind.UNREADABLE, LEADS_NOWHERE.format(**words)))
    return Roots(paths, kept, problems, warnings)


def _shown(path: bytes) -> str:
    return printable(os.fsdecode(path))


LINKED: Final = (
    "it was a directory with content in the last snapshot, and is a symlink now: what it leads to is saved "
    "only if it lies in a source (older snapshots have what the directory held)"
)


def became_link(job: BackupJob, path: bytes, live: LiveEntry, scanned: ScannedEntry) -> bool:
    """Whether a directory is now a symlink; mount points and sources are reported separately."""
    if live.kind != EntryKind.DIRECTORY or live.is_mount or not stat.S_ISLNK(scanned.stat.st_mode):
        return False
    return path not in map(resolved, job.sources)


def is_unmounted(live: LiveEntry, scanned: ScannedEntry, directory: ScannedDirectory) -> bool:
    """Whether a file system was mounted on this entry of `directory`, and now none is.

    Whatever lies there now (a marker file, output of a program while the disk was away) is on another disk.
    """
    return bool(live.is_mount) and scanned.stat.st_dev == directory.device


def lost_mounts(tx: Transaction, job: BackupJob, number: int, path: bytes, gone: LiveEntry) -> list[bytes]:
    """Return the mount points at or below a removed path that held entries and were not given up.

    `number` is the job's.
    """
    if gone.kind != EntryKind.DIRECTORY:
        return []
    found = [path] if gone.is_mount else mounts.mount_points_below(tx, job=number, path=path)
    return [mount for mount in found if is_missed(tx, job, number, mount)]


def is_missed(tx: Transaction, job: BackupJob, number: int, path: bytes) -> bool:
    """Whether a mount point's entries are kept: it held some, and was not given up by `--disk-gone`."""
    if any(path == gone or path.startswith(gone + b"/") for gone in job.disks_gone):
        return False
    if not leads_to_source(job, path) and is_left_out(job, path):
        return False
    directory = entries.find_directory(tx, number, path)
    return directory is not None and entries.has_live(tx, directory)
