"""`nightvault inventory backup|verify|vacuum`: care for the inventory's own file."""

from __future__ import annotations

import os
import re
from contextlib import closing

import click

from backup.cli.maintenance.check_output import show_check
from backup.cli.support.context import Cli, pass_cli
from backup.errors import NoInventoryError

EXAMPLES = {
    "inventory backup": (
        "nightvault inventory backup",
        "nightvault inventory backup /mnt/usb/inventory.sqlite",
    ),
    "inventory verify": (
        "nightvault inventory verify",
        "nightvault inventory verify /mnt/usb/inventory.sqlite",
    ),
    "inventory vacuum": ("nightvault inventory vacuum", "nightvault inventory vacuum --json"),
}

_COPY = re.compile(r"inventory-[0-9]{8}T[0-9]{6}Z\.sqlite")


@click.group()
def inventory() -> None:
    """Copy, check and shrink the file of the inventory; no vault is asked."""


@inventory.command()
@click.argument("file", required=False)
@click.option(
    "--keep",
    type=click.IntRange(1, 1000),
    default=3,
    show_default=True,
    help="Without FILE: how many copies stay in the state directory.",
)
@pass_cli
def backup(cli: Cli, file: str | None, keep: int) -> None:
    """Copy the inventory into FILE, or into the state directory's `copies`, while backups may run.

    The copy is one file of mode 0600, checked before it gets its name. It needs neither keys nor vault, and
    saves time only: what is in a vault comes back by `nightvault rebuild`, too.
    """
    from backup.app.base.opened import opened
    from backup.cli.render.render import size
    from backup.inventory.store.copies import copies_in, copy_inventory, prune_copies

    config = cli.config()
    with closing(opened(config)) as own:
        if file is not None:
            target = os.path.abspath(file)
        else:
            name = f"inventory-{cli.clock.now():%Y%m%dT%H%M%SZ}.sqlite"
            target = os.path.join(copies_in(config.state_dir), name)
        written = copy_inventory(own.connections, target, config.state_dir)
    gone = prune_copies(os.path.dirname(target), _COPY, keep) if file is None else []
    document = {"file": target, "bytes": written, "removed": gone}
    cli.report(document, f"{target}: {size(written)}" + (f", {len(gone)} older removed" if gone else ""))


@inventory.command()
@click.argument("file", required=False)
@pass_cli
def verify(cli: Cli, file: str | None) -> None:
    """Check the inventory, or a copy of it: pages, indexes, references, and what must hold of its rows.

    Exit code 1: it is damaged or contradicts itself.
    """
    from backup.app.base.opened import opened
    from backup.app.base.state import State
    from backup.checker.invariants import check_invariants, check_whole
    from backup.inventory.store.database import open_copy

    config = cli.config()
    state = State(config.state_dir)
    if file is None:
        with closing(opened(config)) as own:
            show_check(cli, check_invariants(own, state.read_secret().content_key, cli.clock, cli.progress()))
        return
    try:
        copy, is_todays = open_copy(file)
    except NoInventoryError as error:
        advice = "name a copy: `nightvault inventory backup` makes one, and says where"
        raise NoInventoryError(str(error), advice=advice) from error
    with closing(copy):
        is_ours = copy.signer_public == state.read_signer().public
        if is_todays and is_ours:
            report = check_invariants(copy, state.read_secret().content_key, cli.clock, cli.progress())
        else:
            report = check_whole(copy, cli.clock, cli.progress())
            whose = "an older nightvault" if is_ours else "an inventory with other keys"
            cli.say(f"it is of {whose}: its file is checked, and not what its rows mean")
    show_check(cli, report)


@inventory.command()
@pass_cli
def vacuum(cli: Cli) -> None:
    """Give the space of deleted rows back to the disk: the file is written anew, while nothing else runs.

    It needs twice its size for that time, in the state directory and beside the inventory.
    """
    from backup.app.base.opened import opened
    from backup.cli.render.render import size
    from backup.inventory.store import copies
    from backup.inventory.store.locks import BACKUP

    config = cli.config()
    with closing(opened(config)) as own, own.locked(BACKUP):
        before, after = copies.vacuum(own.connections, config.state_dir)
    cli.report({"before": before, "after": after}, f"{size(before)} before, {size(after)} now")
