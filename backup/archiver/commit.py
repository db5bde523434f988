"""The commit: the delta catalog is uploaded last, and with it the snapshot becomes true."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from backup.archiver import catalogs
from backup.archiver.full_catalogs import Due, full_due, without_full
from backup.archiver.key_changes import older_data, unenrolled
from backup.archiver.packing import OpenPack
from backup.archiver.report import BackupReport, Tally
from backup.archiver.settings import OpenRun
from backup.errors import NightvaultError
from backup.format.catalog import Record, SnapshotRecord, encode_record
from backup.inventory import archives, entries, runs, snapshots
from backup.inventory.archives import Archive, CatalogPosition
from backup.inventory.database import Transaction
from backup.inventory.lost import replacements
from backup.inventory.runs import JobRow, Outcome
from backup.inventory.schema import micros, moment
from backup.inventory.snapshots import Snapshot
from backup.model import Generation, Pack, Problem, SnapshotId

_CUT_OFF = "the run ended before it was"


class Committer:
    """Writes a run's catalogs and commits its snapshot."""

    def __init__(self, at: OpenRun) -> None:
        self._at = at

    def commit(self, used: Iterable[int], tally: Tally) -> BackupReport:
        """Store the delta catalog, commit, and store a full catalog if due (a failure leaves it due).

        Until the full one is stored, the run's record says that it is missing: nobody may be left to say it
        after a cut.
        """
        self._count(tally)
        snapshot = self._prepare(tally)
        with self._at.context.inventory.reading() as tx:
            changes = entries.count_staged(tx, self._at.run.number)
        delta = self._send_delta(snapshot, used)
        report = self._report(snapshot, tally, changes, delta)
        due = self._full_due()
        with self._at.context.inventory.writing() as tx:
            make_true(tx, self._at.run.number, self._at.row, snapshot)
            self._finish(tx, report if due is None else without_full(report, due, _CUT_OFF))
        report = self._with_older_packs(report)
        if due is not None:
            try:
                self._send_full()
            except NightvaultError as error:
                report = without_full(report, due, str(error))
        report = replace(
            report,
            archives=self._at.uploader.stored_archives,
            bytes_uploaded=self._at.uploader.stored_bytes,
            seconds=self._seconds(),
            recovery_line=self._line(),
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

    def _prepare(self, tally: Tally) -> SnapshotRecord:
        """Record the future snapshot, so that the commit can be repeated after a cut."""
        record = SnapshotRecord(
            id=os.urandom(8).hex(),
            number=self._at.run.snapshot_number or 0,
            started_at=micros(self._at.run.started_at),
            finished_at=micros(self._at.context.clock.now()),
            host=self._at.context.host,
            sources=[*self._at.job.sources, *(stream.path for stream in self._at.job.streams)],
            files=tally.files,
            bytes=tally.bytes,
            problems=[(problem.path, problem.kind.value, problem.detail) for problem in tally.problems],
        )
        with self._at.context.inventory.writing() as tx:
            runs.prepare_snapshot(tx, self._at.run.number, encode_record(record))
        return record

    def _send_delta(self, snapshot: SnapshotRecord, used: Iterable[int]) -> Archive:
        inventory = self._at.context.inventory
        number = self._allot()
        with inventory.reading() as tx:
            chain = catalogs.read_chain(tx, self._at.row.number, inventory)
            own = {
                archive.number
                for archive in archives.list_archives(tx, inventory.id, run=self._at.run.number)
            }
            named = archives.named_archives(tx, self._at.row.number)
            needed = own | set(used)
            names = (needed | replacements(tx, named | needed)) - named
            position = catalogs.position_after(chain, self._at.row, number, Generation.DELTA, names)
            stream = catalogs.delta_records(
                tx,
                inventory,
                job=self._at.row,
                position=position,
                chain=chain,
                run=self._at.run.number,
                snapshot=snapshot,
                program=self._at.context.program,
            )
            written = self._write(stream, position, chain)
        return self._send(written, position)

    def _full_due(self) -> Due | None:
        inventory = self._at.context.inventory
        with inventory.reading() as tx:
            return full_due(catalogs.read_chain(tx, self._at.row.number, inventory), self._at.keys)

    def _send_full(self) -> None:
        inventory = self._at.context.inventory
        number = self._allot()
        with inventory.reading() as tx:
            chain = catalogs.read_chain(tx, self._at.row.number, inventory)
            names = archives.named_archives(tx, self._at.row.number, also_spoiled=True)
            names |= replacements(tx, names)
            position = catalogs.position_after(chain, self._at.row, number, Generation.FULL, names)
            kept = snapshots.list_snapshots(tx, job=self._at.row.name)
            stream = catalogs.full_records(
                tx,
                inventory,
                job=self._at.row,
                position=position,
                chain=chain,
                signer=self._at.keys.signer,
                secret=self._at.keys.secret,
                recipients=self._at.keys.recipients,
                snapshots=[_record(snapshot) for snapshot in kept],
                host=self._at.context.host,
                program=self._at.context.program,
            )
            written = self._write(stream, position, chain)
        self._send(written, position)

    def _line(self) -> str:
        inventory = self._at.context.inventory
        with inventory.reading() as tx:
            chain = catalogs.read_chain(tx, self._at.row.number, inventory)
        return catalogs.recovery_line(chain, self._at.row, self._at.context.vault.name)

    def _allot(self) -> int:
        with self._at.context.inventory.writing() as tx:
            return runs.allot_catalog(tx, self._at.row)

    def _write(
        self, stream: Iterable[Record | tuple[Any, ...]], position: CatalogPosition, chain: catalogs.Chain
    ) -> tuple[Pack, OpenPack]:
        return catalogs.write_catalog(
            self._at.spool,
            stream,
            job=self._at.row,
            position=position,
            chain=chain,
            enrolments=self._at.keys.enrolments,
            level=self._at.job.level,
        )

    def _send(self, written: tuple[Pack, OpenPack], position: CatalogPosition) -> Archive:
        """Upload a catalog and wait until it is stored."""
        pack, opened = written
        number = self._at.uploader.submit(
            pack, opened.file_name, domain=self._at.domain, run=self._at.run.number, catalog=position
        )
        self._at.uploader.drain()
        inventory = self._at.context.inventory
        with inventory.reading() as tx:
            return archives.get_archives(tx, [number], inventory.id)[number]

    def _report(
        self, snapshot: SnapshotRecord, tally: Tally, changes: tuple[int, int], delta: Archive
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
            catalog=delta.archive_id or "",
            warnings=(*tally.warnings, *self._clock_warnings(), *unenrolled(self._at.keys)),
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
        one = before[-1]
        warning = (
            f"the snapshot before this one, {one.id[:8]}, says {one.started_at:%Y-%m-%d %H:%M} UTC, and now "
            f"it is {began:%Y-%m-%d %H:%M} UTC: this machine's clock was ahead then, or is behind now; "
            "`latest` goes by the order of snapshots, --at by their times"
        )
        return (warning,)


def outcome_of(problems: Iterable[Problem]) -> Outcome:
    """PARTIAL as soon as one entry could not be saved, else DONE."""
    return Outcome.DONE if all(problem.is_warning for problem in problems) else Outcome.PARTIAL


def make_true(tx: Transaction, run: int, job: JobRow, record: SnapshotRecord) -> None:
    """Apply what the run staged and record its snapshot; idempotent only as part of one transaction."""
    entries.apply_staged(tx, run, record.number)
    snapshots.record_snapshot(tx, _snapshot(record, job, run))


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
    )


def _record(snapshot: Snapshot) -> SnapshotRecord:
    return SnapshotRecord(
        snapshot.id,
        snapshot.number,
        micros(snapshot.started_at),
        micros(snapshot.finished_at),
        snapshot.host,
        list(snapshot.sources),
        snapshot.files,
        snapshot.bytes,
        [(problem.path, problem.kind.value, problem.detail) for problem in snapshot.problems],
    )
