"""The option `--accept`: the admin's answer to catalogs that no key proves to be this server's."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from backup.model import VaultName

if TYPE_CHECKING:
    from backup.cli.support.context import Cli
    from backup.config import Config


def accept_option(text: str) -> Callable[[Any], Any]:
    """Return the option `--accept PACK-ID`, which may be repeated; `text` is its help."""
    return click.option("--accept", "accepted", multiple=True, metavar="PACK-ID", help=text)


def who_answers() -> str:
    """Return who answers, for the record, as `user@effective-user@host`."""
    names = [os.environ.get("SUDO_USER", ""), _user_name(), os.uname().nodename]
    return "@".join(dict.fromkeys(filter(None, names)))


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def accept(cli: Cli, config: Config, vault: VaultName, packs: Sequence[str]) -> None:
    """Record the answers in the inventory. `UsageError` for a pack that no question is open about."""
    if not packs:
        return
    from contextlib import closing

    from backup.app.base.opened import opened
    from backup.transfer.answers import accept_catalogs

    with closing(opened(config)) as inventory:
        for told in accept_catalogs(inventory, vault, packs, who_answers(), cli.clock.now()):
            cli.say(told)
