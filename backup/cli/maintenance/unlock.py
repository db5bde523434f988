"""`nightvault unlock`: shows the processes that hold locks, and takes the lock from one that hangs."""

from __future__ import annotations

from contextlib import closing, suppress
from typing import Any

import click

from backup.cli.support.context import Cli, pass_cli
from backup.errors import NightvaultError

EXAMPLES = {"unlock": ("nightvault unlock  # who holds the locks", "nightvault unlock --force")}


@click.command
@click.option(
    "--force", is_flag=True, help="Take the lock of backups from the process that holds it, alive or not."
)
@pass_cli
def unlock(cli: Cli, force: bool) -> None:
    """Show which processes hold locks. No lock outlives its process: there is nothing to clean up.

    With --force the lock of backups is taken from a process that is suspended or hangs, and cannot be ended:
    if it continues, it can record nothing more. The next backup finishes what it had sent. The lock
    `inventory` is held by a process while it writes to the database, only for moments; it is never taken.

    Containers that a backup was killed before it could start them again are started, as by any command; the
    units run this one when they end.
    """
    from backup.app.base.opened import opened
    from backup.cli.render.render import printable, table
    from backup.cli.render.tables import Column
    from backup.inventory.store.database import sqlite_path
    from backup.inventory.store.holders import database_holders, holders
    from backup.inventory.store.locks import BACKUP, is_held

    config = cli.config()
    with suppress(NightvaultError):
        opened(config).close()  # what a run that was killed has left stopped is started
    found = holders(config.state_dir)
    if found is not None and (writing := database_holders(sqlite_path(config.inventory_url) or "")):
        found = {**found, "inventory": writing}
    documents: list[dict[str, Any]] = [
        {"lock": name, "process": holder.process, "command": holder.command, "suspended": holder.is_suspended}
        for name, processes in (found or {}).items()
        for holder in processes
    ]
    taken = False
    if force:
        with closing(opened(config)) as inventory:
            taken = is_held(config.state_dir, BACKUP)
            if taken:
                inventory.take_lock_away()
    rows = [
        (
            lock["lock"],
            lock["process"] or "of a container",
            "suspended" if lock["suspended"] else "running",
            printable(lock["command"]),
        )
        for lock in documents
    ]
    columns = ["lock", Column("process", right=True), "state", Column("command", folds=True, least=14)]
    nobody = "no process holds a lock" if found is not None else "this system does not tell who holds a lock"
    cli.show({"locks": documents, "taken": taken}, table(columns, rows) if rows else nobody)
    if taken:
        cli.say("the lock of backups was taken away: its process records nothing more, and may be ended")
    elif force:
        cli.say("nobody holds the lock of backups: nothing was taken away")
