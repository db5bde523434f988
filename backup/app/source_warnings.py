"""Warnings about sources of jobs: missing ones, symlinks, our state and vaults below them; unknown disks."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence

from backup.app.filters import filters_of, overrides_of
from backup.config import Config, JobSettings
from backup.inventory import mounts, runs
from backup.inventory.database import Inventory
from backup.source.filters import Filters
from backup.source.roots import other_paths, symlinks_among


def missing_sources(job: JobSettings) -> Iterator[str]:
    """A sentence for each source of a job that is not there."""
    for source in job.paths:
        if not os.path.lexists(source):
            yield f"job {job.name}: source {source} is not there"


def linked_sources(job: JobSettings) -> Iterator[str]:
    """A sentence for each source of a job that is a symlink."""
    for text in symlinks_among([os.fsencode(source) for source in job.paths]):
        yield f"job {job.name}: {text}"


def nested_state(config: Config, job: JobSettings) -> Iterator[str]:
    """A sentence if the state directory is backed up by a job."""
    held = (_held(source, config.state_dir, filters) for source, filters in _sources(job))
    if (path := next(filter(None, held), None)) is not None:
        yield (
            f"job {job.name} backs up the state directory {path}: exclude it, since `rebuild` "
            "needs nothing of it, and an inventory that is in use changes while it is read"
        )


def nested_vaults(config: Config, job: JobSettings) -> Iterator[str]:
    """A sentence for each vault on this machine that is backed up by a job: it grows with every run."""
    for vault in config.vaults:
        for source, filters in _sources(job):
            held = None if vault.path is None else _held(source, vault.path, filters)
            if held is not None:
                yield (
                    f"job {job.name} backs up vault {vault.name}, which lies in its source {source}: "
                    f"each run would store all runs before it again: exclude {held}"
                )


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
