"""`nightvault restores`: the open restores, what each waits for, and when its retrieved data expires.

For a restore that the daemon does not continue, it shows the reason, and the command that does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from backup.cli.support.context import Cli, pass_cli
from backup.errors import NightvaultError
from backup.inventory.store.states import SETTLED, RestoreStage, RetrievalStage

if TYPE_CHECKING:
    from backup.config import VaultSettings
    from backup.inventory.records.retrievals import Restore, Retrieval
    from backup.inventory.store.database import Inventory

EXAMPLES = {"restores": ("nightvault restores", "nightvault restores --all")}

_NONE_OPEN = "no open restores; `nightvault restores --all` lists those that have ended, too"


@click.command()
@click.option("--all", "everything", is_flag=True, help="Also those that are finished or cancelled.")
@pass_cli
def restores(cli: Cli, everything: bool) -> None:
    """List restores: their progress, what they wait for, and when what is ready expires."""
    from backup.app.base.opened import opened
    from backup.cli.render.render import local_time, table
    from backup.cli.render.tables import Column

    config = cli.config()
    settings = {str(vault.name): vault for vault in config.vaults}
    with closing(opened(config)) as inventory:
        found = _with_retrievals(inventory, everything=everything)
        has_ended = not found and not everything and bool(_with_retrievals(inventory, everything=True))
        documents = [
            _document(restore, known, settings) | _held(restore, config.state_dir, inventory)
            for restore, known in found
        ]
    rows: list[tuple[object, ...]] = []
    for (restore, _), told in zip(found, documents, strict=True):
        count = f"{told['waiting']} of {told['retrievals']}" if restore.state is RestoreStage.OPEN else None
        until = local_time(told["ready_until"]) if told["ready_until"] else None
        when = local_time(told["expected_at"]) if told["expected_at"] else None
        rows.append((restore.id[:8], restore.snapshot[:8], told["stage"], count, when, until, restore.target))
    columns = [
        "restore",
        Column("snapshot", rank=1),
        "stage",
        "waiting",
        Column("expected", rank=2),
        Column("fetch until", rank=3),
        Column("below", folds=True),
    ]
    cli.show(documents, table(columns, rows) if rows else _NONE_OPEN if has_ended else "no restores")
    for told in documents:
        if told["held"]:
            cli.warn(f"{told['held']}\n  next: {told['next']}")


def _held(restore: Restore, state_dir: str, inventory: Inventory) -> dict[str, str | None]:
    """The reason why the daemon does not go on with a restore, and what to do; nulls where it does."""
    from backup.app.base.state import State
    from backup.app.restores.held import HeldNotes
    from backup.restorer.selection.choice import Choice
    from backup.restorer.writer.mark import bears_mark, read_place, unmarked

    state = State(state_dir)
    if (
        state.is_of_drill(restore.target)
        or restore.state is not RestoreStage.OPEN
        or Choice.decode(restore.choice).output
    ):
        return {"held": None, "next": None}
    note = HeldNotes(state.restores).read(restore.id)
    if note is not None:
        return {"held": note.why, "next": note.advice}
    with suppress(NightvaultError):  # a key that is gone is told of by what needs it
        if not bears_mark(restore, state.read_secret(), read_place(restore, inventory)):
            error = unmarked(restore)
            return {"held": str(error), "next": error.advice}
    return {"held": None, "next": None}


def _document(
    restore: Restore, known: Sequence[Retrieval], vaults: Mapping[str, VaultSettings]
) -> dict[str, Any]:
    from backup.app.money.expected_times import expected
    from backup.cli.render.render import path_document
    from backup.restorer.report import stage

    states: list[str] = [part.state for part in known]
    when, settings = None, vaults.get(restore.vault)
    if settings is not None and restore.state is RestoreStage.OPEN:
        when = expected(settings, known, [*vaults.values()])
    return {
        "id": restore.id,
        "snapshot": restore.snapshot,
        "vault": restore.vault,
        "path": path_document(restore.path),
        "target": path_document(restore.target),
        "tier": str(restore.tier),
        "state": restore.state,
        "stage": stage(restore, known),
        "on_capacity": restore.on_capacity,
        "created_at": restore.created_at,
        "finished_at": restore.finished_at,
        "retrievals": len(known),
        "waiting": sum(state not in SETTLED for state in states),
        "planned": states.count(RetrievalStage.PLANNED),
        "ready": states.count(RetrievalStage.READY),
        "fetched": states.count(RetrievalStage.FETCHED),
        "failed": states.count(RetrievalStage.FAILED),
        "ready_until": _first_expiry(known),
        "expected_at": None if when is None else when.latest,
    }


def _first_expiry(known: Sequence[Retrieval]) -> datetime | None:
    """The time at which the first output expires that is ready and was not fetched."""
    return min(
        (
            retrieval.until
            for retrieval in known
            if retrieval.state is RetrievalStage.READY and retrieval.until
        ),
        default=None,
    )


def _with_retrievals(inventory: Inventory, *, everything: bool) -> list[tuple[Restore, Sequence[Retrieval]]]:
    from backup.inventory.records import retrievals

    with inventory.reading() as tx:
        found = retrievals.list_restores(tx, only_open=not everything)
        return [(restore, retrievals.retrievals_of(tx, restore.number)) for restore in found]
