"""Checks of jobs: policies, excludes, sources and vaults in bad places, databases without a dump."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from operator import attrgetter

from backup.app.backups.source_warnings import (
    linked_sources,
    nested_places,
    own_as_sources,
    own_in_sources,
    saved_own,
)
from backup.app.base.filters import filters_of, overrides_of
from backup.app.doctor import table
from backup.app.doctor.finding import DoctorContext, Finding
from backup.config import JobSettings
from backup.source.filters import Filters

_PRECIOUS = (".ssh", ".gnupg", ".password-store", ".local/share/keyrings", ".mozilla", ".thunderbird")

_DEPTH, _MOST_DIRECTORIES, _SECONDS = 6, 20_000, 5.0
_SIGNS = {
    "PG_VERSION": ("PostgreSQL", "pg_dumpall"),
    "ibdata1": ("MySQL or MariaDB", "mysqldump"),
    "WiredTiger": ("MongoDB", "mongodump"),
}
_SQLITE = ("SQLite in WAL mode", "sqlite3 FILE .dump")


def no_jobs(context: DoctorContext) -> Iterator[Finding]:
    """Find a config without a job."""
    if not context.config.jobs:
        yield table.NO_JOB.finding(config=context.config.path)


def no_policy(context: DoctorContext) -> Iterator[Finding]:
    """Find jobs that keep all of their snapshots for ever."""
    for job in context.config.jobs:
        if job.policy is None:
            yield table.NO_POLICY.finding(job=job.name, config=context.config.path)


def missing_sources(context: DoctorContext) -> Iterator[Finding]:
    """Find sources that do not exist, are symlinks, or contain nightvault's own paths."""
    config, place = context.config, context.config.path
    for job in config.jobs:
        for text in own_in_sources(config, job, saved_own(config, job)):
            yield table.OWN_IN_SOURCE.finding(text=text, config=place)
        for text in own_as_sources(config, job):
            yield table.OWN_AS_SOURCE.finding(text=text, config=place)
        for text in linked_sources(job):
            yield table.SOURCE_LINKED.finding(text=text, config=place)
        for path in job.paths:
            if not os.path.lexists(path):
                yield table.SOURCE_MISSING.finding(job=job.name, path=path, config=place)


def places_apart(context: DoctorContext) -> Iterator[Finding]:
    """Find state directory and vaults of which one lies in another."""
    for text in nested_places(context.config):
        yield table.PLACES_NESTED.finding(text=text, config=context.config.path)


def one_disk(context: DoctorContext) -> Iterator[Finding]:
    """Note vaults on the same file system as their sources. No finding, as another vault may be elsewhere."""
    for vault in context.config.vaults:
        device = None if vault.path is None else device_of(vault.path)
        if device is None:
            continue
        sources = [path for job in context.config.jobs if job.vault == vault.name for path in job.paths]
        beside = [path for path in dict.fromkeys(sources) if device_of(path) == device]
        if not beside:
            continue
        shown = f"the source {beside[0]}" if len(beside) == 1 else f"{len(beside)} sources ({beside[0]}, …)"
        state = " and the state directory" if device_of(context.config.state_dir) == device else ""
        context.notes.append(
            f"vault {vault.name} lies on one file system with {shown}{state}: a disk that fails takes all of "
            "it. Keep a vault elsewhere, too"
        )
    yield from ()


def device_of(path: str) -> int | None:
    """Return the device number of a path's file system; None if the path does not exist."""
    try:
        return os.stat(path).st_dev
    except OSError:
        return None


def precious_left_out(context: DoctorContext) -> Iterator[Finding]:
    """Find valuable folders in homes that a filter excludes."""
    for job in context.config.jobs:
        filters, overrides = filters_of(job), overrides_of(job)
        for source in job.paths:
            filtered = overrides.get(os.fsencode(source), filters)
            for path in _precious_below(source, context.silent):
                directory, name = os.path.split(os.fsencode(path))
                if left_out := filtered.leaving_out(directory, name, os.lstat(path)):
                    yield table.PRECIOUS_LEFT_OUT.finding(
                        job=job.name, path=path, detail=left_out.detail, config=context.config.path
                    )


def _precious_below(source: str, silent: Collection[str]) -> Iterator[str]:
    """The precious things in the homes that a source holds: root's, and those in /home."""

    def has(folder: str) -> bool:
        is_held = folder == source or folder.startswith(f"{source.rstrip('/')}/")
        return is_held and folder not in silent

    homes = [os.path.join("/home", name) for name in _directories("/home")] if has("/home") else []
    for home in ("/root", *homes, source):
        for name in _PRECIOUS if has(home) else ():
            path = os.path.join(home, name)
            if os.path.lexists(path):
                yield path


def _directories(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def without_dump(context: DoctorContext) -> Iterator[Finding]:
    """Find databases that a job reads as files, without a command or a hook that dumps them.

    The search is shallow and limited: a server's databases do not lie deep.
    """
    for job in context.config.jobs:
        if job.command or job.database or job.hooks.before:
            continue  # somebody has thought of it
        for kind, tool, path in _databases(job, context.silent):
            yield table.DATABASE_LIVE.finding(job=job.name, kind=kind, path=path, tool=tool)


def unread_volumes(context: DoctorContext) -> Iterator[Finding]:
    """Find volumes of running containers that no job reads, and dumps that labels ask for in vain.

    A container whose database is dumped needs neither.
    """
    jobs = [job for job in context.config.jobs if job.containers is not None]
    if not jobs:
        return
    from backup.app.backups.containers import containers_by_engine  # few configs have any
    from backup.containers.labels import is_data, not_understood

    dumped = {database.container for job in context.config.jobs for database in job.database}
    for engine, read in containers_by_engine(context.config):
        running = filter(attrgetter("is_running"), engine.containers())
        for container in (each for each in running if each.name not in dumped):
            for mount in filter(is_data, container.mounts):
                if not read(mount):
                    what = f"volume {mount.name}" if mount.is_volume else f"directory {mount.place}"
                    yield table.VOLUME_UNREAD.finding(container=container.name, what=what)
            for label in not_understood(container):
                yield table.LABEL_UNKNOWN.finding(container=container.name, label=label)


def _databases(job: JobSettings, silent: Collection[str]) -> Iterator[tuple[str, str, str]]:
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
