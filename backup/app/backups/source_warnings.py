"""Warnings about a job's sources: missing, symlinks, wholly excluded, nightvault's own, unknown disks."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from itertools import combinations, takewhile
from typing import TYPE_CHECKING, Final

from backup.app.base.filters import filters_of, overrides_of, own_places
from backup.config import Config, JobSettings
from backup.errors import NightvaultError
from backup.model import EntryKind
from backup.source.filters import Filters, LeftOut
from backup.source.roots import is_at_or_below, other_paths, resolved, symlinks_among
from backup.wording import counted, printable

if TYPE_CHECKING:
    from backup.inventory.content.snapshots import Snapshot
    from backup.inventory.store.connections import Transaction
    from backup.inventory.store.database import Inventory

_A_DIRECTORY: Final = os.stat_result((stat.S_IFDIR, *[0] * 9))


def missing_sources(job: JobSettings) -> Iterator[str]:
    """A sentence for each source of a job that is not there."""
    for source in job.paths:
        if not os.path.lexists(source):
            yield f"job {job.name}: source {source} is not there"


def linked_sources(job: JobSettings) -> Iterator[str]:
    """A sentence for each source of a job that is a symlink."""
    for text in symlinks_among([os.fsencode(source) for source in job.paths]):
        yield f"job {job.name}: {text}"


def wholly_left_out(tx: Transaction, job: JobSettings) -> list[str]:
    """Return a sentence for each source of which all files in the newest snapshot are now excluded.

    The files are those of the newest kept snapshot that has some. None for a job that may shrink.
    """
    from backup.inventory.content import snapshots

    known = [snapshot for snapshot in snapshots.list_snapshots(tx, job=job.name) if snapshot.counts]
    if job.may_shrink or not known:
        return []
    told: list[str] = []
    for source, filters in _sources(job):
        if _files_of(known[-1], source) != 0:
            continue
        full = next((snapshot for snapshot in reversed(known) if _files_of(snapshot, source)), None)
        why = None if full is None else _why_all_left_out(tx, full, source, filters)
        if full is not None and why is not None:
            files = counted(_files_of(full, source) or 0, "file")
            told.append(
                f"job {job.name} leaves out all of its source {printable(source)} ({why.detail}): of the "
                f"{files} that snapshot {full.id[:8]} has of it none is saved any more. Change what the job "
                "leaves out; if it is meant, take the source out of the job, or set `may_shrink = true`"
            )
    return told


def _files_of(snapshot: Snapshot, source: str) -> int | None:
    """The number of files that a snapshot holds of a source; None if it does not know that."""
    from backup.source.streams import TOP

    trees = (root for root in snapshot.sources if not root.startswith(TOP + b"/"))
    counts = dict(zip(trees, snapshot.counts, strict=False))
    found = counts.get(os.fsencode(source))
    return None if found is None else found[0]


def _why_all_left_out(tx: Transaction, full: Snapshot, source: str, filters: Filters) -> LeftOut | None:
    """The pattern that leaves out the first file of a source in a snapshot; None if one file stays in."""
    from backup.inventory.content.shrunk import files_below  # few backups need it

    top = dict(zip(full.sources, full.tops, strict=False))[os.fsencode(source)]
    leaving_out_directory = _directories_left_out(top, filters)
    first: LeftOut | None = None
    for directory, name, kind, length in files_below(tx, full.job_number, top, full.number):
        mode = stat.S_IFREG if kind == EntryKind.FILE else stat.S_IFLNK
        found = os.stat_result((mode, 0, 0, 0, 0, 0, length, 0, 0, 0))
        why = leaving_out_directory(directory) or filters.leaving_out(directory, name, found)
        if why is None:
            return None
        first = first or why
    return first


def _directories_left_out(top: bytes, filters: Filters) -> Callable[[bytes], LeftOut | None]:
    """Return a function that says what excludes a directory at or below `top`, with a cache."""
    known: dict[bytes, LeftOut | None] = {top: None}

    def leaving_out(path: bytes) -> LeftOut | None:
        steps: list[tuple[bytes, bytes, bytes]] = []
        while path not in known:
            above, _, name = path.rpartition(b"/")
            steps.append((path, above or b"/", name))
            path = above or b"/"
        why = known[path]
        for step, above, name in reversed(steps):
            why = known[step] = why or filters.leaving_out(above, name, _A_DIRECTORY)
        return why

    return leaving_out


def saved_own(config: Config, job: JobSettings, inventory: Inventory | None = None) -> tuple[str, ...]:
    """Return nightvault's own paths that the newest snapshot of a job has, unless `exclude_own` is set.

    The job goes on saving them. Without an `inventory` the config's is opened; if there is none, nothing was
    saved.
    """
    if job.exclude_own is not None:
        return ()
    places = [place for place in own_places(config, job) if any(_held_in_sources(job, place))]
    if not places:
        return ()
    from backup.app.base.opened import opened
    from backup.inventory.content import snapshots

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
    from backup.inventory.content import entries

    real = os.fsencode(os.path.realpath(path))
    sources = [resolved(os.fsencode(source)) for source in job.paths]
    leading = {source[len(real) + 1 :].split(b"/")[0] for source in sources if is_at_or_below(source, real)}
    every = entries.entries_below(tx, snapshot.job_number, real, snapshot.number)
    within = takewhile(lambda found: found[0] == real, every)
    return any(row.name not in leading for _, row in within)


def own_in_sources(config: Config, job: JobSettings, saved: Collection[str]) -> Iterator[str]:
    """Return a sentence for each of nightvault's own paths that a job goes on saving (`saved_own`)."""
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


def own_as_sources(config: Config, job: JobSettings) -> Iterator[str]:
    """Return a sentence for each source that is the state directory, or lies in (or is) the vault of its job.

    None if `exclude_own = false` says that this is intended.
    """
    vault = config.vault(job.vault)
    for source in job.paths if job.exclude_own is not False else ():
        if _is_same(source, config.state_dir):
            yield (
                f"source {printable(source)} of job {job.name} is the state directory: `rebuild` needs "
                "nothing of it, and an inventory that is in use changes while it is read; name another source"
            )
        if vault.path is None:
            continue
        is_vault, real = _is_same(source, vault.path), os.path.realpath(source)
        if is_vault or is_at_or_below(os.fsencode(real), os.fsencode(os.path.realpath(vault.path))):
            where = "is" if is_vault else "lies in"
            yield (
                f"source {printable(source)} {where} the vault that job {job.name} is stored into: each run "
                "stores what the one before stored; name another source"
            )


def nested_places(config: Config) -> Iterator[str]:
    """Return a sentence for each two of the state directory and the vaults of which one lies in the other."""
    vaults = [(f"vault {vault.name}", vault.path) for vault in config.vaults if vault.path is not None]
    every = [("the state directory", config.state_dir), *vaults]
    for (name, path), (other, place) in combinations(every, 2):
        real, there = os.path.realpath(path), os.path.realpath(place)
        if real == there or _is_same(path, place):
            told = f"{name} and {other} are one directory, {printable(path)}"
        elif is_at_or_below(os.fsencode(real), os.fsencode(there)):
            told = f"{name} ({printable(path)}) lies in {other} ({printable(place)})"
        elif is_at_or_below(os.fsencode(there), os.fsencode(real)):
            told = f"{other} ({printable(place)}) lies in {name} ({printable(path)})"
        else:
            continue
        yield f"{told}: what removes or loses one takes the other, too; give each a directory of its own"


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
    """Return a sentence for each `--disk-gone` path that held no mount in the jobs' last snapshots."""
    from backup.inventory.content import mounts
    from backup.inventory.records import runs

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
