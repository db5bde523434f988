"""`nightvault config`: checks the config file, and shows what is in force."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from backup.cli.render import render
from backup.cli.support.context import Cli, pass_cli
from backup.wording import escape

if TYPE_CHECKING:
    from backup.config import Config, JobSettings, VaultSettings

EXAMPLES = {
    "config check": ("nightvault config check", "nightvault --config new.toml config check"),
    "config example": (
        "nightvault config example",
        "nightvault config example > /etc/nightvault/config.toml",
    ),
    "config show": ("nightvault config show", "nightvault config show --set  # only what the file sets"),
}


@click.group()
def config() -> None:
    """Check the config file, and show what is in force."""


@config.command()
@pass_cli
def check(cli: Cli) -> None:
    """Read the config file and say what was understood; exit code 2 names every mistake.

    It also checks the bucket of an S3 vault: bucket settings that would harm the vault are warnings.
    """
    from backup.app.base.vaults import warnings_of_vault
    from backup.cli.support.config_warnings import gaps_of, warnings_of
    from backup.inventory.store.database import require_file

    read = cli.config(warns=False)  # it is one of the warnings here
    require_file(read.inventory_url)
    _check_files_of_patterns(read)
    warnings = [*warnings_of(read), *gaps_of(read)]
    for vault in (vault for vault in read.vaults if not read.gaps_of(vault)):
        warnings += [
            f"vault {vault.name}: {warning}" for warning in warnings_of_vault(read, vault, cli.clock)
        ]
    document = {
        "config": read.path,
        "state_dir": read.state_dir,
        "identity": read.identity is not None,
        "recipients": len(read.recipients),
        "vaults": [
            {"name": vault.name, "kind": vault.kind, "location": _location(vault)} for vault in read.vaults
        ],
        "jobs": [
            {
                "name": job.name,
                "vault": job.vault,
                "sources": job.paths,
                "schedule": job.schedule,
                "keeps": str(job.policy) if job.policy else None,
                "forget": _forget_words(job),
                "copies": [
                    {
                        "vault": copy.vault,
                        "schedule": copy.schedule,
                        "keeps": str(copy.policy) if copy.policy else None,
                        "delay": copy.delay,
                    }
                    for copy in job.copy
                ],
            }
            for job in read.jobs
        ],
        "warnings": warnings,
    }
    cli.report(document, "\n".join(_lines(read)))
    for warning in warnings:
        cli.warn(f"warning: {warning}")


@config.command()
@click.option("--set", "only_set", is_flag=True, help="Only what the file sets, without defaults.")
@pass_cli
def show(cli: Cli, only_set: bool) -> None:
    """Print the settings in force, each with where it comes from: the file, or a default.

    It is TOML, and could be read as a config; keys that are not set are comments, and so are the commands
    that dump databases. What may be secret is not shown: a command's environment, passwords in addresses.
    """
    from backup.cli.daily.config_output import documents, lines
    from backup.config.in_force import Origin, settings_in_force

    read = cli.config()
    origins = {Origin.FILE} if only_set else set(Origin)
    tables, runs = list(settings_in_force(read)), dict(_dumps(read))
    found: dict[str, Any] = {"config": read.path, "settings": documents(tables, origins)}
    found |= {"dumps": runs} if runs else {}
    cli.show(found, "\n".join(lines(read.path, tables, origins, runs)))


def _dumps(read: Config) -> Iterator[tuple[str, list[list[str]]]]:
    """The commands that dump the databases of each job, by its key."""
    for number, job in enumerate(read.jobs, 1):
        if job.database:
            from backup.app.backups.databases import databases_of  # few jobs have any

            databases = databases_of(read, job)
            yield f"job[{number}]", [list(words) for database in databases for words in database.commands()]


@config.command()
def example() -> None:
    """Print the example config: every key, what it means, and what holds without it.

    `nightvault config example > /etc/nightvault/config.toml` is a beginning.
    """
    from backup.errors import NightvaultError
    from backup.installed import shared

    path = shared("config.example.toml")
    if path is None:
        raise NightvaultError("this installation lacks its example config", advice="install nightvault again")
    with open(path, encoding="utf-8") as file:
        click.echo(file.read(), nl=False)


def _check_files_of_patterns(read: Config) -> None:
    """Read the files of patterns of every job; `ConfigError` names those that a run would refuse."""
    from backup.app.base.filters import filters_of, overrides_of
    from backup.errors import ConfigError

    mistakes: list[ConfigError] = []
    for job in read.jobs:
        for look in (filters_of, overrides_of):
            try:
                look(job)
            except ConfigError as error:
                mistakes.append(ConfigError(f"job {job.name}: {error}", advice=error.advice))
    if mistakes:
        told = list(dict.fromkeys(map(str, mistakes)))
        raise ConfigError(f"{read.path}: " + "\n  ".join(told), advice=mistakes[0].advice)


def _lines(read: Config) -> Iterator[str]:
    from backup.config import part_size_within

    yield f"{read.path} is fine"
    yield f"state: {read.state_dir}"
    identity = read.identity
    if identity or any(vault.kind != "directory" for vault in read.vaults):
        yield f"identity: {identity.certificate}" if identity else "identity: none, boto3's own credentials"
    yield f"recipients: {len(read.recipients) or 'none here, those that init was given or made'}"
    for vault in read.vaults:
        part_size = render.size(part_size_within(vault, read.limits.memory))
        sizes = f"packs of {render.size(vault.pack_size)} in parts of {part_size}"
        yield f"vault {vault.name}: {vault.kind}, {_location(vault)}, {sizes}"
    yield from (_job_line(job) for job in read.jobs)


def _location(vault: VaultSettings) -> str:
    if vault.kind == "s3":
        place = (
            "a bucket without a name yet" if vault.bucket is None else f"s3://{vault.bucket}/{vault.prefix}"
        )
        return f"{place} in {vault.region}, {vault.storage_class}"
    return vault.path if vault.path is not None else f"{vault.vault} in {vault.region}"


def _job_line(job: JobSettings) -> str:
    when = f"{job.schedule} ({job.when.timezone})" if job.when else "by hand"
    keeps = f"keeps {job.policy}, forgets {_forget_words(job)}" if job.policy else "keeps all snapshots"
    copies = "".join(
        f", copies to {copy.vault} {copy.schedule or 'by hand'} ({copy.policy or 'all snapshots'})"
        for copy in job.copy
    )
    saved = [*job.paths, *job.devices, *(command.name for command in job.command)]
    saved += [escape(f"{database.kind}/{database.name}") for database in job.database]
    saved += ["volumes of containers"] if job.containers else []
    return f"job {job.name}: {', '.join(saved)} to {job.vault}, {when}, {keeps}{copies}"


def _forget_words(job: JobSettings) -> str:
    from backup.config import ForgetWhen

    when = job.forget_when
    return when.value if isinstance(when, ForgetWhen) else when.text
