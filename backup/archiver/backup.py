"""A backup run from beginning to end.

    open the run → finish what a dead process left → scan, compare, read → packs → delta catalog → commit
    → a full catalog when one is due

Nothing is committed before the delta catalog is stored; then the commit can be repeated from what was staged.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, closing, nullcontext

from msgspec.structs import asdict, replace

from backup.archiver.contents import Contents
from backup.archiver.pipeline import Pipeline
from backup.archiver.predicted_cuts import earlier_chunks
from backup.archiver.run_record import (
    RunProgress,
    RunSink,
    open_run,
    recorded_end,
    with_failures,
    with_strangers,
)
from backup.archiver.staged_changes import StagedChanges
from backup.archiver.streams import Streams
from backup.archiver.trees import Trees
from backup.archiver.unmounted import with_volumes
from backup.archiver.writer_thread import WriterThread
from backup.catalogs.commit import Committer
from backup.catalogs.context import BackupContext, BackupJob, Keys, OpenBackup, require_a_source
from backup.catalogs.delta import Delta
from backup.catalogs.hooks import HookRun
from backup.catalogs.recovery import recover
from backup.catalogs.report import BackupReport, Tally
from backup.catalogs.run_setup import confirm_unlisted, open_vault, require_ours
from backup.inventory.content.snapshots import list_snapshots
from backup.protocols import phase


def run_backup(
    job: BackupJob, keys: Keys, context: BackupContext, *, accept_recipients: bool = False
) -> BackupReport:
    """Run one backup of a job. The report lists every problem; unreadable entries stay as they were.

    `LockedError` if another backup runs; any error leaves what was committed before as it is, and what was
    uploaded is not uploaded again.
    """
    with context.inventory.locked("backup"):
        hooks = HookRun(job.hooks, progress=context.progress, stop=context.stop)
        try:
            report = _backup(job, keys, context, hooks, accept=accept_recipients)
        except BaseException as error:
            hooks.failed(error)
            raise
        return with_failures(report, hooks.after(report), context)


def _backup(
    job: BackupJob, keys: Keys, context: BackupContext, hooks: HookRun, *, accept: bool
) -> BackupReport:
    """The run under its lock: from its record to its report."""
    vault = open_vault(keys, context, job.sending, accept=accept)
    row, run = open_run(job, context, vault.vault)
    at = OpenBackup(**asdict(vault), job=job, row=row, run=run)
    hooks.begun(run.number)
    context.begun(run.number)
    with recorded_end(context, run):
        others = require_ours(keys, context, is_backup=True)
        with at.uploader:
            recover(at, before=run.number)
            confirm_unlisted(context)
            began = context.stamps()
            hooks.before()
            at = replace(at, job=_with_volumes(job, context))
            require_a_source(at.job)
            backup = _Backup(at, began)
            report = with_failures(backup.run(), backup.not_well, context)
            return with_strangers(report, others, context)


def _with_volumes(job: BackupJob, context: BackupContext) -> BackupJob:
    if job.containers is None:
        return job
    with context.inventory.reading() as tx:
        before = list_snapshots(tx, job=job.name)
    return with_volumes(job, before)


class _Backup:
    """The order of one run, from its scan to its report."""

    def __init__(self, at: OpenBackup, began: int) -> None:
        self._at = at
        self.not_well: Sequence[str] = ()  # containers that should run again
        self._tally = Tally()
        self._progress = RunProgress(at, self._tally)
        self._writer = WriterThread()
        self._delta = Delta(at)
        self._staged = StagedChanges(at, self._delta, self._writer)
        self._streams = Streams(at, self._staged, self._tally)
        self._trees = Trees(at, self._staged, self._tally, self._progress, began)

    def run(self) -> BackupReport:
        """Scan, read and upload, then commit."""
        job, newest = self._at.job, self._trees.newest
        expected = None if newest is None else newest.bytes
        title = phase(self._at.context.progress, f"Backing up {job.name}", expected)
        with title, closing(self._delta), closing(self._writer):
            with closing(self._staged):
                sink = RunSink(self._at, self._staged, self._delta, self._writer, self._progress)
                used = self._pack(sink)
                sink.drain()
            report = Committer(self._at, self._delta).commit(used, self._tally)
            self._progress.settle()
            return report

    def _pack(self, sink: RunSink) -> Collection[int]:
        """Read what changed into packs; returns the archives that it needs besides the run's own."""
        job, memory = self._at.job, self._at.job.memory
        with Pipeline(sink, level=job.level, pack_size=job.pack_size, memory=memory) as pipeline:
            reading = Contents(
                *(pipeline, self._at.keys.secret, self._at.context.stamps, memory.batch),
                earlier=lambda numbers: earlier_chunks(self._staged.reading(), numbers),
                workers=memory.workers,
            )
            with closing(reading) as contents:
                self._progress.follow(contents)
                self._read(contents)
            self._staged.flush()
            pipeline.finish()
            self._tally.read(contents.files_read, contents.bytes_read, pipeline.new_bytes)
            self._tally.files_again = self._staged.stored_again
            return pipeline.used_archives

    def _read(self, contents: Contents) -> None:
        """Read streams first, then trees: a dump names no file that the scan after it misses."""
        self._streams.read(contents)
        if not self._at.job.only_streams:
            with self._containers_at_rest() as self.not_well:
                self._trees.read(contents)
        contents.flush()
        if not self._at.job.only_streams:
            self._streams.carry()

    def _containers_at_rest(self) -> AbstractContextManager[Sequence[str]]:
        job, context = self._at.job, self._at.context
        if job.containers is None:
            return nullcontext(())
        return job.containers.at_rest(context.inventory, context.clock, context.stop)
