"""`nightvault uninstall`: stop and remove the systemd units that `install` wrote."""

from __future__ import annotations

import os

import click

from backup.cli.support.context import Cli, pass_cli
from backup.errors import ExitCode, UsageError

EXAMPLES = {"uninstall": ("nightvault uninstall --systemd", "nightvault uninstall --systemd --user")}


@click.command()
@click.option("--systemd", is_flag=True, help="Remove units of systemd (the only kind there is).")
@click.option("--user", "is_user", is_flag=True, help="Those of your own service manager.")
@click.option("--directory", metavar="DIR", help="Where they lie, if not where systemd looks for them.")
@pass_cli
def uninstall(cli: Cli, systemd: bool, is_user: bool, directory: str | None) -> None:
    """Stop and remove the systemd units that `nightvault install` wrote.

    Units that somebody changed stay (exit code 3), and so do config, keys, inventory and backups.
    """
    from backup.app.machine.units import ask_systemd, installed, remove, stop, units_directory

    if not systemd:
        raise UsageError("of which service manager?", advice="give --systemd")
    where = os.path.abspath(directory) if directory else units_directory(is_user=is_user)
    ours, changed = installed(where)
    for wrong in stop(ours, where, is_user=is_user):
        cli.warn(f"systemd could not stop them all: {wrong}")
    remove(ours)
    if ours:
        ask_systemd("daemon-reload", is_user=is_user, directory=where)
    for path in ours:
        cli.say(f"removed: {path}")
    for path in changed:
        cli.warn(f"left, as somebody wrote or changed it: {path}")
    cli.show({"removed": ours, "left": changed})
    if not (ours or changed):
        cli.say(f"there is none of ours in {where}")
    if changed:
        raise click.exceptions.Exit(int(ExitCode.PARTIAL))
