"""The vault that a command works with: the one that is named, or the only one that it can be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from backup.cli.support.context import Cli
from backup.errors import UsageError

if TYPE_CHECKING:
    from backup.config import Config, VaultSettings
    from backup.protocols import Vault

vault_option = click.option(
    "--vault", "vault_name", metavar="NAME", help="Which vault; the config's only one by default."
)


def choose_vault(
    config: Config, name: str | None, *, among: Sequence[str] | None = None, advice: str = "say --vault NAME"
) -> VaultSettings:
    """The vault called `name`, or the only one of `among` (all of the config by default) without a name.

    `UsageError` if there is none of that name, or several to choose from.
    """
    if name is None:
        names = [vault.name for vault in config.vaults] if among is None else among
        if not names:
            raise UsageError(f"{config.path} has no vault", advice="add a [[vault]] to it")
        if len(names) > 1:
            raise UsageError("which vault? " + ", ".join(names), advice=advice)
        name = names[0]
    return config.vault(name)


def open_vault(cli: Cli, name: str) -> Vault:
    """The vault of that name, with the rights of a backup."""
    from backup.app.vaults import Purpose, make_vault

    return make_vault(cli.config(), name, Purpose.BACKUP, cli.clock)
