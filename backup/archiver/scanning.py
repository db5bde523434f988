"""The scan of a backup: by a second process where that is worth its start."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing

from backup.archiver.settings import BackupJob
from backup.source.scan import Report, once, scan
from backup.source.scanned import ScannedDirectory

MANY_FILES = 20_000
"""From so many entries on, two processes are quicker than one."""


def scan_sources(
    job: BackupJob, files: int, report: Report, warn: Callable[[str], None]
) -> Generator[ScannedDirectory, None, None]:
    """The directories of a job's sources, of which the newest snapshot has so many files.

    The second process begins at once where these are many, else after as many entries. `report` is told of
    what could not be read, `warn` in a sentence if a second process was not available.
    """
    sources, filters, overrides, tell = job.sources, job.filters, job.overrides, once(report)
    may_be_two = job.memory.workers > 1
    last: ScannedDirectory | None = None
    if files < MANY_FILES or not may_be_two:
        seen = 0
        with closing(scan(sources, filters=filters, overrides=overrides, report=tell)) as directories:
            for last in directories:
                yield last
                seen += len(last.entries)
                if may_be_two and seen >= MANY_FILES:
                    break
            else:
                return
    from backup.source.scanner import scan_beside

    yield from scan_beside(sources, filters=filters, overrides=overrides, report=tell, warn=warn, after=last)
