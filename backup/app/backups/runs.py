"""Backups by a config: job, keys and context are made from it; `run_job` is a whole backup."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from msgspec.structs import replace

from backup import __version__
from backup.app.backups.recovery_lines import keep_line
from backup.app.backups.run_context import RunContext, attempt
from backup.app.backups.source_warnings import own_as_sources, own_in_sources, saved_own, wholly_left_out
from backup.app.base.filters import filters_of, overrides_of, own_directories, own_patterns
from backup.app.base.malloc import share_freed_memory
from backup.app.base.opened import opened
from backup.app.base.state import State, parse_recipients
from backup.app.base.vaults import Purpose, make_vault
from backup.app.status.metrics_file import metrics_after
from backup.app.status.unusual import unusual_in
from backup.archiver.backup import run_backup
from backup.catalogs.context import BackupContext, BackupJob, Keys, Sending
from backup.catalogs.hooks import Command as HookCommand
from backup.catalogs.hooks import Hook, Hooks, passed_on
from backup.catalogs.report import BackupReport
from backup.config import CommandSettings, Config, JobSettings, most_parts_at_once, part_size_within
from backup.cores import usable_cores
from backup.errors import ConfigError, InventoryDamagedError, NightvaultError
from backup.format.enrolment import slots
from backup.format.frame import FOR_A_LINE
from backup.format.keys import Recipient, Signer
from backup.inventory.records import runs
from backup.inventory.records.runs import Outcome, RunKind
from backup.inventory.store.database import Inventory
from backup.memory import backup_memory
from backup.model import JobName, VaultName
from backup.protocols import Clock, Progress
from backup.source.scan import scan
from backup.source.streams import Command, Device, StandardInput
from backup.transfer.retry import RetryLimit

if TYPE_CHECKING:
    from backup.notify.start_pings import StartPings

_COUNTING = 0.2  # of one core, of what counts a job's sources beside its first backup


def recipients_of(config: Config) -> tuple[str, ...]:
    """Return the recipients of the config, or those that `init` saved."""
    return config.recipients or State(config.state_dir).read_recipients()


def read_keys(config: Config, inventory: Inventory) -> Keys:
    """The keys that this server seals with. `InventoryDamagedError` if its signer is not the inventory's."""
    state = State(config.state_dir)
    signer = read_signer(state, inventory)
    recipients = parse_recipients(recipients_of(config))
    if not recipients:
        raise ConfigError(
            "there is no recipient to seal for", advice="name one in [encryption], or run `nightvault init`"
        )
    own = {recipient.id for recipient in recipients}
    signed = {name: enrolment for name, enrolment in state.read_signed_enrolments().items() if name in own}
    signatures = {name: enrolment.signature for name, enrolment in signed.items()}
    in_order = [Recipient.from_text(text).id for text in recipients_of(config)]
    return Keys(
        signer,
        state.read_secret(),
        recipients,
        slots(in_order, state.read_enrolments(), signatures),
        tuple(enrolment.key for enrolment in signed.values()),
        next((signatures[name] for name in in_order if name in signatures), b""),
    )


def read_signer(state: State, inventory: Inventory) -> Signer:
    """Return the inventory's own signer; packs that another one signs could not be restored."""
    signer = state.read_signer()
    if signer.public != inventory.signer_public:
        raise InventoryDamagedError(
            f"the signer in {state.keys} is not the one that this inventory was made with",
            advice="bring keys and inventory from the same copy of the state directory",
        )
    return signer


def backup_job(config: Config, job: JobSettings, saved: Collection[str] = ()) -> BackupJob:
    """Return the job for the archiver, made from its settings; `saved` is the result of `saved_own`.

    `ConfigError` if root would run commands from a config that others can change.
    """
    vault, memory = config.vault(job.vault), config.limits.memory
    if job.command:
        config.require_own(f"the commands of job {job.name}")
    own, left = own_directories(config, job, saved), own_patterns(config, job)
    return BackupJob(
        name=job.name,
        sources=tuple(os.fsencode(source) for source in job.paths),
        filters=filters_of(job, own, left),
        overrides=overrides_of(job, own, left),
        hooks=_hooks(config, job),
        pack_size=vault.pack_size,
        part_size=part_size_within(vault, memory),
        level=job.compression_level or (None if vault.kind == "directory" else FOR_A_LINE),
        memory=backup_memory(memory, usable_cores(config.limits.cores)),
        most_parts_at_once=most_parts_at_once(vault, memory),
        parts_are_fixed=vault.parts_at_once is not None,
        may_shrink=job.may_shrink,
        streams=(*map(_command, job.command), *(Device(os.fsencode(path)) for path in job.devices)),
    )


def _command(settings: CommandSettings) -> Command:
    name, run = os.fsencode(settings.name), settings.run
    return Command(name, run, settings.timeout, settings.environment, settings.user, settings.allow_empty)


def only_stdin(job: BackupJob, name: str) -> BackupJob:
    """Return a job that reads no source, and saves standard input as a file of that name."""
    return replace(job, streams=(StandardInput(os.fsencode(name)),), only_streams=True)


def _hooks(config: Config, job: JobSettings) -> Hooks:
    """The job's commands; their environment has no secret of ours."""
    named = {
        Hook.BEFORE: job.hooks.before,
        Hook.AFTER: job.hooks.after,
        Hook.ON_FAILURE: job.hooks.on_failure,
        Hook.FINALLY: job.hooks.finally_,
    }
    if any(named.values()):
        config.require_own(f"the hooks of job {job.name}")
    commands = {
        hook: [HookCommand(command.run, command.timeout or job.hooks.timeout) for command in commands_of]
        for hook, commands_of in named.items()
    }
    ours = {"JOB": job.name, "VAULT": job.vault, "CONFIG": config.path, "STATE_DIR": config.state_dir}
    environment = passed_on(os.environ) | {f"NIGHTVAULT_{name}": value for name, value in ours.items()}
    return Hooks(commands, environment)


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
        if total is None and self._counting is None and not self._job.only_streams:
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


def run_job(
    config: Config,
    name: JobName,
    *,
    clock: Clock,
    progress: Progress,
    stop: threading.Event,
    accept_recipients: bool = False,
    reread: bool = False,
    stdin: str | None = None,
    disks_gone: frozenset[bytes] = frozenset(),
    tags: tuple[str, ...] = (),
    retry_limit: RetryLimit | None = None,
) -> BackupReport:
    """Back up one job, or only standard input if `stdin` names it; returns the report.

    `reread` reads files that seem unchanged, too.
    `disks_gone` are mount points whose file systems will not come back; `tags` are of the new snapshot.
    """
    share_freed_memory()
    job = config.job(name)
    with (
        metrics_after(config, clock),
        closing(opened(config)) as inventory,
        attempt(inventory, clock, RunKind.BACKUP, {"vault": job.vault}, name),
    ):
        saved = saved_own(config, job, inventory)
        what = replace(backup_job(config, job, saved), reread=reread, disks_gone=disks_gone, tags=tags)
        if stdin is not None:
            what = only_stdin(what, stdin)
        shown = BackupProgress(what, progress)
        at = RunContext(
            config=config,
            inventory=inventory,
            clock=clock,
            progress=shown,
            stop=stop.is_set,
            retry_limit=retry_limit or RetryLimit(),
        )
        keys, context = read_keys(config, inventory), backup_context(at, job.vault)
        with shown, _pings(config, name, inventory, stop) as pings:
            if pings is not None:
                context = replace(context, begun=pings.send)
            report = run_backup(what, keys, context, accept_recipients=accept_recipients)
        if stdin is None:
            report = _with_wholly_left_out(report, job, at)
        with inventory.reading() as tx:
            run = runs.find_run(tx, report.run)
            unusual = unusual_in(tx, run) if run is not None else []
    nested = () if stdin is not None else (*own_in_sources(config, job, saved), *own_as_sources(config, job))
    return keep_line(config, replace(report, warnings=[*report.warnings, *unusual, *nested]))


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
    config: Config, job: JobName, inventory: Inventory, stop: threading.Event
) -> AbstractContextManager[StartPings | None]:
    """Return the pings of a started run; without such channels nothing is imported for them."""
    if not config.notify.channel:
        return nullcontext()
    from backup.app.telling.channels import chosen_channels
    from backup.inventory.store.states import MessageKind
    from backup.notify.start_pings import StartPings

    channels = chosen_channels(config, MessageKind.RUN, job, os.environ)
    return StartPings(channels, inventory.id, stop.is_set)


def backup_context(at: RunContext, vault: VaultName) -> BackupContext:
    """Return the context of a run that stores into a vault."""
    return BackupContext(
        inventory=at.inventory,
        vault=make_vault(at.config, vault, Purpose.BACKUP, at.clock, stop=at.stop),
        clock=at.clock,
        progress=at.progress,
        spool=State(at.config.state_dir).spool,
        host=os.uname().nodename,
        program=f"nightvault {__version__}",
        stop=at.stop,
        retry_limit=at.retry_limit,
    )


def sending_to(config: Config, vault: VaultName) -> Sending:
    """Return how catalogs are sent to a vault, for any job."""
    settings, memory = config.vault(vault), config.limits.memory
    return Sending(
        part_size_within(settings, memory),
        most_parts_at_once(settings, memory),
        settings.parts_at_once is not None,
    )
