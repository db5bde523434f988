"""Backups by a config, each followed by what its job forgets."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from msgspec import Struct
from msgspec.structs import replace

from backup.app.backups.contexts import backup_context, backup_job, only_stdin, read_keys
from backup.app.backups.recovery_lines import keep_line
from backup.app.backups.source_warnings import own_as_sources, own_in_sources, saved_own, wholly_left_out
from backup.app.base.malloc import share_freed_memory
from backup.app.base.run_context import RunContext
from backup.app.status.unusual import unusual_in
from backup.archiver.backup import run_backup
from backup.catalogs.context import BackupJob
from backup.catalogs.report import BackupReport
from backup.config import Config, JobSettings
from backup.errors import NightvaultError
from backup.inventory.records import runs
from backup.inventory.store.database import Inventory
from backup.kinds import Outcome, RunKind
from backup.memory import database_cache
from backup.model import KIB, MIB, JobName, VaultName
from backup.operations.forget import ForgetReport, forget_after
from backup.protocols import Progress
from backup.reports import Fact
from backup.source.scan import scan
from backup.transfer.retry import RetryLimit

if TYPE_CHECKING:
    from backup.notify.start_pings import StartPings

_COUNTING = 0.2  # of one core, of what counts a job's sources beside its first backup


class BackupOptions(Struct, frozen=True):
    """Options of one run beside its job's settings.

    `reread`: files that seem unchanged are read, too. `disks_gone`: mount points whose file systems will not
    come back. `tags` are of the new snapshot. `stdin`: standard input alone is saved, as a file of that name.
    """

    reread: bool = False
    accept_recipients: bool = False
    stdin: str | None = None
    disks_gone: frozenset[bytes] = frozenset()
    tags: tuple[str, ...] = ()


class BackupDone(Struct, frozen=True):
    """The report of a backup, and of the forget that followed; None if the job does not forget then."""

    report: BackupReport
    forgot: ForgetReport | None = None
    waits_for: str = ""

    @property
    def subject(self) -> str:
        """The run in words."""
        return self.report.subject

    @property
    def outcome(self) -> Outcome:
        """Partial also where the policy could not be applied."""
        has_failed = self.forgot is not None and self.forgot.has_failed
        return Outcome.PARTIAL if has_failed else self.report.outcome

    @property
    def warnings(self) -> Sequence[str]:
        """Those of both: the backup's report has the other's, too."""
        return self.report.warnings

    def facts(self, currency: str = "USD") -> Iterator[Fact]:
        """Facts on what was saved, then on what was forgotten."""
        yield from self.report.facts(currency)
        if self.forgot is not None:
            yield from self.forgot.counts()

    def document(self) -> dict[str, Any]:
        """The backup's, with the ids of the snapshots that were forgotten; null if none were to be."""
        forgot = None if self.forgot is None or self.forgot.has_failed else list(self.forgot.snapshots)
        return {**self.report.document(), "forgotten": forgot}


class Backup(Struct, frozen=True):
    """A backup of one job; it opens and ends the row of its run itself, as its archives name the run."""

    kind: ClassVar[RunKind] = RunKind.BACKUP
    of_job: ClassVar[bool] = True
    records_itself: ClassVar[bool] = True
    at: RunContext
    settings: JobSettings
    options: BackupOptions = BackupOptions()

    @classmethod
    def of(cls, at: RunContext, name: str) -> Self:
        """The backup of that job."""
        return cls(at, at.config.job(name))

    @staticmethod
    def about(config: Config, name: str) -> dict[str, object]:
        """Its vault."""
        return {"vault": config.job(name).vault}

    @property
    def name(self) -> JobName:
        """Its job."""
        return self.settings.name

    def step(self, retry_limit: RetryLimit | None = None) -> BackupDone:
        """Back up the job, then forget what its policy does not keep, if it is configured so."""
        at = self.at.within(retry_limit)
        return BackupDone(*forget_after(at, self._save(at)))

    def _save(self, at: RunContext) -> BackupReport:
        share_freed_memory(MIB)
        config, inventory, settings = at.config, at.inventory, self.settings
        inventory.connections.keep_less(database_cache(config.limits.memory) // KIB)
        saved = saved_own(config, settings, inventory)
        job = job_of(config, settings, self.options, saved)
        shown = BackupProgress(job, at.progress)
        keys = read_keys(config, inventory)
        context = backup_context(replace(at, progress=shown), settings.vault)
        with shown, _pings(config, settings.name, inventory, at.stop) as pings:
            if pings is not None:
                context = replace(context, begun=pings.send)
            report = run_backup(job, keys, context, accept_recipients=self.options.accept_recipients)
        warnings: list[str] = []
        if self.options.stdin is None:
            report = _with_wholly_left_out(report, settings, at)
            warnings = [*own_in_sources(config, settings, saved), *own_as_sources(config, settings)]
        if config.vault(settings.vault).kind == "s3":
            from backup.app.backups.bucket_watch import switched

            warnings += switched(at, VaultName(settings.vault), context.vault)
        with inventory.reading() as tx:
            run = runs.find_run(tx, report.run)
            unusual = unusual_in(tx, run) if run is not None else []
        return keep_line(config, replace(report, warnings=[*report.warnings, *unusual, *warnings]))


def job_of(
    config: Config, settings: JobSettings, options: BackupOptions, saved: Sequence[str] | None = None
) -> BackupJob:
    """The job as the archiver takes it, with the options of a run; `saved`: see `saved_own`."""
    job = replace(
        backup_job(config, settings, saved_own(config, settings) if saved is None else saved),
        reread=options.reread,
        disks_gone=options.disks_gone,
        tags=options.tags,
    )
    return job if options.stdin is None else only_stdin(job, options.stdin)


def _with_wholly_left_out(report: BackupReport, job: JobSettings, at: RunContext) -> BackupReport:
    """The report as partial, also in the run's record, where the job leaves out all of a source."""
    with at.inventory.reading() as tx:
        told = wholly_left_out(tx, job)
    if not told:
        return report
    report = replace(report, outcome=Outcome.PARTIAL, warnings=[*report.warnings, *told])
    with at.inventory.writing() as tx:
        runs.finish_run(tx, report.run, report.outcome, report.document(), at.clock.now())
    return report


def _pings(
    config: Config, job: JobName, inventory: Inventory, stop: Callable[[], bool]
) -> AbstractContextManager[StartPings | None]:
    """Return the pings of a started run; without such channels nothing is imported for them."""
    if not config.notify.channel:
        return nullcontext()
    from backup.app.telling.channels import chosen_channels
    from backup.inventory.store.states import MessageKind
    from backup.notify.start_pings import StartPings

    channels = chosen_channels(config, MessageKind.RUN, job, os.environ)
    return StartPings(channels, inventory.id, stop)


class BackupProgress:
    """A `Progress` of a backup: its speed is the upload's; without a `total` the sources are counted."""

    def __init__(self, job: BackupJob, progress: Progress) -> None:
        self._job = job
        self._inner = progress
        self._stop = threading.Event()
        self._counting: threading.Thread | None = None
        self.advance = progress.advance
        self.note = progress.note
        self.expect = progress.expect
        self.finish = progress.finish

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._counting is not None:
            self._counting.join()

    @property
    def is_counting(self) -> bool:
        """Whether the sources are being counted, or were."""
        return self._counting is not None

    def start(self, title: str, total: int | None = None, *, counts: str = "file") -> None:
        """Begin a phase; if its total is not known, the sources are counted."""
        self._inner.start(title, total, counts=counts)
        self._inner.expect(total, sends=True)
        counts_all = not (self._job.only_streams or self._job.containers)
        if total is None and self._counting is None and counts_all:
            self._counting = threading.Thread(target=self._count, name="expected-bytes", daemon=True)
            self._counting.start()

    def _count(self) -> None:
        with suppress(NightvaultError, OSError, RecursionError):
            total = bytes_in(self._job, self._stop.wait)
            if total is not None:
                self._inner.expect(total, sends=True)


def bytes_in(job: BackupJob, pause: Callable[[float], bool]) -> int | None:
    """Return the size of all files in a job's sources; None if `pause`, called between directories, says so.

    Unreadable entries are left out: the backup reports them.
    """
    total, began = 0, time.monotonic()
    found = scan(job.sources, filters=job.filters, overrides=job.overrides, report=lambda _: None)
    for directory in found:
        for entry in directory.entries:
            if stat.S_ISREG(entry.stat.st_mode):
                total += entry.stat.st_size
        took = time.monotonic() - began
        if pause(took * (1 - _COUNTING) / _COUNTING):
            found.close()
            return None
        began = time.monotonic()
    return total
