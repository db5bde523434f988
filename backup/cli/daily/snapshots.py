"""`nightvault snapshots`: the list of snapshots, from the inventory alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from backup.cli.options.snapshot_arguments import Tags, chosen_job, job_option, tag_option
from backup.cli.render.problems import problem_document
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.grouping import CommandWithSubcommands

if TYPE_CHECKING:
    from datetime import datetime

    from backup.cli.render.tables import Sheet
    from backup.inventory.content.snapshots import Snapshot
    from backup.inventory.store.connections import Transaction
    from backup.model import VaultName

EXAMPLES = {
    "snapshots": ("nightvault snapshots", "nightvault snapshots --job etc --tag release"),
    "snapshots accept": (
        "nightvault snapshots accept 9d4e6f01  # what it lost was deleted on purpose",
        "nightvault snapshots accept latest --job etc",
    ),
}


@click.command(cls=CommandWithSubcommands)
@job_option
@tag_option
@click.option("--forgotten", is_flag=True, help="Those that were forgotten, and can come back.")
@click.option("--vault", metavar="VAULT", help="Those that this vault has: of its jobs, and copies.")
@pass_cli
def snapshots(cli: Cli, job: str | None, tags: Tags, forgotten: bool, vault: str | None) -> None:
    """List snapshots, oldest first. Forgotten ones are not among them."""
    from backup.app.base.opened import opened
    from backup.inventory.content.snapshots import list_snapshots

    config = cli.config()
    with closing(opened(config)) as inventory, inventory.reading() as tx:
        named = chosen_job(config, tx, job)
        if vault is None:
            found = list_snapshots(tx, job=named, also_forgotten=forgotten, tags=tags)
        else:
            some = _in_vault(tx, config.vault(vault).name, also_forgotten=forgotten)
            found = [snapshot for snapshot in some if named in {None, snapshot.job} and snapshot.fits(tags)]
    if forgotten:
        found = [snapshot for snapshot in found if snapshot.forgotten_at is not None]
    now = cli.clock.now()
    none = "no snapshot is forgotten" if forgotten else "no snapshots yet"
    if (tags or job or vault) and not forgotten:
        none = "no such snapshots"
    text = _screen(found, now, forgotten=forgotten) if found else none
    cli.show([snapshot_document(snapshot) for snapshot in found], text)


@snapshots.subcommand("accept")
@click.argument("word", metavar="SNAPSHOT")
@job_option
@pass_cli
def accept(cli: Cli, word: str, job: str | None) -> None:
    """Accept a snapshot in which a source has lost nearly everything: it is right, and so are all before it.

    Until then nothing of its job is forgotten, condemned or deleted, whatever later snapshots hold. If it is
    not right, mount the disk or restore what is missing, let a backup run, and accept it then.
    """
    from backup.app.base.opened import opened
    from backup.app.retention import marking
    from backup.cli.support.operating import run_context
    from backup.inventory.content.shrunk import lost_text
    from backup.inventory.content.snapshots import find_snapshot

    config = cli.config()
    with closing(opened(config)) as inventory:
        with inventory.reading() as tx:
            found = find_snapshot(tx, word, job=chosen_job(config, tx, job))
        with run_context(cli, config, inventory) as at:
            waiting = marking.waiting_up_to(at, found)
            done = marking.accept(at, found)
    shown = f"snapshot {found.id[:8]} of job {found.job}"
    for snapshot in waiting:
        for lost in snapshot.lost:
            cli.say(f"snapshot {snapshot.id[:8]}: {lost_text(lost)}")
    told = f"{shown} is accepted: forgetting and deleting go on" if done else f"{shown}: nothing waits for it"
    document = {"snapshot": found.id, "job": found.job, "accepted": [snapshot.id for snapshot in waiting]}
    document["recovery_line"] = done.recovery_line if done else ""
    cli.show(document, told)
    for warning in done.warnings if done else ():
        cli.warn(f"warning: {warning}")


def _in_vault(tx: Transaction, vault: VaultName, *, also_forgotten: bool) -> list[Snapshot]:
    """The snapshots that a vault has, oldest first: its jobs' own, and copies as it has them."""
    from backup.app.retention.undo import known_snapshots
    from backup.inventory.content.snapshots import list_snapshots
    from backup.inventory.records.runs import list_jobs

    own = {job.number for job in list_jobs(tx, vault)}
    every = list_snapshots(tx, also_forgotten=also_forgotten)
    found = [snapshot for snapshot in every if snapshot.job_number in own]
    copies = known_snapshots(tx, vault)
    found += [snapshot for snapshot in copies if also_forgotten or snapshot.forgotten_at is None]
    return sorted(found, key=lambda snapshot: (snapshot.started_at, snapshot.job, snapshot.number))


def _screen(found: Sequence[Snapshot], now: datetime, *, forgotten: bool) -> Sheet:
    """A table; columns of tags and pins only where there are any."""
    from backup.cli.render.render import local_time, shown_id, size, table
    from backup.cli.render.tables import Column

    columns: list[tuple[object, Callable[[Snapshot], object]]] = [
        ("snapshot", lambda snapshot: shown_id(snapshot.id)),
        (Column("job", least=12), lambda snapshot: snapshot.job),
        ("time", lambda snapshot: local_time(snapshot.started_at)),
        (Column("files", right=True, rank=1), lambda snapshot: snapshot.files),
        (Column("size", right=True), lambda snapshot: size(snapshot.bytes)),
        (Column("problems", right=True, rank=3), lambda snapshot: len(snapshot.problems) or None),
    ]
    if forgotten:
        columns.append(("forgotten", lambda snapshot: local_time(snapshot.forgotten_at)))
    if any(snapshot.tags for snapshot in found):
        columns.append((Column("tags", least=8), lambda snapshot: ", ".join(snapshot.tags) or None))
    if any(snapshot.waits for snapshot in found):
        columns.append((Column("lost", least=5), lambda snapshot: "waits" if snapshot.waits else None))
    if any(snapshot.pin for snapshot in found):
        columns.append((Column("pinned", least=8), lambda snapshot: _pin(snapshot, now)))
    columns.append((Column("host", rank=4, least=8), lambda snapshot: snapshot.host))
    return table(
        [title for title, _ in columns], [[value(snapshot) for _, value in columns] for snapshot in found]
    )


def _pin(snapshot: Snapshot, now: datetime) -> str | None:
    """A pin for a table: until when, and the note; one that has ended is told as such."""
    if snapshot.pin is None:
        return None
    until = snapshot.pin.until
    when = "yes" if until is None else f"until {until.astimezone():%Y-%m-%d}"
    when = when if snapshot.pin.holds_at(now) else "ended"
    return f"{when}: {snapshot.pin.note}" if snapshot.pin.note else when


def snapshot_document(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot as a JSON document."""
    from backup.cli.render.render import path_document

    problems = [problem_document(problem) for problem in snapshot.problems]
    return {
        "id": snapshot.id,
        "job": snapshot.job,
        "started_at": snapshot.started_at,
        "finished_at": snapshot.finished_at,
        "host": snapshot.host,
        "sources": [path_document(source) for source in snapshot.sources],
        "files": snapshot.files,
        "bytes": snapshot.bytes,
        "problems": problems,
        "tags": list(snapshot.tags),
        "pin": None if snapshot.pin is None else {"note": snapshot.pin.note, "until": snapshot.pin.until},
        "forgotten_at": snapshot.forgotten_at,
        "waits": snapshot.waits,
    }
