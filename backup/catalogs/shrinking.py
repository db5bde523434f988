"""Finds sources that have lost nearly everything, by their files and bytes compared with earlier snapshots.

Streams are compared by their bytes. A missing disk, and a folder that was emptied or replaced by a symlink,
look like a deletion. The earlier snapshots are kept until a person has accepted the loss.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from backup.catalogs.context import BackupJob, OpenBackup
from backup.catalogs.report import LEAST_FILES, BackupReport, Count, Tally, is_lost, is_stream_lost
from backup.format.catalog import Record, ShrunkRecord
from backup.inventory.content import mounts
from backup.inventory.content.entries import entry_at
from backup.inventory.content.shrunk import count_below, file_size, files_below, lost_of, lost_text
from backup.inventory.content.snapshots import Lost, Usual
from backup.inventory.store.connections import Transaction
from backup.kinds import Outcome
from backup.model import EntryKind, JobName
from backup.source.filters import Filters
from backup.source.roots import is_at_or_below, roots_of
from backup.source.streams import TOP

_A_DIRECTORY: Final = os.stat_result((stat.S_IFDIR, *[0] * 9))


def lost_sources(at: OpenBackup, tally: Tally, usual: Sequence[Usual]) -> list[Lost]:
    """Return the sources that have lost nearly everything; entries kept as they were are counted again."""
    job, counts = at.job, list(tally.by_source)
    found: list[Lost] = []
    with at.context.inventory.reading() as tx:
        look = _ShrinkCheck(tx, at, usual, tally.roots)
        for index, source in enumerate(job.sources):
            if not look.has_shrunk(source, counts[index]):
                continue
            if tally.problems:
                counts[index] = count_below(tx, at.row.number, tally.roots[index], staged_by=at.run.number)
            lost = look.lost(source, counts[index])
            if lost is not None and not (
                lost.files_before < LEAST_FILES and _is_given_up(job, tally.roots[index])
            ):
                found.append(lost)
    tally.by_source = counts
    return found


def lost_streams(at: OpenBackup, tally: Tally, usual: Sequence[Usual]) -> list[Lost]:
    """Return the streams that lost nearly everything: a dump of an emptied database does not fail."""
    found: list[Lost] = []
    with at.context.inventory.reading() as tx:
        for path, now in tally.by_stream.items():
            before = max((file_size(tx, at.row.number, path, night.number) for night in usual), default=0)
            if is_stream_lost(now, before):
                found.append(Lost(path, 1, now, 1, before))
    return found


def lost_in(marks: Sequence[Record]) -> tuple[Lost, ...]:
    """Return the losses in a snapshot's marks; none if the marks accept them, too."""
    shrunk = [record for record in marks if isinstance(record, ShrunkRecord)]
    if any(record.accepted for record in shrunk):
        return ()
    return tuple(lost for record in shrunk for lost in lost_of(record))


def outcome_of_dead_run(
    outcome: Outcome, job: JobName, snapshot: str, marks: Sequence[Record]
) -> tuple[Outcome, Mapping[str, list[str]]]:
    """Return outcome and report of a dead run, from the marks of its snapshot."""
    lost = lost_in(marks)
    if not lost:
        return outcome, {}
    told = {"shrunk": [lost_text(loss) for loss in lost], "warnings": [waits_for_answer(job, snapshot)]}
    return Outcome.PARTIAL, told


def waits_for_answer(job: JobName, snapshot: str) -> str:
    """Return a sentence on the consequences, with the command that accepts the loss."""
    return (
        f"nothing of job {job} is forgotten, condemned or deleted until somebody says that this is right: "
        f"`nightvault snapshots accept {snapshot[:8]}`"
    )


def with_lost(report: BackupReport, lost: Sequence[Lost]) -> BackupReport:
    """Return the report as partial: the snapshot waits to be accepted."""
    waiting = report.as_partial(waits_for_answer(report.job, report.snapshot))
    return replace(waiting, shrunk=[lost_text(loss) for loss in lost])


class _SourceSize(Struct, frozen=True):
    """The files and bytes that a snapshot held of a source, and its real path; None if not recorded."""

    snapshot: Usual
    count: Count
    root: bytes | None


class _ShrinkCheck:
    """A comparison with the snapshots before; `roots` are the real paths of the sources now."""

    def __init__(
        self, tx: Transaction, at: OpenBackup, usual: Sequence[Usual], roots: Sequence[bytes]
    ) -> None:
        self._tx = tx
        self._job = at.job
        self._number = at.row.number
        self._roots = dict(zip(at.job.sources, roots, strict=True))
        self._newest = usual[0] if usual else None
        self._held = {source: self._all_held(source, usual) for source in at.job.sources}

    def has_shrunk(self, source: bytes, now: Count) -> bool:
        """Whether the counts show a loss, before files that the job now excludes are left out."""
        return any(is_lost(now, held.count, by) for by in (0, 1) for held in self._compared(source, by))

    def lost(self, source: bytes, now: Count) -> Lost | None:
        """Return the loss, without what the job now excludes; None if the rest is not nearly everything."""
        for by in (0, 1):
            for held in self._compared(source, by):
                if is_lost(now, held.count, by):
                    before = self._still_meant(source, held)
                    is_compared = before[0] >= LEAST_FILES or held.snapshot is self._newest
                    if is_compared and is_lost(now, before, by):
                        return Lost(source, *now, *before)
        return None

    def _compared(self, source: bytes, by: int) -> list[_SourceSize]:
        """The snapshot that held most files (0) or bytes (1) of a source; the newest where it held few files.

        Of a source of few files everything must be gone since the newest: it may have been given up before.
        """
        found = self._held[source]
        fullest = max(found, key=lambda held: held.count[by], default=None)
        few = [held for held in found if held.snapshot is self._newest and held.count[0] < LEAST_FILES]
        return few if fullest is None or fullest.count[0] < LEAST_FILES else [fullest, *few]

    def _all_held(self, source: bytes, usual: Sequence[Usual]) -> list[_SourceSize]:
        found = [held for snapshot in usual if (held := self._recorded(source, snapshot)) is not None]
        if usual and not (found and found[0].snapshot is usual[0]):
            # An older version made the newest, or it had this under other names, or as a part of another.
            # One is counted, once.
            root = self._roots[source]
            count = count_below(self._tx, self._number, root, snapshot=usual[0].number)
            found.append(_SourceSize(usual[0], count, root))
        return found

    def _recorded(self, source: bytes, snapshot: Usual) -> _SourceSize | None:
        """The counts that a snapshot records of a source, or of another with the same real path."""
        counts, roots = _counts_of(snapshot), dict(zip(snapshot.sources, snapshot.roots, strict=False))
        if source in counts:
            return _SourceSize(snapshot, counts[source], roots.get(source))
        same = (other for other, root in roots.items() if root == self._roots[source] and other in counts)
        return next((_SourceSize(snapshot, counts[other], roots[other]) for other in same), None)

    def _still_meant(self, source: bytes, held: _SourceSize) -> Count:
        """The counts of a source in a snapshot, without what the job leaves out by now."""
        top = self._roots[source] if held.root is None else held.root
        snapshot = held.snapshot.number
        if held.root is None and entry_at(self._tx, self._number, top, snapshot) is None:
            return held.count  # it led elsewhere then, and nobody noted where
        filters_in = self._filters_in(top, self._job.overrides.get(source, self._job.filters), snapshot)
        files = size = 0
        for directory, name, kind, length in files_below(self._tx, self._number, top, snapshot):
            filters = filters_in(directory)
            if filters is None:
                continue
            mode = stat.S_IFREG if kind == EntryKind.FILE else stat.S_IFLNK
            found = os.stat_result((mode, 0, 0, 0, 0, 0, length, 0, 0, 0))
            if filters.leaving_out(directory, name, found) is None:
                files, size = files + 1, size + length
        return files, size

    def _filters_in(self, top: bytes, filters: Filters, snapshot: int) -> Callable[[bytes], Filters | None]:
        """The filters of a directory at or below `top`, of the innermost source; None where it is left out.

        Each is looked at once.
        """
        named = roots_of(self._job.sources, self._job.filters, self._job.overrides) | {top: filters}
        disks = frozenset(mounts.mount_points_below(self._tx, job=self._number, path=top))
        known: dict[bytes, Filters | None] = {}

        def filters_in(path: bytes) -> Filters | None:
            if path not in known:
                above, _, name = path.rpartition(b"/")
                found = named[path] if path in named else filters_in(above or b"/")
                if found is not None and path not in named:
                    is_other_disk = found.one_file_system and path in disks
                    if is_other_disk or found.leaving_out(above or b"/", name, _A_DIRECTORY) is not None:
                        found = None
                if found is not None and self._was_tagged(path, found, snapshot):
                    found = None
                known[path] = found
            return known[path]

        return filters_in

    def _was_tagged(self, path: bytes, filters: Filters, snapshot: int) -> bool:
        """Whether the snapshot has a tag file in the directory by which the job leaves it out."""
        return any(
            entry_at(self._tx, self._number, path.rstrip(b"/") + b"/" + tag, snapshot) is not None
            for tag in filters.tags_at(path)
        )


def _is_given_up(job: BackupJob, root: bytes) -> bool:
    """Whether the run was told (`--disk-gone`) that a disk above a source, or below it, is gone for good."""
    return any(is_at_or_below(root, gone) or is_at_or_below(gone, root) for gone in job.disks_gone)


def _counts_of(snapshot: Usual) -> Mapping[bytes, Count]:
    """Return files and bytes of a snapshot's sources; empty for several sources by an older version."""
    if len(snapshot.counts) == len(trees := _trees(snapshot)):
        return dict(zip(trees, snapshot.counts, strict=True))
    return {trees[0]: (snapshot.files, snapshot.bytes)} if len(trees) == 1 else {}


def _trees(snapshot: Usual) -> list[bytes]:
    return [source for source in snapshot.sources if not source.startswith(TOP + b"/")]
