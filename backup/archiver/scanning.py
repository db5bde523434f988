"""The scan of a backup: in a second process if that is worth its start."""

from __future__ import annotations

from collections.abc import Callable, Generator

from backup.catalogs.context import BackupJob
from backup.source.roots import are_many
from backup.source.scan import Report, scan
from backup.source.scanned import ScannedDirectory

MANY_FILES = 20_000
"""From so many files on, two processes are quicker than one."""


def scan_sources(
    job: BackupJob, files: int | None, report: Report, warn: Callable[[str], None]
) -> Generator[ScannedDirectory, None, None]:
    """Yield the directories of a job's sources.

    `files` is their number in the newest snapshot, None without one. `report` is called with each unreadable
    entry, `warn` with a sentence if a second process was not available.
    """
    sources, filters, overrides = job.sources, job.filters, job.overrides
    if job.memory.workers > 1 and (are_many(sources, MANY_FILES) if files is None else files >= MANY_FILES):
        from backup.source.scanner import scan_beside

        return scan_beside(sources, filters=filters, overrides=overrides, report=report, warn=warn)
    return scan(sources, filters=filters, overrides=overrides, report=report)
