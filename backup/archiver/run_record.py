"""The record of a backup run: its start, its packs, its progress, and how it failed or was not all of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial

from backup.archiver.contents import Contents
from backup.archiver.sealing import SealedPack
from backup.archiver.staged_changes import StagedChanges
from backup.archiver.writer_thread import WriterThread
from backup.catalogs.catalogs import PackContents
from backup.catalogs.context import BackupContext, BackupJob, OpenBackup
from backup.catalogs.delta import Delta
from backup.catalogs.packing import OpenPack
from backup.catalogs.report import BackupReport, Tally
from backup.errors import ConfigError, InterruptedRunError, NightvaultError, as_stopped, failure_report
from backup.format.enrolment import job_id_of
from backup.inventory.content import archives, entries, packed
from backup.inventory.content.numbers import NumberSupply
from backup.inventory.content.strangers import OpenStranger, mark_told
from backup.inventory.records import runs
from backup.inventory.records.runs import JobRow, Run
from backup.model import ChunkId, PackKind
from backup.transfer.sent import Outgoing


class RunProgress:
    """Reports how many files and bytes were processed since the last report.

    A file is counted when it is scanned, its bytes as they are read, so that a large one moves the display.
    """

    def __init__(self, at: OpenBackup, tally: Tally) -> None:
        self._at = at
        self._tally = tally
        self._contents: Contents | None = None
        self._files = self._bytes = 0

    def heed_stop(self) -> None:
        """Raise `InterruptedRunError` if the run is asked to stop."""
        if self._at.context.stop():
            raise InterruptedRunError("the backup was stopped; what was uploaded is not uploaded again")

    def follow(self, contents: Contents) -> None:
        """Include the file that `contents` is reading."""
        self._contents = contents

    def tell(self) -> None:
        """Report what is new, once for each directory: once a file would cost as much as a stat."""
        left = 0 if self._contents is None else self._contents.left
        self._pass_on(self._tally.files, max(self._bytes, self._tally.bytes - left))

    def settle(self) -> None:
        """Report the final figures, equal to the report's."""
        self._pass_on(self._tally.files, self._tally.bytes)

    def _pass_on(self, files: int, size: int) -> None:
        uploaded = self._at.uploader.sent.take()
        progress = self._at.context.progress
        progress.advance(files=files - self._files, done=size - self._bytes, uploaded=uploaded)
        self._files, self._bytes = files, size


class RunSink:
    """The run's `PackSink`: the writer thread records packs in inventory and delta, then they are sent."""

    def __init__(
        self, at: OpenBackup, staged: StagedChanges, delta: Delta, writer: WriterThread, progress: RunProgress
    ) -> None:
        self.numbers = NumberSupply(at.context.inventory, "chunks", ahead=writer.submit)
        self._at = at
        self._staged = staged
        self._delta = delta
        self._writer = writer
        self._progress = progress

    def open_pack(self) -> OpenPack:
        """Make a new, empty pack in the spool."""
        return self._at.spool.open_pack(PackKind.DATA)

    def known(self, ids: Iterable[ChunkId]) -> Mapping[bytes, packed.KnownChunk]:
        """Return those of the chunks that can be built upon."""
        self._progress.heed_stop()
        self._progress.tell()
        return packed.known_chunks(self._staged.reading(), self._at.domain, self._at.run.number, ids)

    def record(self, sealed: SealedPack) -> Future[Outgoing]:
        """Have a pack recorded as submitted."""
        return self._writer.submit(partial(self._record, sealed))

    def _record(self, sealed: SealedPack) -> Outgoing:
        pack, numbers = sealed.pack, sealed.numbers
        domain, run = self._at.domain, self._at.run.number
        recorded = self._at.uploader.record(
            pack, sealed.file_name, domain=domain, run=run, chunk_numbers=numbers
        )
        self._delta.recorded(recorded.archive.number, PackContents(pack.frames, numbers, pack.chunks))
        return recorded

    def send(self, recorded: Outgoing) -> None:
        """Begin to send a pack; those that are stored by now go into the catalog."""
        self._staged.end_view()  # the next look-up must see the chunks of this pack
        self._at.uploader.send(recorded)
        self._writer.submit(partial(self._delta.stored, self._at.uploader.take_stored()))

    def drain(self) -> None:
        """Wait until everything is recorded, and the vault has stored all packs."""
        self._writer.finish()
        self._at.uploader.drain()
        self._delta.stored(self._at.uploader.take_stored())


def open_run(job: BackupJob, context: BackupContext, vault: int) -> tuple[JobRow, Run]:
    """Record the start of a backup. `ConfigError` if its job belongs to another vault."""
    with context.inventory.writing() as tx:
        own, nonce = context.inventory.id, os.urandom(16)
        row = runs.get_or_create_job(tx, job.name, vault, job_id_of(own, nonce), made_by=own, nonce=nonce)
        if row.vault != vault:
            kept_in = runs.vault_of_job(tx, row.number)
            raise ConfigError(
                f"job {job.name} is kept in vault {kept_in}, and the config says {context.vault.name}",
                advice=f'set the vault of job {job.name} to "{kept_in}" again; '
                "or give the job a new name, and it begins anew",
            )
        return row, runs.open_backup(tx, row, context.clock.now())


@contextmanager
def recorded_end(context: BackupContext, run: Run) -> Iterator[None]:
    """A context manager that records an end without a snapshot; after a kill, the next run does that."""
    try:
        with as_stopped(context.stop):
            yield
    except (NightvaultError, KeyboardInterrupt) as error:
        _fail_run(context, run, error)
        raise


def _fail_run(context: BackupContext, run: Run, error: BaseException) -> None:
    with suppress(NightvaultError), context.inventory.writing() as tx:  # the first error is the one to report
        if archives.catalog_of_run(tx, run.number) is not None:
            return  # its catalog may still arrive: the next run decides
        entries.discard_staged(tx, run.number)
        report = failure_report(error) if isinstance(error, NightvaultError) else {"error": str(error)}
        runs.finish_run(tx, run.number, runs.outcome_of(error), report, context.clock.now())


def with_failures(report: BackupReport, failed: Sequence[str], context: BackupContext) -> BackupReport:
    """Return the report as partial, also in the run's record: a hook after the snapshot failed."""
    if not failed:
        return report
    report = report.as_partial(*failed)
    with context.inventory.writing() as tx:
        runs.finish_run(tx, report.run, report.outcome, report.document(), context.clock.now())
    return report


def with_strangers(
    report: BackupReport, others: Sequence[OpenStranger], context: BackupContext
) -> BackupReport:
    """Return the report as partial because of new strangers, each only once."""
    new = [stranger for stranger in others if not stranger.was_told]
    if not new:
        return report
    vault = context.vault.name
    told = [
        f"{stranger.text()}. Nothing is deleted until somebody answers: if this server was rebuilt "
        f"elsewhere, use that one; else `nightvault check --vault {vault} --accept {stranger.pack}` leaves "
        "it out"
        for stranger in new
    ]
    report = report.as_partial(*told)
    with context.inventory.writing() as tx:
        mark_told(tx, vault, context.clock.now())
        runs.finish_run(tx, report.run, report.outcome, report.document(), context.clock.now())
    return report
