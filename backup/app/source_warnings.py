"""Warnings about sources of jobs: missing ones, symlinks, our state and vault in them; unknown disks."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from itertools import takewhile

from backup.app.filters import filters_of, overrides_of, own_places
from backup.app.opened import opened
from backup.config import Config, JobSettings
from backup.errors import NightvaultError
from backup.inventory import entries, mounts, runs, snapshots
from backup.inventory.connections import Transaction
from backup.inventory.database import Inventory
from backup.inventory.snapshots import Snapshot
from backup.source.filters import Filters
from backup.source.roots import is_at_or_below, other_paths, resolved, symlinks_among


def missing_sources(job: JobSettings) -> Iterator[str]:
    """A sentence for each source of a job that is not there."""
    for source in job.paths:
        if not os.path.lexists(source):
            yield f"job {job.name}: source {source} is not there"


def linked_sources(job: JobSettings) -> Iterator[str]:
    """A sentence for each source of a job that is a symlink."""
    for text in symlinks_among([os.fsencode(source) for source in job.paths]):
        yield f"job {job.name}: {text}"


def saved_own(config: Config, job: JobSettings, inventory: Inventory | None = None) -> tuple[str, ...]:
    """What nightvault itself uses that the newest snapshot of a job has, where the job does not say of it.

    That goes on as it was. Without an `inventory` the config's is opened; without any nothing was saved.
    """
    if job.exclude_own is not None:
        return ()
    places = [place for place in own_places(config, job) if any(_held_in_sources(job, place))]
    if not places:
        return ()
    if inventory is None:
        try:
            inventory = opened(config)
        except NightvaultError:
            return ()
        with closing(inventory):
            return saved_own(config, job, inventory)
    with inventory.reading() as tx:
        newest = snapshots.list_snapshots(tx, job=job.name)[-1:]
        return tuple(
            place
            for place in places
            for snapshot in newest
            if any(_is_saved(tx, path, snapshot, job) for path in (place, *other_paths(place)))
        )


def _is_saved(tx: Transaction, path: str, snapshot: Snapshot, job: JobSettings) -> bool:
    """Whether a snapshot has entries in a directory, but for those that lead to sources within."""
    real = os.fsencode(os.path.realpath(path))
    sources = [resolved(os.fsencode(source)) for source in job.paths]
    leading = {source[len(real) + 1 :].split(b"/")[0] for source in sources if is_at_or_below(source, real)}
    every = entries.entries_below(tx, snapshot.job_number, real, snapshot.number)
    within = takewhile(lambda found: found[0] == real, every)
    return any(row.name not in leading for _, row in within)


def own_in_sources(config: Config, job: JobSettings, saved: Collection[str]) -> Iterator[str]:
    """A sentence for each place that nightvault itself uses, and that a job goes on to save (`saved_own`)."""
    for place, words in own_places(config, job).items():
        held = next(_held_in_sources(job, place), None)
        if place not in saved or held is None:
            continue
        source, path = held
        if place == config.state_dir:
            why = (
                f" {path}: `rebuild` needs nothing of it, and an inventory that is in use changes while it "
                "is read"
            )
        else:
            why = f", {path} in its source {source}: each run stores all runs before it again"
        yield (
            f"job {job.name} backs up {words}{why}. `exclude_own = true` in the job leaves it out from now "
            "on, `false` says that it is meant"
        )


def _held_in_sources(job: JobSettings, place: str) -> Iterator[tuple[str, str]]:
    """The sources of a job in which a place lies, with its path there; none where one of them names it."""
    if not any(_is_same(source, place) for source in job.paths):
        for source, filters in _sources(job):
            path = _held(source, place, filters)
            if path is not None:
                yield source, path


def _is_same(source: str, place: str) -> bool:
    try:
        return os.path.samefile(source, place)
    except OSError:
        return False


def unknown_disks(
    inventory: Inventory, jobs: Sequence[JobSettings], paths: Collection[bytes]
) -> Iterator[str]:
    """A sentence for each path that was given up and held no disk in the last snapshot of any of the jobs."""
    with inventory.reading() as tx:
        known = [row.number for job in jobs if (row := runs.find_job(tx, job.name))]
        disks = [disk for job in known for disk in mounts.mount_points_below(tx, job=job, path=b"/")]
    for path in sorted(paths):
        if not any(disk == path or disk.startswith(path.rstrip(b"/") + b"/") for disk in disks):
            yield (
                f"--disk-gone {os.fsdecode(path)} changes nothing: no file system is known to have been "
                f"mounted there or below it when job {' or '.join(job.name for job in jobs)} last ran"
            )


def _sources(job: JobSettings) -> Iterator[tuple[str, Filters]]:
    overrides, usual = overrides_of(job), filters_of(job)
    for source in job.paths:
        yield source, overrides.get(os.fsencode(source), usual)


def _held(source: str, place: str, filters: Filters) -> str | None:
    """The path by which a place lies in a source, of all that lead there, and nothing leaves it out."""
    return next((path for path in (place, *other_paths(place)) if _holds(source, path, filters)), None)


def _holds(source: str, place: str, filters: Filters) -> bool:
    top, place = os.path.realpath(source), os.path.realpath(place)
    if place != top and not place.startswith(top.rstrip("/") + "/"):
        return False
    if filters.one_file_system and os.path.exists(place) and os.stat(top).st_dev != os.stat(place).st_dev:
        return False
    above, a_directory = os.fsencode(source), os.stat("/")
    for step in os.fsencode(os.path.relpath(place, top)).split(b"/"):
        if step != b"." and filters.leaving_out(above, step, a_directory) is not None:
            return False
        above = above.rstrip(b"/") + b"/" + step
    return True
