"""`nightvault vaults`: the vaults of the config, with sizes by the inventory and by the vaults."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click

from backup.cli.support.choosing_vault import open_vault
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.grouping import CommandWithSubcommands
from backup.errors import NightvaultError, UnreachableError, UsageError

EXAMPLES = {
    "vaults": ("nightvault vaults", "nightvault vaults --json"),
    "vaults accept": (
        "nightvault vaults accept disk  # the disk was replaced on purpose",
        "nightvault vaults accept cold --json",
    ),
}


@click.command(cls=CommandWithSubcommands)
@pass_cli
def vaults(cli: Cli) -> None:
    """List the vaults of the config: what was stored there, and what each reports itself.

    A cold vault counts its archives once a day ("it counts", "as of"); a dash means that it does not tell.
    """
    from backup.app.base.opened import opened
    from backup.app.base.silent_mounts import look_at
    from backup.cli.render.render import local_time, size, table
    from backup.cli.render.tables import Column
    from backup.inventory.content.archives import vault_totals

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
            if settings.path is not None and look_at(settings.path).is_silent:
                raise UnreachableError(f"{settings.path} does not answer", advice="`findmnt` shows its mount")
            state = open_vault(cli, settings.name).state()
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


@vaults.subcommand("accept")
@click.argument("name", metavar="VAULT")
@click.option("--yes", is_flag=True, help="Ask nothing.")
@pass_cli
def accept(cli: Cli, name: str, yes: bool) -> None:
    """Accept a vault that has taken the place of another one: a new disk, a new bucket.

    What this inventory stored in the one before counts as lost where the new one does not hold it: the next
    backup stores anew what is needed now, and a full catalog. Snapshots of what is gone from this machine
    stay incomplete. A vault that is not there is made; a directory without a sound marker gets a new one.
    """
    from backup.app.base.opened import opened
    from backup.app.rebuilds.replaced_vaults import accept_vault, look_at_vault
    from backup.cli.render.render import counted

    config = cli.config()
    with closing(opened(config)) as inventory:
        found = look_at_vault(config, inventory, name, cli.clock)
        document = {"vault": found.vault, "location": found.location, "before": found.before}
        if found.is_known:
            text = f"vault {name} ({found.location}) is the one that this inventory knows: nothing to do"
            cli.show({**document, "accepted": False, "identity": found.before, "missing": 0}, text)
            return
        cli.say(
            f"vault {name} ({found.location}) was {found.before or 'not known yet'}, {found.present_state}"
        )
        were = "was" if found.archives == 1 else "were"
        cli.say(f"{counted(found.archives, 'archive')} of this inventory {were} stored in the one before")
        cli.say("what this one does not hold of them is lost: the next backup stores anew what is needed now")
        if not (yes or cli.confirm(f"Go on with what is at {found.location} as vault {name}?")):
            raise UsageError("nothing was changed")
        done = accept_vault(config, inventory, found, clock=cli.clock, progress=cli.progress())
    told = f"vault {name} is known as {done.identity} from now on"
    cli.show({**document, "accepted": True, "identity": done.identity, "missing": done.missing}, told)
    cli.say(f"it lacks {done.missing} of {counted(found.archives, 'archive')}; next: `nightvault backup`")
