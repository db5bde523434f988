"""Sources that have lost nearly everything: files and bytes of each are counted, and compared with before.

A disk that is not there, and a folder that was emptied or replaced by a symlink, look like a deletion. What
was there before is worth keeping until somebody has looked.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from backup.archiver.report import BackupReport, Count, Tally, is_lost
from backup.archiver.settings import OpenBackup
from backup.format.catalog import Record, ShrunkRecord
from backup.inventory import mounts
from backup.inventory.connections import Transaction
from backup.inventory.runs import Outcome
from backup.inventory.shrunk import count_below, files_below, lost_of, lost_text
from backup.inventory.snapshots import Lost, Usual
from backup.model import EntryKind, JobName
from backup.source.filters import Filters
from backup.source.roots import resolved
from backup.source.streams import TOP

_A_DIRECTORY: Final = os.stat_result((stat.S_IFDIR, *[0] * 9))


def lost_sources(at: OpenBackup, tally: Tally, usual: Sequence[Usual]) -> list[Lost]:
    """The sources that have lost nearly everything; sees to the counts of what was kept as it was."""
    job, counts = at.job, list(tally.by_source)
    found: list[Lost] = []
    with at.context.inventory.reading() as tx:
        look = _Look(tx, at, usual)
        for index, source in enumerate(job.sources):
            if not look.has_shrunk(source, counts[index]):
                continue
            if tally.problems:
                counts[index] = count_below(tx, at.row.number, resolved(source), staged_by=at.run.number)
            lost = look.lost(source, counts[index])
            if lost is not None:
                found.append(lost)
    tally.by_source = counts
    return found


def lost_in(marks: Sequence[Record]) -> tuple[Lost, ...]:
    """What a snapshot's marks say was lost; nothing where they accept it, too."""
    shrunk = [one for one in marks if isinstance(one, ShrunkRecord)]
    if any(one.accepted for one in shrunk):
        return ()
    return tuple(lost for one in shrunk for lost in lost_of(one))


def told_of(
    outcome: Outcome, job: JobName, snapshot: str, marks: Sequence[Record]
) -> tuple[Outcome, Mapping[str, list[str]]]:
    """Outcome and report of a run whose process died, by the marks of the snapshot that it made."""
    lost = lost_in(marks)
    if not lost:
        return outcome, {}
    told = {"shrunk": [lost_text(one) for one in lost], "warnings": [waits_for_answer(job, snapshot)]}
    return Outcome.PARTIAL, told


def waits_for_answer(job: JobName, snapshot: str) -> str:
    """A sentence on the consequences, with the command that ends them."""
    return (
        f"nothing of job {job} is forgotten, condemned or deleted until somebody says that this is right: "
        f"`nightvault snapshots accept {snapshot[:8]}`"
    )


def with_lost(report: BackupReport, lost: Sequence[Lost]) -> BackupReport:
    """The report as partial: the snapshot waits for an answer."""
    warnings = (*report.warnings, waits_for_answer(report.job, report.snapshot))
    told = [lost_text(one) for one in lost]
    return replace(report, outcome=Outcome.PARTIAL, shrunk=told, warnings=warnings)


class _Look:
    """A comparison with the snapshots before."""

    def __init__(self, tx: Transaction, at: OpenBackup, usual: Sequence[Usual]) -> None:
        self._tx = tx
        self._job = at.job
        self._number = at.row.number
        self._usual = usual
        self._has_counts = any(_counts_of(one) for one in usual)

    def has_shrunk(self, source: bytes, now: Count) -> bool:
        """Whether it looks so, before it is counted again what the job leaves out by now."""
        return any(is_lost(now, count, by) for by in (0, 1) for _, count in self._fullest(source, by))

    def lost(self, source: bytes, now: Count) -> Lost | None:
        """What it lost beside what the job leaves out by now; None if that is not nearly everything."""
        for by in (0, 1):
            for snapshot, count in self._fullest(source, by):
                if is_lost(now, count, by):
                    before = self._still_meant(source, snapshot)
                    if is_lost(now, before, by):
                        return Lost(source, *now, *before)
        return None

    def _fullest(self, source: bytes, by: int) -> list[tuple[Usual, Count]]:
        """The snapshot that held most files (0) or bytes (1) of a source; none if no snapshot had it."""
        found = [(one, count) for one in self._usual if (count := self._count(one, source)) is not None]
        return [max(found, key=lambda pair: pair[1][by])] if found else []

    def _count(self, snapshot: Usual, source: bytes) -> Count | None:
        known = _counts_of(snapshot)
        if known or self._has_counts or source not in snapshot.sources:
            return known.get(source)
        if snapshot is not self._usual[0]:
            return None  # an older version made all of them: one is counted, once
        return count_below(self._tx, self._number, resolved(source), snapshot=snapshot.number)

    def _still_meant(self, source: bytes, snapshot: Usual) -> Count:
        """What a snapshot had of a source, without what the job leaves out by now."""
        filters = self._job.overrides.get(source, self._job.filters)
        top = resolved(source)
        is_left_out = _left_out_by(filters, top, self._other_disks(top, filters))
        files = size = 0
        rows = files_below(self._tx, self._number, top, snapshot.number)
        for directory, name, kind, length in rows:
            if is_left_out(directory):
                continue
            mode = stat.S_IFREG if kind == EntryKind.FILE else stat.S_IFLNK
            found = os.stat_result((mode, 0, 0, 0, 0, 0, length, 0, 0, 0))
            if filters.leaving_out(directory, name, found) is None:
                files, size = files + 1, size + length
        return files, size

    def _other_disks(self, top: bytes, filters: Filters) -> frozenset[bytes]:
        if not filters.one_file_system:
            return frozenset()
        return frozenset(mounts.mount_points_below(self._tx, job=self._number, path=top))


def _counts_of(snapshot: Usual) -> Mapping[bytes, Count]:
    """What a snapshot held of its sources; empty where an older version made it, of several."""
    if len(snapshot.counts) == len(trees := _trees(snapshot)):
        return dict(zip(trees, snapshot.counts, strict=True))
    return {trees[0]: (snapshot.files, snapshot.bytes)} if len(trees) == 1 else {}


def _trees(snapshot: Usual) -> list[bytes]:
    return [one for one in snapshot.sources if not one.startswith(TOP + b"/")]


def _left_out_by(filters: Filters, top: bytes, other_disks: frozenset[bytes]) -> Callable[[bytes], bool]:
    """Whether a directory at or below `top` is left out now, or one above it; each is looked at once."""
    known: dict[bytes, bool] = {}

    def is_left_out(path: bytes) -> bool:
        if path not in known:
            above, _, name = path.rpartition(b"/")
            inside = len(path) > len(top) and is_left_out(above or b"/")
            known[path] = (
                inside
                or path in other_disks
                or (path != top and filters.leaving_out(above or b"/", name, _A_DIRECTORY) is not None)
                or filters.is_tagged(path)
            )
        return known[path]

    return is_left_out
