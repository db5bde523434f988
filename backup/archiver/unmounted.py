"""Disks that are not mounted: their entries are kept, as they may not be gone; and others in their place."""

from __future__ import annotations

from typing import Final

from backup.archiver.compare import is_left_out, leads_to_source
from backup.archiver.settings import BackupJob
from backup.inventory import entries, mounts
from backup.inventory.connections import Transaction
from backup.inventory.entries import LiveEntry
from backup.model import EntryKind
from backup.source.scanned import ScannedDirectory, ScannedEntry

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


def is_unmounted(live: LiveEntry, scanned: ScannedEntry, directory: ScannedDirectory) -> bool:
    """Whether another file system was mounted on this entry of `directory`, and now none is.

    Whatever lies there now (a marker file, what a program wrote while the disk was away) is of another disk.
    """
    return bool(live.is_mount) and scanned.stat.st_dev == directory.device


def lost_mounts(tx: Transaction, job: BackupJob, number: int, path: bytes, gone: LiveEntry) -> list[bytes]:
    """Mount points at or below a name that is gone, that held anything and were not given up.

    `number` is the job's.
    """
    if gone.kind != EntryKind.DIRECTORY or is_left_out(job, path):
        return []
    found = [path] if gone.is_mount else mounts.mount_points_below(tx, job=number, path=path)
    return [one for one in found if is_missed(tx, job, number, one)]


def is_missed(tx: Transaction, job: BackupJob, number: int, path: bytes) -> bool:
    """Whether a mount point's entries are to be kept: it held something, and nobody gave it up."""
    if any(path == one or path.startswith(one + b"/") for one in job.disks_gone):
        return False
    if not leads_to_source(job, path) and is_left_out(job, path):
        return False
    directory = entries.find_directory(tx, number, path)
    return directory is not None and entries.has_live(tx, directory)
