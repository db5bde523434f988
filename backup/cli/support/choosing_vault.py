"""Chooses the vaults that a command works on: the named vault, the only possible one, or all."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct

from backup.cli.support.context import Cli
from backup.cli.support.failures import failure_of, worst_of
from backup.errors import ExitCode, InterruptedRunError, NightvaultError, UsageError
from backup.log_context import about

if TYPE_CHECKING:
    from backup.config import Config, VaultSettings
    from backup.protocols import Vault

vault_option = click.option(
    "--vault", "vault_name", metavar="NAME", help="Which vault; the config's only one by default."
)
vaults_option = click.option(
    "--vault", "vault_name", metavar="NAME", help="This vault alone; all of the config by default."
)


def choose_vault(
    config: Config, name: str | None, *, among: Sequence[str] | None = None, advice: str = "say --vault NAME"
) -> VaultSettings:
    """Return the vault called `name`; without a name the only one of `among` (default: all of the config).

    `UsageError` if there is no such vault, or several to choose from.
    """
    if name is None:
        names = [vault.name for vault in config.vaults] if among is None else among
        if not names:
            raise UsageError(f"{config.path} has no vault", advice="add a [[vault]] to it")
        if len(names) > 1:
            raise UsageError("which vault? " + ", ".join(names), advice=advice)
        name = names[0]
    return config.vault(name)


def choose_vaults(config: Config, name: str | None) -> Sequence[VaultSettings]:
    """Return the vault called `name`, or all of the config without a name. `UsageError` if there is none."""
    return config.vaults if name is None and config.vaults else [choose_vault(config, name)]


class Result(Struct, frozen=True):
    """The result of a command in one vault: JSON document, exit code, text (for rich), remarks on stderr."""

    document: dict[str, Any]
    exit_code: ExitCode
    text: object
    remark: Callable[[], None] = lambda: None


def show_result(cli: Cli, result: Result) -> None:
    """Show the result of a command, and end the command with its exit code."""
    if cli.json:
        cli.show(result.document)
    _show_to_people(cli, result)
    if result.exit_code is not ExitCode.DONE:
        raise click.exceptions.Exit(int(result.exit_code))


def show_results(cli: Cli, results: Sequence[Result]) -> None:
    """Show the results of a command in one or several places; the worst exit code ends it."""
    if len(results) == 1:
        show_result(cli, results[0])
        return
    for result in results:
        _show_to_people(cli, result)
    cli.show([result.document for result in results])
    if (worst := worst_of(result.exit_code for result in results)) is not ExitCode.DONE:
        raise click.exceptions.Exit(int(worst))


def in_vaults(
    cli: Cli,
    vaults: Sequence[VaultSettings],
    work: Callable[[VaultSettings, bool], Result],
    *,
    wait: bool = False,
) -> None:
    """Call `work` for one vault after the other, also if one of them fails, and show the results.

    Its second argument says whether to wait until the vault has answered: with `wait`, all vaults are asked
    first, then each is waited for. Ends the command with the worst exit code; for several vaults the JSON
    document is a list.
    """
    if len(vaults) == 1:
        show_result(cli, work(vaults[0], wait))
        return
    done: dict[str, tuple[dict[str, Any], ExitCode]] = {}
    queue = deque((settings, False) for settings in vaults)
    while queue:
        settings, stays = queue.popleft()
        try:
            with about(vault=settings.name):
                result = work(settings, stays)
        except NightvaultError as error:
            done[settings.name] = _failed(cli, settings.name, error), error.exit_code
            if isinstance(error, InterruptedRunError):
                break
            continue
        if result.exit_code is ExitCode.WAITING and wait and not stays:
            queue.append((settings, True))
            continue
        _show_to_people(cli, result)
        done[settings.name] = result.document, result.exit_code
    cli.show([done[settings.name][0] for settings in vaults if settings.name in done])
    if (worst := worst_of(code for _, code in done.values())) is not ExitCode.DONE:
        raise click.exceptions.Exit(int(worst))


def _show_to_people(cli: Cli, result: Result) -> None:
    if not cli.json:
        is_well = result.exit_code in {ExitCode.DONE, ExitCode.WAITING}
        (cli.report if is_well else cli.show)(None, result.text)
    result.remark()


def _failed(cli: Cli, name: str, error: NightvaultError) -> dict[str, Any]:
    """Tell that one of several vaults failed; the entry for it in the JSON document."""
    told = str(error) if f"vault {name}" in str(error) else f"vault {name}: {error}"
    cli.error(f"nightvault: {told}" + (f"\n  {error.advice}" if error.advice else ""))
    return {"vault": name, "error": failure_of(error)}


def open_vault(cli: Cli, name: str) -> Vault:
    """Open the vault of that name, with the permissions of a backup."""
    from backup.app.base.vaults import Purpose, make_vault

    return make_vault(cli.config(), name, Purpose.BACKUP, cli.clock)
