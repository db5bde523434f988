"""What a backup would read: the scan and the comparison, and nothing else."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from backup.archiver.compare import is_left_out, is_to_read, is_unmounted
from backup.archiver.links import Links
from backup.archiver.report import Tally
from backup.archiver.settings import BackupJob
from backup.inventory import entries, runs
from backup.inventory.database import Inventory, Transaction
from backup.inventory.entries import LiveEntry
from backup.inventory.runs import JobRow
from backup.source.scan import LeaveOut, scan
from backup.source.streams import NAME as STREAMS
from backup.source.streams import TOP


@dataclass(frozen=True, slots=True)
class Change:
    """An entry that a backup would add, change or end; `size` is its content in bytes, 0 but for files.

    A stream's size is not known before: 0. A removed directory stands for all that was in it.
    """

    what: str  # new, changed, removed
    path: bytes
    size: int


def changes(
    job: BackupJob, inventory: Inventory, tally: Tally, *, left_out: LeaveOut | None = None
) -> Iterator[Change]:
    """Every change, in the order of paths; the tally counts all that was seen. Touches nothing.

    `left_out` is told what is not read, and why, before the changes of the directory that holds it.
    """
    with inventory.reading() as tx:
        known = runs.find_job(tx, job.name)
        owners = entries.owners_by_number(tx)
        kept: set[bytes] = {TOP}
        links = Links()
        yield from _streams(tx, job, known)
        for directory in scan(
            () if job.only_streams else job.sources,
            filters=job.filters,
            overrides=job.overrides,
            report=tally.problems.append,
            left_out=left_out,
        ):
            if directory.path in kept or job.only_streams:
                continue
            links.enter(directory)
            live = _live(tx, known.number if known else None, directory.path)
            prefix = directory.path.rstrip(b"/") + b"/"
            if directory.path == b"/":
                live.pop(STREAMS, None)
            for scanned in directory.entries:
                tally.see(scanned.stat)
                before = live.pop(scanned.name, None)
                path = prefix + scanned.name
                if (
                    before is not None
                    and is_unmounted(before, scanned, directory)
                    and _holds(tx, known, path)
                ):
                    kept.add(prefix + scanned.name)
                elif (
                    before is None
                    or is_to_read(job, before, scanned, owners)
                    or not links.are_known(before, scanned.stat)
                ):
                    what = "new" if before is None else "changed"
                    yield Change(what, prefix + scanned.name, _content(scanned.stat))
            for name, gone in live.items():
                if name not in directory.unread and not (
                    gone.is_mount and not is_left_out(job, prefix + name) and _holds(tx, known, prefix + name)
                ):
                    yield Change("removed", prefix + name, gone.size)


def _content(found: os.stat_result) -> int:
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _streams(tx: Transaction, job: BackupJob, known: JobRow | None) -> Iterator[Change]:
    for stream in job.streams:
        above, _, name = stream.path.rpartition(b"/")
        is_known = name in _live(tx, known.number if known else None, above)
        yield Change("changed" if is_known else "new", stream.path, 0)


def _holds(tx: Transaction, known: JobRow | None, path: bytes) -> bool:
    number = None if known is None else entries.find_directory(tx, known.number, path)
    return number is not None and entries.has_live(tx, number)


def _live(tx: Transaction, job: int | None, path: bytes) -> dict[bytes, LiveEntry]:
    number = None if job is None else entries.find_directory(tx, job, path)
    return {} if number is None else entries.live_entries(tx, number)
