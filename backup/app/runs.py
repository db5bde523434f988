"""Backups and the contexts of restores, made from a config."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

from backup import __version__
from backup.app.filters import filters_of, overrides_of, own_directories
from backup.app.malloc import share_freed_memory
from backup.app.metrics import metrics_after
from backup.app.recovery_lines import keep_line
from backup.app.run_context import RunContext
from backup.app.source_warnings import nested_vaults
from backup.app.start_pings import StartPings
from backup.app.state import State, parse_recipients
from backup.app.unusual_runs import unusual_in
from backup.app.vaults import Purpose, make_vault
from backup.archiver.backup import run_backup
from backup.archiver.hooks import Command as HookCommand
from backup.archiver.hooks import Hook, Hooks, passed_on
from backup.archiver.report import BackupReport
from backup.archiver.settings import BackupContext, BackupJob, Keys, Sending
from backup.config import CommandSettings, Config, JobSettings, most_parts_at_once, part_size_within
from backup.cores import usable_cores
from backup.errors import ConfigError, InventoryDamagedError
from backup.format.keys import Signer
from backup.inventory import runs
from backup.inventory.database import Inventory, open_inventory
from backup.memory import backup_memory, fetched_piece, frame_openers
from backup.model import MIB, JobName, VaultName
from backup.protocols import Clock, Progress
from backup.restorer.context import RestoreContext
from backup.source.streams import Command, Device, StandardInput
from backup.transfer.retry import Reach

TO_FETCH = timedelta(hours=12)
"""The time in which a round of retrievals is fetched: half of the day that outputs last at least."""
LEAST_MEASURED = 64 * MIB
GUESSED_LINK = 4.0 * MIB


def opened(config: Config) -> Inventory:
    """The config's inventory. `NoInventoryError` (10) if there is none."""
    return open_inventory(config.inventory_url, lock_directory=config.state_dir)


def recipients_of(config: Config) -> tuple[str, ...]:
    """The recipients: the config's, or those that `init` noted."""
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
    enrolled = state.read_enrolments()
    enrolments = tuple((one.id, enrolled[one.id]) for one in recipients if one.id in enrolled)
    return Keys(signer, state.read_secret(), recipients, enrolments)


def read_signer(state: State, inventory: Inventory) -> Signer:
    """The signer that the inventory was made with; what another one signs could not be restored."""
    signer = state.read_signer()
    if signer.public != inventory.signer_public:
        raise InventoryDamagedError(
            f"the signer in {state.keys} is not the one that this inventory was made with",
            advice="bring keys and inventory from the same copy of the state directory",
        )
    return signer


def backup_job(config: Config, job: JobSettings) -> BackupJob:
    """The job as the archiver takes it, from its settings."""
    vault, memory = config.vault(job.vault), config.limits.memory
    own = own_directories(State(config.state_dir))
    return BackupJob(
        name=job.name,
        sources=tuple(os.fsencode(source) for source in job.paths),
        filters=filters_of(job, own),
        overrides=overrides_of(job, own),
        hooks=_hooks(config, job),
        pack_size=vault.pack_size,
        part_size=part_size_within(vault, memory),
        level=job.compression_level,
        memory=backup_memory(memory, usable_cores(config.limits.cores)),
        most_parts_at_once=most_parts_at_once(vault, memory),
        parts_are_fixed=vault.parts_at_once is not None,
        streams=(*map(_command, job.command), *(Device(os.fsencode(path)) for path in job.devices)),
    )


def _command(settings: CommandSettings) -> Command:
    name, run = os.fsencode(settings.name), settings.run
    return Command(name, run, settings.timeout, settings.environment, settings.user)


def only_stdin(job: BackupJob, name: str) -> BackupJob:
    """A job that reads none of its sources, and saves standard input as a file of that name."""
    return replace(job, streams=(StandardInput(os.fsencode(name)),), only_streams=True)


def _hooks(config: Config, job: JobSettings) -> Hooks:
    """The job's commands; their environment has no secret of ours."""
    named = {
        Hook.BEFORE: job.hooks.before,
        Hook.AFTER: job.hooks.after,
        Hook.ON_FAILURE: job.hooks.on_failure,
        Hook.FINALLY: job.hooks.finally_,
    }
    commands = {
        hook: [HookCommand(one.run, one.timeout or job.hooks.timeout) for one in those]
        for hook, those in named.items()
    }
    ours = {"JOB": job.name, "VAULT": job.vault, "CONFIG": config.path, "STATE_DIR": config.state_dir}
    environment = passed_on(os.environ) | {f"NIGHTVAULT_{name}": value for name, value in ours.items()}
    return Hooks(commands, environment)


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
    reach: Reach | None = None,
) -> BackupReport:
    """The report of a backup of one job, or of standard input alone if `stdin` names it.

    `reread` reads files that seem unchanged, too.
    `disks_gone` are mount points whose file systems will not come back; `tags` are of the new snapshot.
    """
    job = config.job(name)
    what = replace(backup_job(config, job), reread=reread, disks_gone=disks_gone, tags=tags)
    if stdin is not None:
        what = only_stdin(what, stdin)
    with metrics_after(config, clock), closing(opened(config)) as inventory:
        at = RunContext(
            config=config,
            inventory=inventory,
            clock=clock,
            progress=progress,
            stop=stop.is_set,
            reach=reach or Reach(),
        )
        keys, context = read_keys(config, inventory), backup_context(at, job.vault)
        with StartPings(config, name, inventory.id, stop.is_set) as pings:
            context = replace(context, begun=pings.send)
            report = run_backup(what, keys, context, accept_recipients=accept_recipients)
        with inventory.reading() as tx:
            run = runs.find_run(tx, report.run)
            unusual = unusual_in(tx, run) if run is not None else []
    nested = () if stdin is not None else nested_vaults(config, job)
    return keep_line(config, replace(report, warnings=[*report.warnings, *unusual, *nested]))


def backup_context(at: RunContext, vault: VaultName) -> BackupContext:
    """The context of whatever stores into a vault."""
    return BackupContext(
        inventory=at.inventory,
        vault=make_vault(at.config, vault, Purpose.BACKUP, at.clock, stop=at.stop),
        clock=at.clock,
        progress=at.progress,
        spool=State(at.config.state_dir).spool,
        host=socket.gethostname(),
        program=f"nightvault {__version__}",
        stop=at.stop,
        reach=at.reach,
    )


def sending_to(config: Config, vault: VaultName) -> Sending:
    """How catalogs are sent to a vault, whichever job they are of."""
    settings, memory = config.vault(vault), config.limits.memory
    return Sending(
        part_size_within(settings, memory),
        most_parts_at_once(settings, memory),
        settings.parts_at_once is not None,
    )


def restore_context(
    config: Config,
    inventory: Inventory,
    vault: VaultName,
    *,
    clock: Clock,
    progress: Progress,
    stop: Callable[[], bool] | None = None,
    reach: Reach | None = None,
) -> RestoreContext:
    """The context of a restore from a vault; `stop` ends what waits within a `download_limit`."""
    share_freed_memory()
    state = State(config.state_dir)
    opened_vault = make_vault(config, vault, Purpose.RESTORE, clock, stop=stop)
    return RestoreContext(
        inventory=inventory,
        vault=opened_vault,
        clock=clock,
        progress=progress,
        secret=state.read_secret(),
        key_directory=state.restores,
        askers=opened_vault.traits.requests_at_once,
        spared=(config.state_dir, *(os.fspath(one.path) for one in config.vaults if one.path)),
        piece=fetched_piece(config.limits.memory),
        openers=frame_openers(config.limits.memory, usable_cores(config.limits.cores)),
        round_bytes=int(TO_FETCH.total_seconds() * link_from(config, inventory, vault).speed),
        reach=reach or Reach(),
    )


class LinkOrigin(StrEnum):
    """Where the speed of a link comes from; part of the JSON interface."""

    SET = "set"
    MEASURED = "measured"
    ASSUMED = "assumed"
    LIMITED = "limited"


@dataclass(frozen=True, slots=True)
class Link:
    """How fast archives come down: bytes a second, and how that is known."""

    speed: float
    origin: LinkOrigin


def link_from(config: Config, inventory: Inventory, vault: VaultName) -> Link:
    """The link, or the vault's own lowest limit if that is lower."""
    link = _link(config, inventory)
    limit = min((window.limit for window in config.vault(vault).download_limit), default=None)
    return link if limit is None or limit >= link.speed else Link(float(limit), LinkOrigin.LIMITED)


def link_speed(config: Config, inventory: Inventory) -> float:
    """The bytes per second that are fetched from vaults."""
    return _link(config, inventory).speed


def _link(config: Config, inventory: Inventory) -> Link:
    if config.restore.link is not None:
        return Link(float(config.restore.link), LinkOrigin.SET)
    with inventory.reading() as tx:
        measured = runs.restore_speed(tx, least=LEAST_MEASURED)
    if measured is None:
        return Link(GUESSED_LINK, LinkOrigin.ASSUMED)
    return Link(measured, LinkOrigin.MEASURED)
