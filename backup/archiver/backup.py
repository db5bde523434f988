"""One backup run, told as a story.

    finish what a dead process left → open the run → scan, compare, read → packs → delta catalog → commit
    → a full catalog when one is due

Nothing is true before the delta catalog is stored; after that, the commit can be repeated from what was
prepared.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from backup.archiver.book import Book
from backup.archiver.commit import Committer
from backup.archiver.contents import Content, Contents
from backup.archiver.packing import Spool
from backup.archiver.pipeline import Pipeline
from backup.archiver.recovery import recover
from backup.archiver.report import BackupReport, Tally
from backup.archiver.settings import BackupJob, Keys, World
from backup.errors import ConfigError, InterruptedRunError, NightvaultError
from backup.format.keys import domain_id
from backup.inventory import archives, entries, runs, snapshots
from backup.inventory.entries import LiveEntry
from backup.inventory.numbers import NumberSupply
from backup.inventory.runs import JobRow, Outcome, Run
from backup.model import (
    ChunkId,
    Entry,
    EntryKind,
    Hint,
    Pack,
    PackKind,
    Problem,
    ProblemKind,
)
from backup.source.metadata import kind_of, owner_of, read_entry
from backup.source.read import NotAFileError
from backup.source.scan import ScannedDirectory, ScannedEntry, scan
from backup.transfer.upload import Uploader


def run_backup(job: BackupJob, keys: Keys, world: World, *, accept_recipients: bool = False) -> BackupReport:
    """Back a job up once. The report names every problem; what could not be read stays as it was.

    `LockedError` if another backup runs; any error leaves what was committed before as it is, and what was
    uploaded is not uploaded again.
    """
    with world.inventory.locked("backup"):
        spool = Spool(world.spool, world.inventory.id, keys.signer, keys.recipients, keys.secret.chunk_key)
        vault, domain = _domain(keys, world, accept=accept_recipients)
        with _uploader(job, world) as uploader:
            recover(
                uploader,
                spool,
                inventory=world.inventory,
                vault=world.vault,
                vault_number=vault,
                clock=world.clock,
            )
            row, run = _open(job, world, vault)
            try:
                report = _Backup(job, keys, world, spool, uploader, domain, row, run).run()
            except BaseException as error:
                _fail(world, run, error)
                raise
            return report


def _uploader(job: BackupJob, world: World) -> Uploader:
    return Uploader(
        inventory=world.inventory,
        vault=world.vault,
        clock=world.clock,
        progress=world.progress,
        spool=world.spool,
        part_size=job.part_size,
    )


def _domain(keys: Keys, world: World, *, accept: bool) -> tuple[int, int]:
    """The numbers of vault and dedup domain; a changed set of recipients must be accepted by the user."""
    ids = b"".join(sorted(recipient.id for recipient in keys.recipients))
    identity = domain_id(world.vault.name, keys.recipients, keys.secret)
    with world.inventory.writing() as tx:
        vault = archives.get_or_create_vault(tx, world.vault.name)
        known = archives.recipients_of_newest_domain(tx, vault)
        if known is not None and known != ids and not accept:
            raise ConfigError(
                f"the recipients of vault {world.vault.name} are not those of its last backup",
                advice="if you changed them yourself, run once with --accept-recipients; "
                "else find out who did, for they can read what is backed up from now on",
            )
        return vault, archives.get_or_create_domain(tx, identity, vault, ids, world.clock.now())


def _open(job: BackupJob, world: World, vault: int) -> tuple[JobRow, Run]:
    with world.inventory.writing() as tx:
        row = runs.get_or_create_job(tx, job.name, vault, os.urandom(16))
        if row.vault != vault:
            raise ConfigError(
                f"job {job.name} was backed up into another vault than {world.vault.name} before",
                advice="give the job a new name to begin anew there, or set its vault back",
            )
        return row, runs.open_backup(tx, row, world.clock.now())


def _fail(world: World, run: Run, error: BaseException) -> None:
    """Record the end of a run that did not make a snapshot; a killed process leaves that to the next run."""
    if isinstance(error, NightvaultError):
        stopped = isinstance(error, InterruptedRunError)
        outcome = Outcome.INTERRUPTED if stopped else Outcome.FAILED
    elif isinstance(error, KeyboardInterrupt):
        outcome = Outcome.INTERRUPTED
    else:
        return
    with world.inventory.writing() as tx:
        if archives.catalog_of_run(tx, run.number) is not None:
            return  # its catalog may still arrive: the next run decides
        entries.discard_staged(tx, run.number)
        runs.finish_run(tx, run.number, outcome, {"error": str(error)}, world.clock.now())


class _Backup:
    """The parts of one run, put together."""

    def __init__(
        self,
        job: BackupJob,
        keys: Keys,
        world: World,
        spool: Spool,
        uploader: Uploader,
        domain: int,
        row: JobRow,
        run: Run,
    ) -> None:
        self._job = job
        self._keys = keys
        self._world = world
        self._spool = spool
        self._uploader = uploader
        self._domain = domain
        self._row = row
        self._run = run
        self._tally = Tally()
        self._book = Book(world.inventory, job=row.number, run=run.number)

    def run(self) -> BackupReport:
        """Scan and send, then commit."""
        world = self._world
        supply = NumberSupply(world.inventory, "chunks")
        world.progress.start(f"Backing up {self._job.name}", self._expected())
        try:
            with Pipeline(
                open_pack=partial(self._spool.open_pack, PackKind.DATA),
                hand_on=self._submit,
                known=self._known,
                take_number=supply.take,
                level=self._job.level,
                pack_size=self._job.pack_size,
            ) as pipeline:
                contents = Contents(pipeline, self._keys.secret)
                for directory in scan(self._job.sources, filters=self._job.filters, report=self._report):
                    self._directory(directory, contents)
                contents.flush()
                pipeline.finish()
                self._book.flush()
                self._tally.read(contents.files_read, contents.bytes_read, pipeline.new_bytes)
                used = pipeline.used_archives
            self._uploader.drain()
        finally:
            self._book.close()
            world.progress.finish()
        committer = Committer(
            self._job, self._keys, world, self._spool, self._uploader, self._domain, self._row, self._run
        )
        return committer.commit(used, self._tally)

    def _expected(self) -> int | None:
        """Bytes that the last snapshot had: the best guess at what this one will."""
        with self._world.inventory.reading() as tx:
            before = snapshots.list_snapshots(tx, job=self._job.name)
        return before[-1].bytes if before else None

    def _known(self, ids: Iterable[ChunkId]) -> Mapping[bytes, archives.KnownChunk]:
        with self._world.inventory.reading() as tx:
            return archives.known_chunks(tx, self._domain, self._run.number, ids)

    def _submit(self, pack: Pack, spool_file: str, numbers: Sequence[int]) -> None:
        run = self._run.number
        self._uploader.submit(pack, spool_file, domain=self._domain, run=run, chunk_numbers=numbers)

    def _report(self, problem: Problem) -> None:
        self._tally.problems.append(problem)

    def _directory(self, directory: ScannedDirectory, contents: Contents) -> None:
        """Compare a directory with what the inventory has of it, and read what changed."""
        live = self._book.live(directory.path)
        for scanned in directory.entries:
            if self._world.stop():
                raise InterruptedRunError("the backup was stopped; what was uploaded is not uploaded again")
            self._entry(directory, scanned, live.pop(scanned.name, None), contents)
        for name, gone in live.items():
            if name not in directory.unread:
                path = directory.path.rstrip(b"/") + b"/" + name
                self._book.remove(path, gone, is_directory=gone.kind == EntryKind.DIRECTORY)

    def _entry(
        self, directory: ScannedDirectory, scanned: ScannedEntry, live: LiveEntry | None, contents: Contents
    ) -> None:
        found = scanned.stat
        self._tally.see(found)
        is_file = stat.S_ISREG(found.st_mode)
        self._world.progress.advance(files=1, done=found.st_size if is_file else 0)
        if live is not None and is_unchanged(live, found):
            return
        try:
            if is_file:
                then = partial(self._file_read, directory, scanned, live)
                contents.read(directory.handle, scanned.name, then)
            else:
                entry = read_entry(directory.path, directory.handle, scanned)
                self._add(entry, _hint(found), live)
        except OSError as error:
            self._unreadable(directory.path, scanned.name, error)

    def _file_read(
        self, directory: ScannedDirectory, scanned: ScannedEntry, live: LiveEntry | None, content: Content
    ) -> None:
        found = content.found
        entry = Entry(
            directory=directory.path,
            name=scanned.name,
            kind=EntryKind.FILE,
            mode=stat.S_IMODE(found.st_mode),
            owner=owner_of(found),
            mtime_ns=found.st_mtime_ns,
            size=content.size,
        )
        hint = _hint(found)
        if content.changed:
            detail = "it changed while it was read, twice; saved as read"
            self._report(Problem(entry.path, ProblemKind.CHANGED, detail))
            hint = Hint(0, 0, 0)  # so that it is read again next time
        self._add(entry, hint, live, content)

    def _add(self, entry: Entry, hint: Hint, live: LiveEntry | None, content: Content | None = None) -> None:
        if live is not None and live.kind == EntryKind.DIRECTORY and entry.kind is not EntryKind.DIRECTORY:
            self._book.remove(entry.path, live, is_directory=True)
            live = None
        self._book.add(
            entry,
            hint,
            replaces=live,
            content_id=content.content_id if content else None,
            chunks=content.chunks if content else None,
        )

    def _unreadable(self, directory: bytes, name: bytes, error: OSError) -> None:
        vanished = isinstance(error, (FileNotFoundError, NotAFileError))
        kind = ProblemKind.VANISHED if vanished else ProblemKind.UNREADABLE
        path = directory.rstrip(b"/") + b"/" + name
        self._report(Problem(path, kind, error.strerror or str(error)))


def is_unchanged(live: LiveEntry, found: os.stat_result) -> bool:
    """Whether an entry is what the newest snapshot has: size, times and inode tell, as nobody sets ctime."""
    kind = kind_of(found.st_mode)
    return (
        live.ctime_ns == found.st_ctime_ns
        and live.inode == found.st_ino
        and live.mtime_ns == found.st_mtime_ns
        and live.kind == kind
        and live.mode == stat.S_IMODE(found.st_mode)
        and (kind is not EntryKind.FILE or live.size == found.st_size)
    )


def _hint(found: os.stat_result) -> Hint:
    return Hint(found.st_dev, found.st_ino, found.st_ctime_ns)
