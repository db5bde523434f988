"""One backup run from beginning to end.

    open the run → finish what a dead process left → scan, compare, read → packs → delta catalog → commit
    → a full catalog when one is due

Nothing is committed before the delta catalog is stored; then the commit can be repeated from what was staged.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial

from backup.archiver.compare import differing, differing_at_a_glance, is_newly_mounted, is_to_read
from backup.archiver.contents import Contents
from backup.archiver.entry_stager import Staging
from backup.archiver.links import Links
from backup.archiver.pipeline import Pipeline
from backup.archiver.predicted_cuts import earlier_chunks
from backup.archiver.read_ahead import ReadAhead
from backup.archiver.run_record import RunProgress, open_run, recorded_end, with_failures, with_strangers
from backup.archiver.scanning import scan_sources
from backup.archiver.staged_changes import StagedChanges
from backup.archiver.streams import Streams
from backup.archiver.unmounted import (
    COVERED,
    LINKED,
    UNMOUNTED,
    UNPLUGGED,
    became_link,
    is_missed,
    is_unmounted,
    lost_mounts,
    roots_now,
)
from backup.archiver.writer_thread import WriterThread
from backup.catalogs.catalogs import PackContents
from backup.catalogs.commit import Committer
from backup.catalogs.context import BackupContext, BackupJob, Keys, OpenBackup, require_a_source
from backup.catalogs.delta import Delta
from backup.catalogs.hooks import Hook, HookRun
from backup.catalogs.recovery import recover
from backup.catalogs.report import BackupReport, SourceCounts, Tally
from backup.catalogs.run_setup import (
    confirm_unlisted,
    open_spool,
    open_uploader,
    require_domain,
    require_ours,
)
from backup.errors import InterruptedRunError
from backup.inventory.content import entries, packed, snapshots
from backup.inventory.content.entries import LiveEntry
from backup.inventory.content.lost import directories_with, to_store_anew
from backup.inventory.content.numbers import NumberSupply
from backup.inventory.store.times import micros
from backup.model import ChunkId, EntryKind, Pack, PackKind, Problem, ProblemKind
from backup.protocols import phase
from backup.source.roots import symlinks_among
from backup.source.scanned import ScannedDirectory, ScannedEntry
from backup.source.small import LARGEST, is_plain, small_runs
from backup.source.streams import NAME as STREAMS
from backup.source.streams import TOP
from backup.transfer.upload import Outgoing


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
    spool = open_spool(keys, job.sending, context)
    vault, domain = require_domain(keys, context, accept=accept)
    row, run = open_run(job, context, vault)
    hooks.begun(run.number)
    context.begun(run.number)
    with recorded_end(context, run):
        others = require_ours(keys, context, is_backup=True)
        with open_uploader(job.sending, context) as uploader:
            recover(
                uploader,
                spool,
                keys,
                inventory=context.inventory,
                vault=context.vault,
                vault_number=vault,
                clock=context.clock,
                before=run.number,
            )
            confirm_unlisted(context)
            began = context.stamps()
            hooks.before()
            require_a_source(job)
            at = OpenBackup(
                job=job,
                keys=keys,
                context=context,
                spool=spool,
                uploader=uploader,
                domain=domain,
                row=row,
                run=run,
                level=job.level,
            )
            return with_strangers(_Backup(at, began).run(), others, context)


class _Backup:
    """One run with its parts."""

    def __init__(self, at: OpenBackup, began: int) -> None:
        self._at = at
        self._tally = Tally()
        self._report = self._tally.problems.append
        self._progress = RunProgress(at.context.progress, self._tally, at.uploader)
        self._unmounted: set[bytes] = set()
        self._links = Links()
        with at.context.inventory.reading() as tx:
            before = snapshots.list_snapshots(tx, job=at.job.name)
            self._newest = before[-1] if before else None  # the best estimate for this one
            self._roots = roots_now(at.job, before)
            self._lost_chunks = to_store_anew(tx, at.context.vault.name)
            self._not_at_a_glance = directories_with(tx, at.row.number, self._lost_chunks)
        self._writer = WriterThread()
        self._delta = Delta(at)
        self._staged = StagedChanges(
            at.context.inventory,
            job=at.row.number,
            run=at.run.number,
            domain=at.domain,
            lost=self._lost_chunks,
            delta=self._delta,
            writer=self._writer,
        )
        self._staging = Staging(
            self._staged,
            self._links,
            self._report,
            at.context.stamps,
            began,
            may_be_frozen=bool(at.job.hooks.commands.get(Hook.BEFORE)),
        )

    def run(self) -> BackupReport:
        """Scan and upload, then commit."""
        expected = None if self._newest is None else self._newest.bytes
        title = phase(self._at.context.progress, f"Backing up {self._at.job.name}", expected)
        with title, closing(self._delta), closing(self._writer):
            return self._run()

    def _run(self) -> BackupReport:
        context = self._at.context
        supply = NumberSupply(context.inventory, "chunks", ahead=self._writer.submit)
        memory = self._at.job.memory
        try:
            with Pipeline(
                open_pack=partial(self._at.spool.open_pack, PackKind.DATA),
                record=lambda *sealed: self._writer.submit(partial(self._record, *sealed)),
                send=self._send,
                known=self._known,
                supply=supply,
                level=self._at.job.level,
                pack_size=self._at.job.pack_size,
                workers=memory.workers,
                in_flight=memory.in_flight,
                largest=memory.frame,
                most_chunks=memory.chunks,
            ) as pipeline:
                reading = Contents(
                    *(pipeline, self._at.keys.secret, context.stamps, memory.batch),
                    earlier=lambda numbers: earlier_chunks(self._staged.reading(), numbers),
                    workers=memory.workers,
                )
                with closing(reading) as contents:
                    self._progress.follow(contents)
                    self._read(contents)
                self._staged.flush()
                pipeline.finish()
                self._writer.finish()
                self._tally.read(contents.files_read, contents.bytes_read, pipeline.new_bytes)
                self._tally.files_again = self._staged.stored_again
                used = pipeline.used_archives
            self._at.uploader.drain()
            self._delta.stored(self._at.uploader.take_stored())
        finally:
            self._staged.close()
        report = Committer(self._at, self._delta).commit(used, self._tally)
        self._progress.settle()
        return report

    def _read(self, contents: Contents) -> None:
        """Read streams first, then trees: a dump names no file that the scan after it misses."""
        job, context = self._at.job, self._at.context
        if job.only_streams:
            with context.inventory.reading() as tx:
                self._tally.files, self._tally.bytes = entries.count_live(tx, self._at.row.number)
        streams = Streams(
            job,
            self._staged,
            self._tally,
            now_ns=lambda: micros(context.clock.now()) * 1000,
            stop=context.stop,
        )
        streams.read(contents)
        if not job.only_streams:
            self._tally.warnings += (*symlinks_among(job.sources), *self._roots.warnings)
            self._tally.problems += self._roots.problems
            self._tally.roots = self._roots.paths
            reads = ReadAhead(
                *(contents, self._staging, self._at.keys.secret, context.stamps, job.memory.ahead),
                readers=job.memory.readers,
                warn=self._tally.warnings.append,
            )
            with closing(reads) as ahead:
                files = None if self._newest is None else self._newest.files
                scan = scan_sources(job, files, self._report, self._tally.warnings.append)
                counts, tally = SourceCounts(job.sources), self._tally
                with closing(scan) as directories:
                    for directory in directories:
                        files, size = tally.files, tally.bytes
                        self._directory(directory, ahead)
                        counts.add(directory.path, tally.files - files, tally.bytes - size)
                tally.by_source = counts.totals()
                ahead.drain()
        contents.flush()
        if not job.only_streams:
            streams.carry()

    def _known(self, ids: Iterable[ChunkId]) -> Mapping[bytes, packed.KnownChunk]:
        self._heed_stop()
        self._progress.tell()
        return packed.known_chunks(self._staged.reading(), self._at.domain, self._at.run.number, ids)

    def _record(self, pack: Pack, spool_file: str, numbers: Sequence[int]) -> Outgoing:
        domain, run = self._at.domain, self._at.run.number
        recorded = self._at.uploader.record(pack, spool_file, domain=domain, run=run, chunk_numbers=numbers)
        self._delta.recorded(recorded.archive.number, PackContents(pack.frames, numbers, pack.chunks))
        return recorded

    def _send(self, recorded: Outgoing) -> None:
        self._staged.end_view()  # the next look-up must see the chunks of this pack
        self._at.uploader.send(recorded)
        self._writer.submit(partial(self._delta.stored, self._at.uploader.take_stored()))

    def _heed_stop(self) -> None:
        if self._at.context.stop():
            raise InterruptedRunError("the backup was stopped; what was uploaded is not uploaded again")

    def _directory(self, directory: ScannedDirectory, ahead: ReadAhead) -> None:
        """Compare a directory with the inventory, and read what changed."""
        if self._unmounted and self._is_away(directory.path):
            return
        self._heed_stop()
        self._links.enter(directory)
        is_root = directory.path == b"/"
        if not is_root and not self._staged.knows(directory.path):
            self._new_directory(directory, ahead)
            return
        for scanned, live in self._differing(directory):
            if scanned is None:
                if live is not None:
                    self._gone(directory.prefix + live.name, live)
            elif is_root and scanned.name == STREAMS:
                self._report(Problem(TOP, ProblemKind.SKIPPED, "its name is kept for streams"))
                self._unmounted.add(TOP)
            else:
                found = scanned.stat
                self._tally.see(found)
                if live is None and found.st_size <= LARGEST and is_plain(found):
                    ahead.read(directory, scanned, None)  # most of a first backup
                elif (
                    live is None
                    or live.is_mount
                    or is_newly_mounted(live, scanned, directory)
                    or self._is_to_read(live, scanned)
                ):
                    self._entry(directory, scanned, live, ahead)
        self._progress.tell()

    def _differing(
        self, directory: ScannedDirectory
    ) -> Iterable[tuple[ScannedEntry | None, LiveEntry | None]]:
        """The pairs of `differing`, of a directory that some snapshot had."""
        path = directory.path
        some = partial(self._staged.looks, path, after=directory.after, until=directory.until)
        at_a_glance = not self._at.job.reread and path not in self._not_at_a_glance
        if at_a_glance:
            looks = directory.looks()
            found = differing_at_a_glance(looks, lambda most: some(most=most), self._tally)
            if found is not None:
                return (
                    (None if at is None else directory.entries[at], self._staged.live_entry(path, name))
                    for name, at in found
                    if at is not None or name not in directory.unread
                )
        known = self._staged.live(path, after=directory.after, until=directory.until)
        return differing(directory, known, self._tally, at_a_glance=at_a_glance)

    def _new_directory(self, directory: ScannedDirectory, ahead: ReadAhead) -> None:
        """Read everything in a directory that no snapshot ever had; runs of small files at once."""
        columns = directory.columns()
        every = range(len(directory.entries))
        for are_small, run in [(False, every)] if columns is None else small_runs(columns):
            if are_small and columns is not None:
                self._tally.see_files(len(run), sum(columns.sizes[run.start : run.stop]))
                ahead.read_new(directory, columns, run)
                continue
            for scanned in map(directory.entries.__getitem__, run):
                self._tally.see(scanned.stat)
                self._entry(directory, scanned, None, ahead)
        self._progress.tell()

    def _is_away(self, path: bytes) -> bool:
        """Whether a directory lies at or below one that is kept as the newest snapshot has it."""
        return any(path == root or path.startswith(root + b"/") for root in self._unmounted)

    def _gone(self, path: bytes, gone: LiveEntry) -> None:
        """Stage the end of a name that is gone, unless it belongs to a disk that is not mounted."""
        if path == TOP or self._roots.keep(path):
            return  # the inventory has no directory of that disk, or a source leads nowhere
        lost = lost_mounts(self._staged.reading(), self._at.job, self._at.row.number, path, gone)
        if lost:
            for root in lost:
                self._report(Problem(root, ProblemKind.UNREADABLE, UNPLUGGED))
            return
        self._staged.remove(path, gone, is_directory=gone.kind == EntryKind.DIRECTORY)

    def _entry(
        self, directory: ScannedDirectory, scanned: ScannedEntry, live: LiveEntry | None, ahead: ReadAhead
    ) -> None:
        self._heed_stop()
        self._progress.tell()
        path = directory.prefix + scanned.name
        if scanned.stat.st_dev != directory.device and stat.S_ISDIR(scanned.stat.st_mode):
            self._tally.mounted.append(path)
        if live is not None and became_link(self._at.job, path, live, scanned) and self._staged.holds(path):
            self._tally.warnings.append(f"{os.fsdecode(path)}: {LINKED}")
        if live is not None and is_newly_mounted(live, scanned, directory):
            if live.inode and self._staged.holds(path):  # otherwise nothing is known of its earlier state
                self._tally.warnings.append(f"{os.fsdecode(path)}: {COVERED}")
        elif live is not None and live.is_mount:
            is_away = is_unmounted(live, scanned, directory)
            if is_away and is_missed(self._staged.reading(), self._at.job, self._at.row.number, path):
                self._report(Problem(path, ProblemKind.UNREADABLE, UNMOUNTED))
                self._unmounted.add(path)
                return
            if not is_away and not self._is_to_read(live, scanned):
                return
        if not stat.S_ISREG(scanned.stat.st_mode):
            self._staging.no_file(directory, scanned, live)
        elif is_plain(scanned.stat):
            ahead.read(directory, scanned, live)
        else:
            read, lost = self._staging.file_read, self._staging.file_lost
            self._links.read(ahead, directory, scanned, partial(read, path, live), partial(lost, path))

    def _is_to_read(self, live: LiveEntry, scanned: ScannedEntry) -> bool:
        changed = is_to_read(self._at.job, live, scanned, self._staged.owners)
        changed = changed or self._lost_chunks.spoil(live.chunks)
        return changed or not self._links.are_known(live, scanned.stat)
