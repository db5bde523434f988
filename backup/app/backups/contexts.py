"""The job, keys and context of a backup, made from the config."""

from __future__ import annotations

import os
from collections.abc import Collection

from msgspec.structs import asdict, replace

from backup import __version__
from backup.app.base.filters import filters_of, overrides_of, own_directories, own_patterns
from backup.app.base.run_context import RunContext
from backup.app.base.state import State, parse_recipients
from backup.app.base.vaults import Purpose
from backup.catalogs.context import BackupContext, BackupJob, Containers, Keys, Sending
from backup.catalogs.hooks import Command as HookCommand
from backup.catalogs.hooks import Hook, Hooks, passed_on
from backup.config import CommandSettings, Config, JobSettings, most_parts_at_once, part_size_within
from backup.cores import usable_cores
from backup.errors import ConfigError, InventoryDamagedError
from backup.format.enrolment import slots
from backup.format.frame import FOR_A_LINE
from backup.format.keys import Recipient, Signer
from backup.inventory.store.database import Inventory
from backup.memory import backup_memory
from backup.model import VaultName
from backup.source.streams import Command, Device, StandardInput, StreamList


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
    if job.command or job.database:
        config.require_own(f"the commands of job {job.name}")
    databases: tuple[StreamList, ...] = ()
    if job.database:
        from backup.app.backups.databases import databases_of  # few jobs have any

        databases = databases_of(config, job)
    containers: Containers | None = None
    if job.containers is not None:
        from backup.app.backups.containers import containers_of

        containers = containers_of(job.name, job.containers)
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
        databases=databases,
        containers=containers,
    )


def _command(settings: CommandSettings) -> Command:
    name, run = os.fsencode(settings.name), settings.run
    return Command(name, run, settings.timeout, settings.environment, settings.user, settings.allow_empty)


def only_stdin(job: BackupJob, name: str) -> BackupJob:
    """Return a job that reads no source, and saves standard input as a file of that name."""
    return replace(
        job, streams=(StandardInput(os.fsencode(name)),), databases=(), containers=None, only_streams=True
    )


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


def backup_context(at: RunContext, vault: VaultName) -> BackupContext:
    """Return the context of a run that stores into a vault."""
    return BackupContext(
        **asdict(at.of_vault(vault, Purpose.BACKUP)),
        spool=State(at.config.state_dir).spool,
        host=os.uname().nodename,
        program=f"nightvault {__version__}",
    )


def sending_to(config: Config, vault: VaultName) -> Sending:
    """Return how catalogs are sent to a vault, for any job."""
    settings, memory = config.vault(vault), config.limits.memory
    return Sending(
        part_size_within(settings, memory),
        most_parts_at_once(settings, memory),
        settings.parts_at_once is not None,
    )
