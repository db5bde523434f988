"""The commit of a backup: its delta catalog is uploaded last, then the snapshot exists."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from backup.catalogs.context import OpenBackup
from backup.catalogs.delta import Delta
from backup.catalogs.full import without_full
from backup.catalogs.key_changes import older_data, unenrolled
from backup.catalogs.report import BackupReport, Count, Tally, is_lost
from backup.catalogs.run_setup import require_still_ours
from backup.catalogs.sending import CatalogSender
from backup.errors import NightvaultError
from backup.format.catalog import Record, SnapshotRecord
from backup.format.records import MarksRecord
from backup.inventory.content import entries, mounts, snapshots
from backup.inventory.content.archives import Archive
from backup.inventory.content.snapshots import Lost, Snapshot, Usual, usual_snapshots
from backup.inventory.records import amendments, runs
from backup.inventory.records.runs import JobRow
from backup.inventory.store.connections import Transaction
from backup.inventory.store.times import micros, moment
from backup.kinds import Outcome
from backup.model import Problem, SnapshotId

_CUT_OFF = "the run ended before it was"


class Committer:
    """Writes a run's catalogs and commits its snapshot."""

    def __init__(self, at: OpenBackup, delta: Delta) -> None:
        self._at = at
        self._delta = delta
        self._sender = CatalogSender(at)

    def commit(self, used: Iterable[int], tally: Tally) -> BackupReport:
        """Store the delta catalog, commit, and store a full catalog if due (a failure leaves it due).

        Until the full one is stored, the run's record says that it is missing, as the process may be killed
        before.
        """
        self._count(tally)
        tally.limit()
        lost = self._lost(tally)
        disks = self._look_at_disks(tally)
        snapshot, *marks = self._prepare(tally, lost)
        with self._at.context.inventory.reading() as tx:
            changes = entries.count_staged(tx, self._at.run.number)
        looked = require_still_ours(self._at, self._at.run.started_at)
        catalog = self._sender.delta_of_backup(self._delta, snapshot, used, marks)
        require_still_ours(self._at, looked)
        report = self._report(snapshot, tally, changes, catalog)
        if lost and not self._at.job.may_shrink:
            from backup.catalogs.shrinking import with_lost

            report = with_lost(report, lost)
        due = self._sender.full_due()
        with self._at.context.inventory.writing() as tx:
            make_true(tx, self._at.run.number, self._at.row, snapshot, marks)
            mounts.note_disks(tx, self._at.row.number, disks)
            self._finish(tx, report if due is None else without_full(report, due, _CUT_OFF))
        report = self._with_older_packs(report)
        if due is not None:
            try:
                self._sender.full()
            except NightvaultError as error:
                report = without_full(report, due, str(error))
        report = replace(
            report,
            archives=self._at.uploader.stored_archives,
            bytes_uploaded=self._at.uploader.stored_bytes,
            seconds=self._seconds(),
            recovery_line=self._sender.line(),
        )
        with self._at.context.inventory.writing() as tx:
            self._finish(tx, report)
        return report

    def _with_older_packs(self, report: BackupReport) -> BackupReport:
        """The report with the packs that need other recovery keys; sees the run's own snapshot."""
        with self._at.context.inventory.reading() as tx:
            older = older_data(tx, self._at.row, self._at.keys, run=self._at.run.number)
        if older is None:
            return report
        warnings = (*report.warnings, *older.tell(report.job))
        return replace(report, warnings=warnings, older_packs=older.document())

    def _count(self, tally: Tally) -> None:
        """Count what the snapshot holds, where that differs from what was seen (unread or kept entries)."""
        if not (tally.problems or self._at.job.only_streams):
            return
        with self._at.context.inventory.reading() as tx:
            counted = entries.count_with_staged(tx, self._at.row.number, self._at.run.number)
        tally.files, tally.bytes = counted

    def _prepare(self, tally: Tally, lost: Sequence[Lost]) -> tuple[SnapshotRecord, *tuple[Record, ...]]:
        """Record the future snapshot and its tags, so that the commit can be repeated after a crash."""
        record = SnapshotRecord(
            id=os.urandom(8).hex(),
            number=self._at.run.snapshot_number or 0,
            started_at=micros(self._at.run.started_at),
            finished_at=micros(self._at.context.clock.now()),
            host=self._at.context.host,
            sources=[*self._at.job.sources, *self._at.job.stream_paths],
            files=tally.files,
            bytes=tally.bytes,
            problems=[(problem.path, problem.kind.value, problem.detail) for problem in tally.problems],
            counts=list(tally.by_source),
            roots=list(tally.roots),
        )
        tags = sorted(set(self._at.job.tags))
        marks: list[Record] = [MarksRecord(record.number, tags, False)] if tags else []
        marks += [*self._of_shrinking(record.number, lost), *tally.dumps]
        with self._at.context.inventory.writing() as tx:
            runs.prepare(tx, self._at.run.number, amendments.encode([record, *marks]))
        return record, *marks

    def _lost(self, tally: Tally) -> list[Lost]:
        """Return the sources and streams that lost nearly everything; only suspects are examined closely."""
        at, job = self._at, self._at.job
        sources = () if job.only_streams else job.sources
        if tally.problems and len(sources) == 1:
            tally.by_source = [(tally.files - tally.streams[0], tally.bytes - tally.streams[1])]
        with at.context.inventory.reading() as tx:
            usual = usual_snapshots(tx, at.row.number)
        are_full = all(_is_as_full(sources, tally.by_source, night) for night in usual) if sources else True
        if are_full and not tally.by_stream:
            return []
        from backup.catalogs.shrinking import lost_sources, lost_streams  # rarely

        return [*([] if are_full else lost_sources(at, tally, usual)), *lost_streams(at, tally, usual)]

    def _look_at_disks(self, tally: Tally) -> dict[bytes, str]:
        """The mounts that were not known before; warns of one that took the place of another."""
        if not tally.mounted:
            return {}
        from backup.source import disks  # few jobs have mount points

        found = disks.disks_at(frozenset(tally.mounted))
        with self._at.context.inventory.reading() as tx:
            known = mounts.known_disks(tx, self._at.row.number)
        tally.warnings += disks.replaced_disks(known, found)
        noted = {path: disks.remembered(known.get(path, ""), disk) for path, disk in found.items()}
        return {path: disk for path, disk in noted.items() if known.get(path) != disk}

    def _of_shrinking(self, number: int, lost: Sequence[Lost]) -> list[Record]:
        """Records that the snapshot waits for an answer; or the answer, where the job may shrink."""
        if not (lost or self._at.job.may_shrink):
            return []
        from backup.inventory.content.shrunk import accepting, record_of, waits  # rarely

        found: list[Record] = [record_of(number, lost)] if lost else []
        if self._at.job.may_shrink:
            with self._at.context.inventory.reading() as tx:
                waiting = {wait.job_number for wait in waits(tx)}
            if lost or self._at.row.number in waiting:
                found.append(accepting(number))
        return found

    def _report(
        self, snapshot: SnapshotRecord, tally: Tally, changes: tuple[int, int], catalog: Archive
    ) -> BackupReport:
        return BackupReport(
            job=self._at.row.name,
            vault=self._at.context.vault.name,
            run=self._at.run.number,
            snapshot=SnapshotId(snapshot.id),
            outcome=outcome_of(tally.problems),
            files=tally.files,
            bytes=tally.bytes,
            files_read=tally.files_read,
            bytes_read=tally.bytes_read,
            bytes_new=tally.bytes_new,
            bytes_uploaded=self._at.uploader.stored_bytes,
            archives=self._at.uploader.stored_archives,
            entries_added=changes[0],
            entries_removed=changes[1],
            seconds=self._seconds(),
            problems=tuple(tally.problems),
            recipients=tuple(recipient.id.hex() for recipient in self._at.keys.recipients),
            catalog=catalog.archive_id or "",
            warnings=(*tally.warnings, *self._clock_warnings(), *unenrolled(self._at.keys)),
            files_again=tally.files_again,
        )

    def _finish(self, tx: Transaction, report: BackupReport) -> None:
        document = report.document()
        runs.finish_run(tx, self._at.run.number, report.outcome, document, self._at.context.clock.now())

    def _seconds(self) -> float:
        return max(0.0, (self._at.context.clock.now() - self._at.run.started_at).total_seconds())

    def _clock_warnings(self) -> tuple[str, ...]:
        """A warning if an earlier snapshot has a later time: --at would choose it instead."""
        with self._at.context.inventory.reading() as tx:
            before = snapshots.list_snapshots(tx, job=self._at.row.name)
        began = self._at.run.started_at
        if not before or before[-1].started_at <= began:
            return ()
        snapshot = before[-1]
        warning = (
            f"the snapshot before this one, {snapshot.id[:8]}, says {snapshot.started_at:%Y-%m-%d %H:%M} "
            f"UTC, and now it is {began:%Y-%m-%d %H:%M} UTC: this machine's clock was ahead then, or is "
            "behind now; `latest` goes by the order of snapshots, --at by their times"
        )
        return (warning,)


def _is_as_full(sources: Sequence[bytes], counts: Sequence[Count], before: Usual) -> bool:
    """Whether a snapshot of the same sources is known to have held no more than ten times as much of each."""
    if before.sources[: len(sources)] != tuple(sources) or len(before.counts) != len(sources):
        return False
    pairs = zip(counts, before.counts, strict=True)
    return not any(is_lost(now, then, by) for now, then in pairs for by in (0, 1))


def outcome_of(problems: Iterable[Problem]) -> Outcome:
    """Return PARTIAL if any entry could not be saved, else DONE."""
    return Outcome.DONE if all(problem.is_warning for problem in problems) else Outcome.PARTIAL


def make_true(
    tx: Transaction, run: int, job: JobRow, record: SnapshotRecord, marks: Sequence[Record] = ()
) -> None:
    """Apply the staged changes, record the snapshot and its marks: once, in one transaction."""
    entries.apply_staged(tx, run, record.number)
    snapshots.record_snapshot(tx, _snapshot(record, job, run))
    amendments.apply(tx, job.number, marks)


def _snapshot(record: SnapshotRecord, job: JobRow, run: int) -> Snapshot:
    return Snapshot(
        id=SnapshotId(record.id),
        job=job.name,
        job_number=job.number,
        number=record.number,
        run=run,
        started_at=moment(record.started_at),
        finished_at=moment(record.finished_at),
        host=record.host,
        sources=tuple(record.sources),
        problems=tuple(Problem.of(path, kind, detail) for path, kind, detail in record.problems),
        files=record.files,
        bytes=record.bytes,
        counts=tuple(record.counts),
        roots=tuple(record.roots),
    )
