"""The scan of a backup: by a second process where that is worth its start."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing

from backup.archiver.settings import BackupJob
from backup.source.scan import Report, scan
from backup.source.scanned import ScannedDirectory

MANY_FILES = 20_000
"""From so many files on, two processes are quicker than one."""


def scan_sources(
    job: BackupJob, files: int | None, report: Report, warn: Callable[[str], None]
) -> Generator[ScannedDirectory, None, None]:
    """The directories of a job's sources, of which the newest snapshot has so many files, None without one.

    `report` is told of what could not be read, `warn` in a sentence if a second process was not available.
    """
    sources, filters, overrides = job.sources, job.filters, job.overrides
    if job.memory.workers > 1 and (_are_many(job) if files is None else files >= MANY_FILES):
        from backup.source.scanner import scan_beside

        return scan_beside(sources, filters=filters, overrides=overrides, report=report, warn=warn)
    return scan(sources, filters=filters, overrides=overrides, report=report)


def _are_many(job: BackupJob) -> bool:
    """Whether a scan finds so many entries: it ends there, and a smaller one takes a tenth of a second."""
    seen = 0
    with closing(
        scan(job.sources, filters=job.filters, overrides=job.overrides, report=lambda _: None)
    ) as directories:
        for directory in directories:
            seen += len(directory.entries)
            if seen >= MANY_FILES:
                return True
    return False
