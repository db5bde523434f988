"""`nightvault archives`: the archives that the inventory has recorded as stored."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import click

from backup.cli.support.context import Cli, pass_cli
from backup.model import VaultName

if TYPE_CHECKING:
    from backup.model import Generation

EXAMPLES = {"archives": ("nightvault archives", "nightvault archives --vault cold --json")}


@click.command()
@click.option("--vault", "name", metavar="NAME", help="Only in this vault.")
@pass_cli
def archives(cli: Cli, name: str | None) -> None:
    """List the archives of this inventory, oldest first, by the ids of their packs.

    `undelete` takes such an id, or its first digits; --json has the vault's own ids, too.
    """
    from backup.app.base.opened import opened
    from backup.cli.render.render import local_time, size, table
    from backup.cli.render.tables import Column
    from backup.inventory.content.archives import list_archives

    config = cli.config()
    wanted = VaultName(config.vault(name).name) if name else None
    with closing(opened(config)) as inventory, inventory.reading() as tx:
        found = list_archives(tx, inventory.id, vault=wanted)
    documents = [
        {
            "vault": archive.vault,
            "kind": archive.label.kind.name.lower(),
            "generation": archive.label.generation.name.lower() if archive.label.generation else None,
            "catalog": archive.label.number or None,
            "state": str(archive.state),
            "size": archive.size,
            "tree_hash": archive.tree_hash.hex(),
            "pack": archive.label.pack_id.hex(),
            "archive_id": archive.archive_id,
            "run": archive.run,
            "stored_at": archive.stored_at,
        }
        for archive in found
    ]
    rows = [
        (
            archive.vault,
            " ".join(filter(None, [archive.label.kind.name.lower(), _generation(archive.label.generation)])),
            size(archive.size),
            archive.state,
            local_time(archive.stored_at),
            archive.label.pack_id.hex(),
        )
        for archive in found
    ]
    vault, pack = Column("vault", rank=2, least=8), Column("pack", rank=1, least=12)
    columns = [vault, "kind", Column("size", right=True), "state", "stored", pack]
    cli.show(documents, table(columns, rows) if rows else "no archives yet")


def _generation(generation: Generation | None) -> str | None:
    return generation.name.lower() if generation else None
