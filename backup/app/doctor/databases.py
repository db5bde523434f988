"""Databases among the sources whose files change while they are read, without a dump beside them.

The look is shallow, and ends by a limit: a server's databases do not lie deep.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator

from backup.app.base.filters import filters_of, overrides_of
from backup.app.doctor.finding import DoctorContext, Finding, warning
from backup.config import JobSettings
from backup.source.filters import Filters

_DEPTH, _MOST_DIRECTORIES, _SECONDS = 6, 20_000, 5.0
_SIGNS = {
    "PG_VERSION": ("PostgreSQL", "pg_dumpall"),
    "ibdata1": ("MySQL or MariaDB", "mysqldump"),
    "WiredTiger": ("MongoDB", "mongodump"),
}
_SQLITE = ("SQLite in WAL mode", "sqlite3 FILE .dump")


def without_dump(context: DoctorContext) -> Iterator[Finding]:
    """Databases that a job reads as files, and neither a command nor a hook before it dumps."""
    for job in context.config.jobs:
        if job.command or job.hooks.before:
            continue  # somebody has thought of it
        for kind, tool, path in _found(job, context.silent):
            yield warning(
                "database",
                f"job {job.name} reads the files of {kind} in {path} while they may change",
                "a copy of files that change while they are read may not start again",
                f"add a [[job.command]] with {tool}, or hooks that stop it or make a snapshot",
            )


def _found(job: JobSettings, silent: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """Kind, tool and folder of each database, one of a kind in a folder."""
    ends, left = time.monotonic() + _SECONDS, [_MOST_DIRECTORIES]
    filters, overrides = filters_of(job), overrides_of(job)
    for source in job.paths:
        filtered = overrides.get(os.fsencode(source), filters)
        for folder, names in _walk(source, filtered, _DEPTH, left, silent):
            if time.monotonic() > ends:
                return
            found = [sign for name, sign in _SIGNS.items() if name in names]
            wal = any(f"{name}-wal" in names for name in names)
            yield from ((*sign, folder) for sign in [*found, *([_SQLITE] if wal else [])])


def _walk(
    folder: str, filters: Filters, depth: int, left: list[int], silent: Collection[str]
) -> Iterator[tuple[str, set[str]]]:
    """Folders with the names in them that are not left out.

    What cannot be read is passed over, and so are mounts that do not answer.
    """
    left[0] -= 1
    if depth < 0 or left[0] < 0:
        return
    names, below = set(), []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.path in silent:
                    continue
                raw = os.fsencode(entry.name)
                if filters.leaving_out(os.fsencode(folder), raw, entry.stat(follow_symlinks=False)):
                    continue
                names.add(entry.name)
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.path)
    except OSError:
        return
    yield folder, names
    if "PG_VERSION" in names:  # its folders have the sign, too
        return
    for path in below:
        yield from _walk(path, filters, depth - 1, left, silent)
