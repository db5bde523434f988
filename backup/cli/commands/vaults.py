"""`nightvault vaults`, `archives` and `listing`: what is stored, by our books and by the vault's."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.grouping import CommandWithWords
from backup.cli.support.waiting import Wait
from backup.errors import ExitCode, NightvaultError, UsageError
from backup.model import VaultName

if TYPE_CHECKING:
    from sqlalchemy import Row

    from backup.config import Config
    from backup.inventory.compared import Absent
    from backup.protocols import Vault


@click.command(cls=CommandWithWords)
@pass_cli
def vaults(cli: Cli) -> None:
    """List the vaults of the config: what we stored there, and what they say of themselves.

    A cold vault counts its archives once a day ("it counts", "as of"); a dash means that it does not tell.
    """
    from backup.app.runs import opened
    from backup.cli.support.render import local_time, size, table
    from backup.cli.support.tables import Column
    from backup.inventory.archives import vault_totals

    config = cli.config()
    with closing(opened(config)) as inventory, inventory.reading() as tx:
        totals = vault_totals(tx)
    documents: list[dict[str, Any]] = []
    rows: list[tuple[object, ...]] = []
    failure: NightvaultError | None = None
    for settings in config.vaults:
        count, stored = totals.get(settings.name, (0, 0))
        ours = {"name": settings.name, "kind": settings.kind, "archives": count, "bytes": stored}
        start = (settings.name, count, size(stored))
        try:
            state = _vault(config, settings.name, cli).state()
        except NightvaultError as error:
            failure = error
            documents.append({**ours, "error": str(error)})
            rows.append((*start, None, None, "not reached"))
            cli.warn(f"vault {settings.name}: {error}")
            continue
        theirs = {"location": state.location, "vault_archives": state.archives, "vault_bytes": state.size}
        documents.append({**ours, "exists": state.exists, **theirs, "listed_at": state.listed_at})
        there = state.location if state.exists else "is not there"
        rows.append((*start, state.archives, local_time(state.listed_at), there))
    right = [Column(title, right=True) for title in ("archives", "size", "it counts")]
    columns = [
        Column("vault", least=8),
        *right,
        Column("as of", rank=1),
        Column("where", folds=True, least=14),
    ]
    cli.show(documents, table(columns, rows) if rows else f"{config.path} has no vault")
    if failure is not None:
        raise click.exceptions.Exit(int(failure.exit_code))


@vaults.word("accept")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Ask nothing.")
@pass_cli
def accept(cli: Cli, name: str, yes: bool) -> None:
    """Go on with another vault under the name of one that was replaced: a new disk, a new bucket.

    What this inventory stored in the one before counts as lost where the new one does not hold it: the next
    backup stores anew what is needed now, and a full catalog. Snapshots of what is no more on this machine
    stay incomplete. A vault that is not there is made.
    """
    from backup.app.accepting import accept_vault, look_at
    from backup.app.runs import opened
    from backup.cli.support.render import counted

    config = cli.config()
    with closing(opened(config)) as inventory:
        found = look_at(config, inventory, name, cli.clock)
        document = {"vault": found.vault, "location": found.location, "before": found.before}
        if found.is_known:
            text = (
                f"vault {name} ({found.location}) is the one that this inventory knows: nothing is to be done"
            )
            cli.show({**document, "accepted": False, "identity": found.before, "missing": 0}, text)
            return
        cli.say(f"vault {name} ({found.location}) was {found.before or 'not known yet'}, {found.told}")
        cli.say(f"{counted(found.archives, 'archive')} of this inventory were stored in the one before")
        cli.say("what this one does not hold of them is lost: the next backup stores anew what is needed now")
        if not (yes or cli.confirm(f"Go on with what is at {found.location} as vault {name}?")):
            raise UsageError("nothing was changed")
        done = accept_vault(config, inventory, found, clock=cli.clock, progress=cli.progress())
    told = f"vault {name} is known as {done.identity} from now on"
    cli.show({**document, "accepted": True, "identity": done.identity, "missing": done.missing}, told)
    cli.say(f"it lacks {done.missing} of {counted(found.archives, 'archive')}; next: `nightvault backup`")


@click.command()
@click.option("--vault", "name", metavar="NAME", help="In this vault.")
@pass_cli
def archives(cli: Cli, name: str | None) -> None:
    """List the archives that we stored, oldest first. Long ids are cut here; --json has them whole."""
    from backup.app.runs import opened
    from backup.cli.support.render import local_time, shown_archive, size, table
    from backup.cli.support.tables import Column
    from backup.inventory.archives import list_archives

    config = cli.config()
    wanted = VaultName(config.vault(name).name) if name else None
    with closing(opened(config)) as inventory, inventory.reading() as tx:
        found = list_archives(tx, inventory.id, vault=wanted)
    documents = [
        {
            "vault": one.vault,
            "kind": one.label.kind.name.lower(),
            "generation": one.label.generation.name.lower() if one.label.generation else None,
            "catalog": one.label.number or None,
            "state": str(one.state),
            "size": one.size,
            "tree_hash": one.tree_hash.hex(),
            "pack": one.label.pack_id.hex(),
            "archive_id": one.archive_id,
            "run": one.run,
            "stored_at": one.stored_at,
        }
        for one in found
    ]
    rows = [
        (
            one.vault,
            " ".join(filter(None, [one.label.kind.name.lower(), _generation(one.label.generation)])),
            size(one.size),
            one.state,
            local_time(one.stored_at),
            shown_archive(one.archive_id),
        )
        for one in found
    ]
    vault, archive = Column("vault", rank=2, least=8), Column("archive id", rank=1, least=12)
    columns = [vault, "kind", Column("size", right=True), "state", "stored", archive]
    cli.show(documents, table(columns, rows) if rows else "no archives yet")


def _generation(generation: Any) -> str | None:
    return generation.name.lower() if generation else None


@click.group()
def listing() -> None:
    """A vault's own list of its archives: asked for now, there hours later, up to a day old."""


@listing.command()
@click.argument("name", metavar="[VAULT]", required=False)
@pass_cli
def request(cli: Cli, name: str | None) -> None:
    """Ask for the list; no second request while one is on its way."""
    from backup.app.runs import opened
    from backup.transfer.recognise import require_same
    from backup.transfer.retrievals.listing import request_listing

    config = cli.config()
    vault = _vault(config, _chosen(config, name), cli)
    with closing(opened(config)) as inventory:
        patience = cli.reach().patience(cli.clock, cli.progress())
        require_same(inventory, vault, patience)  # nobody may take another one's list for its own
        request_listing(inventory, vault, cli.clock, patience)
    cli.report({"vault": vault.name, "state": "waiting"}, f"asked vault {vault.name} for its list")
    cli.say("next: `nightvault listing show`, in some hours where the vault is cold")


@listing.command()
@click.argument("name", metavar="[VAULT]", required=False)
@click.option("--wait", is_flag=True, help="Stay until it is there.")
@pass_cli
def show(cli: Cli, name: str | None, wait: bool) -> None:
    """Show the newest list, and what in it our books do not know, or know and it lacks.

    Exit code 1 if it lacks an archive that we stored before it was made.
    """
    from backup.app.runs import opened
    from backup.inventory import compared
    from backup.inventory.archives import list_archives
    from backup.transfer.retrievals.listing import continue_listing, newest_kept

    config = cli.config()
    vault = _vault(config, _chosen(config, name), cli)
    progress, reach = cli.progress(), cli.reach()
    pauses = Wait(cli, progress)
    with closing(opened(config)) as inventory:
        while not (
            arrived := continue_listing(inventory, vault, cli.clock, reach.patience(cli.clock, progress))
        ):
            if not wait:
                break
            reach = cli.reach(has_answered=True)
            pauses.until_next_look(f"Waiting for the list of vault {vault.name}")
        pauses.over(is_done=arrived)
        kept = newest_kept(inventory, vault)
        absent: compared.Absent = [], []
        with inventory.reading() as tx:
            ours = {one.archive_id for one in list_archives(tx, inventory.id, vault=vault.name)}
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
    cli: Cli, vault: Vault, head: Row[Any], lines: list[Row[Any]], ours: Collection[Any], absent: Absent
) -> None:
    from backup.cli.support.render import counted, local_time, shown_archive, size, table
    from backup.cli.support.tables import Column
    from backup.inventory.schema import moment

    as_of = moment(head.as_of)
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
        "missing": [one.archive_id for one in missing],
        "newer_than_list": [one.archive_id for one in late],
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
    for one in missing:
        cli.warn(f"missing: {one.archive_id}, stored {local_time(moment(one.stored_at))}")
    if missing:
        raise click.exceptions.Exit(int(ExitCode.FAILED))


def _chosen(config: Config, name: str | None) -> str:
    if name is not None:
        return name
    if len(config.vaults) != 1:
        raise UsageError("which vault? " + ", ".join(vault.name for vault in config.vaults))
    return config.vaults[0].name


def _vault(config: Config, name: str, cli: Cli) -> Vault:
    from backup.app.vaults import Purpose, make_vault

    return make_vault(config, name, Purpose.BACKUP, cli.clock)
