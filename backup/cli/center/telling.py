"""`nightvault center join`, `leave`, `tell`: a server and its center."""

from __future__ import annotations

import os

import click

from backup.cli.support.context import Cli, pass_cli
from backup.errors import ConfigError, UsageError


@click.command("join")
@click.argument("token")
@click.option(
    "--ca-file", metavar="FILE", help="Trust these authorities for its TLS instead of the system's."
)
@pass_cli
def join_here(cli: Cli, token: str, ca_file: str | None) -> None:
    """Join a center by the word of `center invite`, and add [center] to the config, which is copied first.

    The certificate of [identity] must have the name that was invited. Nothing else of the config changes,
    and nothing is taken from the center.
    """
    from backup.app.aws_setup.config_file import check_writable, read_config, replace_config, with_section
    from backup.app.telling.center import join_center
    from backup.format.host_report import read_token

    config = cli.config()
    address, secret = read_token(token)
    if config.identity is None:
        raise ConfigError("the config has no [identity]: a center knows a server by its certificate")
    if config.center is not None and config.center.url != address:
        named = f"the config names another center, {config.center.url}"
        raise UsageError(named, advice="remove [center] from it first")
    check_writable(config.path)
    values = {"url": address} | ({"ca_file": os.path.abspath(ca_file)} if ca_file else {})
    text = read_config(config.path)
    changed = text if config.center is not None else with_section(text, "center", values)
    name = join_center(config, address, secret, ca_file=ca_file)
    copy = replace_config(config.path, text, changed, cli.clock.now())
    document = {"center": address, "name": name, "config": config.path, "copy": copy}
    cli.report(document, f"{address} knows this server as {name}: `nightvault center tell` tells it now")


@click.command()
@pass_cli
def leave(cli: Cli) -> None:
    """Leave the center: remove [center] from the config, which is copied first, and notes of telling it.

    The center is not asked, and need not be there. It keeps what it was told, and soon shows this server as
    silent: `nightvault center remove` there ends that. Certificate and backups stay as they are.
    """
    from backup.app.aws_setup.config_file import check_writable, read_config, replace_config, without_section
    from backup.app.telling.center import forget_center

    config = cli.config()
    if config.center is None:
        raise UsageError("the config has no [center]: this server tells none")
    check_writable(config.path)
    text = read_config(config.path)
    changed = without_section(text, "center")
    copy = replace_config(config.path, text, changed, cli.clock.now())
    forget_center(config)
    told = f"{config.center.url} is told nothing any more; it keeps what it knows until it is removed there"
    cli.report({"center": config.center.url, "config": config.path, "copy": copy}, told)


@click.command()
@click.argument("address", required=False)
@click.option(
    "--ca-file", metavar="FILE", help="Trust these authorities for its TLS instead of the system's."
)
@pass_cli
def tell(cli: Cli, address: str | None, ca_file: str | None) -> None:
    """Tell a center how this server is, signed by its certificate ([identity]).

    ADDRESS is that of [center] in the config, unless another is given. With [center] the daemon and each
    command that ran something tell it by themselves; without a daemon this is for a timer.
    What is told is what `nightvault status --json` says, as changes since the last time. Nothing is taken
    from the center. A center that is away is told later, and keeps no backup waiting: exit code 15.
    """
    from backup.cli.support.telling import tell_center_of

    told = tell_center_of(cli.config(), cli.clock, url=address, ca_file=ca_file)
    anew = ", in a new chain" if told.began_anew else ""
    cli.report(told, f"{told.center} was told: report {told.number}{anew}")
