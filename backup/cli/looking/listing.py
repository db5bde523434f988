"""`nightvault listing`: requests a vault's own list of its archives, and shows it."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from backup.cli.support.choosing_vault import choose_vault, open_vault
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.waiting import wait_until
from backup.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from backup.inventory.questions.compared import Absent
    from backup.inventory.records.retrievals import ListedRow, ListingRow
    from backup.protocols import Vault
    from backup.transfer.retry import RetryLimit

EXAMPLES = {
    "listing request": ("nightvault listing request", "nightvault listing request cold"),
    "listing show": ("nightvault listing show", "nightvault listing show cold --json"),
}

_NAME_IT = "name it: `nightvault listing show VAULT`"


@click.group()
def listing() -> None:
    """A vault's own list of its archives. A cold vault takes hours to give it, and it may be a day old."""


@listing.command()
@click.argument("name", metavar="[VAULT]", required=False)
@pass_cli
def request(cli: Cli, name: str | None) -> None:
    """Ask for the list; no second request while one is on its way."""
    from backup.app.base.opened import opened
    from backup.transfer.recognise import require_same
    from backup.transfer.retrievals.listing import request_listing

    config = cli.config()
    vault = open_vault(cli, choose_vault(config, name, advice=_NAME_IT).name)
    with closing(opened(config)) as inventory:
        patience = cli.retry_limit().patience(cli.clock, cli.progress())
        require_same(inventory, vault, patience)  # nobody may take another one's list for its own
        request_listing(inventory, vault, cli.clock, patience)
    cli.report({"vault": vault.name, "state": "waiting"}, f"asked vault {vault.name} for its list")
    cli.say("next: `nightvault listing show`, in some hours where the vault is cold")


@listing.command()
@click.argument("name", metavar="[VAULT]", required=False)
@click.option("--wait", is_flag=True, help="Stay until the list is there.")
@pass_cli
def show(cli: Cli, name: str | None, wait: bool) -> None:
    """Show the newest list: archives unknown to the inventory, and archives of ours that it lacks.

    Exit code 1 if it lacks an archive that we stored before it was made.
    """
    from backup.app.base.opened import opened
    from backup.inventory.content.archives import list_archives
    from backup.inventory.questions import compared
    from backup.transfer.retrievals.listing import continue_listing, newest_kept

    config = cli.config()
    vault = open_vault(cli, choose_vault(config, name, advice=_NAME_IT).name)
    progress = cli.progress()
    with closing(opened(config)) as inventory:

        def has_arrived(retry_limit: RetryLimit) -> bool:
            return continue_listing(inventory, vault, cli.clock, retry_limit.patience(cli.clock, progress))

        arrived = wait_until(
            bool,
            has_arrived(cli.retry_limit()),
            has_arrived,
            cli=cli,
            progress=progress,
            stays=wait,
            title=lambda _: f"Waiting for the list of vault {vault.name}",
        )
        kept = newest_kept(inventory, vault)
        absent: compared.Absent = [], []
        with inventory.reading() as tx:
            ours = {archive.archive_id for archive in list_archives(tx, inventory.id, vault=vault.name)}
            if kept is not None:
                head, at_once = kept[0], vault.traits.lists_at_once
                covered = compared.must_show(tx, head, vault.name, cli.clock.now(), at_once=at_once)
                absent = compared.absent_archives(tx, head.number, vault.name, covered)
    if kept is None and arrived:
        raise UsageError(
            f"vault {vault.name} was not asked for its list",
            advice=f"`nightvault listing request {vault.name}`",
        )
    if kept is None:
        text = f"the list of vault {vault.name} is on its way: look again in some hours, or stay with --wait"
        cli.show({"vault": vault.name, "state": "waiting"}, text)
        return
    if not arrived:
        cli.say("a newer list is on its way")
    _show_listing(cli, vault, *kept, ours, absent)


def _show_listing(
    cli: Cli, vault: Vault, head: ListingRow, lines: list[ListedRow], ours: Collection[Any], absent: Absent
) -> None:
    from backup.cli.render.render import counted, local_time, shown_archive, size, table
    from backup.cli.render.tables import Column
    from backup.inventory.store.times import moment

    as_of = head.made_at
    missing, late = absent
    document = {
        "vault": vault.name,
        "as_of": as_of,
        "archives": [
            {
                "archive_id": line.archive_id,
                "description": line.description,
                "size": line.size,
                "created_at": moment(line.created_at),
                "known": line.archive_id in ours,
            }
            for line in lines
        ],
        "missing": [archive.archive_id for archive in missing],
        "newer_than_list": [archive.archive_id for archive in late],
    }
    rows = [
        (
            "ours" if line.archive_id in ours else "unknown",
            size(line.size),
            local_time(moment(line.created_at)),
            shown_archive(line.archive_id),
        )
        for line in lines
    ]
    columns = ["", Column("size", right=True), "created", Column("archive id", least=12)]
    cli.show(document, table(columns, rows) if rows else "the list is empty")
    count = counted(len(lines), "archive")
    cli.say(f"as of {local_time(as_of)}: {count}; {len(late)} of ours newer than the list")
    for archive in missing:
        cli.warn(f"missing: {archive.archive_id}, stored {local_time(moment(archive.stored_at))}")
    if missing:
        raise click.exceptions.Exit(int(ExitCode.FAILED))
