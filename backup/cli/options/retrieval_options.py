"""Options of commands that retrieve from a vault: recovery keys, tier, cost, and whether to wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from backup.model import OnCapacity, Tier

passphrase_files_option = click.option(
    "--passphrase-file",
    "passphrase_files",
    metavar="FILE",
    multiple=True,
    help="The key file's passphrase; for several keys one each, in order, or one for all.",
)
tier_option = click.option(
    "--tier", type=click.Choice([str(tier) for tier in Tier]), help="Retrieval tier; faster tiers cost more."
)
max_cost_option = click.option(
    "--max-cost", metavar="MONEY", help="Refuse (16) what costs more, by the price table."
)
wait_option = click.option(
    "--wait", is_flag=True, help="Stay until the vault is ready, however long it takes."
)
from_vault_option = click.option(
    "--from-vault", "from_vault", metavar="VAULT", help="Read from this vault, into which it was copied."
)
capacity_option = click.option(
    "--on-capacity",
    type=click.Choice([str(choice) for choice in OnCapacity]),
    help="What to do when the vault cannot serve the tier now: wait, take another tier, or fail.",
)
numeric_owner_option = click.option(
    "--numeric-owner",
    is_flag=True,
    help="Owners, groups and ACLs by their numbers, even where this machine knows their names.",
)


def keys_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option `--key`, which may be repeated; `text` is its help."""
    return click.option("--key", "key_files", metavar="FILE|-", multiple=True, help=text)


_KEY_OPTIONS = [
    keys_option("The recovery key; asked for if it is not given. Several where recipients have changed."),
    passphrase_files_option,
    tier_option,
    max_cost_option,
]


def key_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add to a command the options for recovery keys, tier and limit of cost."""
    for option in reversed(_KEY_OPTIONS):
        function = option(function)
    return function
