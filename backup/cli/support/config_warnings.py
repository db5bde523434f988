"""Warnings about a valid config, as `config check` and `begin` show them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backup.app.base.silent_mounts import Places
    from backup.config import Config, JobSettings, VaultSettings


def warnings_of(read: Config, places: Places | None = None) -> Iterator[str]:
    """Yield warnings about valid but doubtful settings, such as files that others can read or change.

    `places`: paths of the config that were examined already.
    """
    from backup.app.base.vaults import SET_UP
    from backup.config import warnings_of_limits

    if read.warning:
        yield read.warning
    if "@" in read.inventory_url and _mode(read.path) & stat.S_IROTH:
        yield f"{read.path} can be read by others and holds the inventory's address: chmod 0640 it"
    identity = read.identity
    for path in (identity.private_key, identity.passphrase_file) if identity else ():
        if path and _mode(path) & (stat.S_IRWXG | stat.S_IRWXO):
            yield f"{path} can be read by others: chmod 0600 it"
    if identity and read.roles_anywhere is None:
        yield "roles_anywhere is missing: until it is there, no vault in AWS can be used"
    for vault in read.vaults:
        if told := read.not_set_up(vault):
            yield f"{told}; {SET_UP}"
        if identity is None and vault.role_arn is not None:
            yield f"vault {vault.name}: role_arn is not used without [identity]"
        yield from warnings_of_limits(vault)
    yield from _warnings_of_places(read, places)


def _warnings_of_places(read: Config, places: Places | None) -> Iterator[str]:
    """Warnings about sources and vaults; those on a dead mount are named, and not looked at."""
    from backup.app.backups.source_warnings import (
        linked_sources,
        missing_sources,
        nested_places,
        own_as_sources,
        own_in_sources,
        saved_own,
    )
    from backup.app.base.silent_mounts import silent_places, without

    silent = silent_places(read, places)
    for what in silent.values():
        yield (
            f"{what} does not answer: its mount may be dead, and nothing more is looked at there; a backup "
            "may wait there without end"
        )
    answering = without(read, silent)
    yield from nested_places(answering)
    for job in answering.jobs:
        yield from missing_sources(job)
        yield from linked_sources(job)
        yield from own_in_sources(answering, job, saved_own(answering, job))
        yield from own_as_sources(answering, job)
        yield from _warnings_of_commands(read, job)


def gaps_of(read: Config) -> Iterator[str]:
    """Yield warnings about settings that are missing, or probably not what was meant."""
    if not read.vaults:
        yield "there is no [[vault]], so nothing can be stored"
    if not read.jobs:
        yield "there is no [[job]], so nothing is backed up"
    yield from _unknown_regions([vault for vault in read.vaults if vault.region and vault.endpoint is None])
    yield from _missing_files(read)
    place = os.path.dirname(read.monitoring.metrics_file or "")
    if place and not os.path.isdir(place):
        yield f"the folder of monitoring.metrics_file is not there: {place}"
    if read.web is not None:
        from backup.cli.support.page_setup import page_settings
        from backup.errors import ConfigError

        try:
            page_settings(read, listen=None, behind_proxy=False)
        except ConfigError as error:
            yield f"{error}; {error.advice}"


def _unknown_regions(vaults: Sequence[VaultSettings]) -> Iterator[str]:
    """Warnings about regions of Amazon that the table of prices does not have."""
    if not vaults:
        return
    from backup.app.money.prices import builtin_table
    from backup.config.shapes import suggestion

    regions = builtin_table().regions
    for vault in vaults:
        if vault.region is not None and vault.region not in regions:
            meant = suggestion(vault.region, regions)
            yield f"vault {vault.name}: this program knows no region {vault.region}{meant}"


def _missing_files(read: Config) -> Iterator[str]:
    """Warnings about files of the identity and of prices that are not there."""
    keys = {"prices.file": read.prices.file}
    if read.identity is not None:
        names = ("certificate", "private_key", "intermediates", "passphrase_file", "pkcs11_module")
        keys |= {f"identity.{name}": getattr(read.identity, name) for name in names}
    for key, path in keys.items():
        if path and os.path.isabs(path) and not os.path.lexists(path):
            yield f"{key}: there is no file {path}"


def _warnings_of_commands(read: Config, job: JobSettings) -> Iterator[str]:
    """Warnings about commands that this machine cannot run: no such program, no such user."""
    import pwd
    import shutil

    for command in job.command:
        if shutil.which(command.run[0]) is None:
            yield f"job {job.name}: command {command.name}: there is no program {command.run[0]}"
        if command.user is None:
            continue
        try:
            pwd.getpwnam(command.user)
        except KeyError:
            yield f"job {job.name}: command {command.name}: this machine has no user {command.user}"
    if job.database:
        from backup.app.backups.databases import databases_of  # few jobs have any

        for database in databases_of(read, job):
            program = next(database.commands())[0]
            if not database.server.path and shutil.which(program) is None:
                yield f"job {job.name}: database {database.name}: there is no program {program}"


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode
    except OSError:  # missing: whoever needs the file will say so
        return 0
