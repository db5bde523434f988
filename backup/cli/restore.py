"""`nightvault restore` and `nightvault restores`: ask, wait or come back later, and have the files again."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from backup.cli.context import Cli, pass_cli
from backup.cli.grouping import CommandWithWords
from backup.cli.keyfiles import read_key
from backup.cli.snapshots import job_option, split_words
from backup.errors import ExitCode, UsageError
from backup.inventory.runs import Outcome
from backup.model import JobName, Tier

if TYPE_CHECKING:
    from backup.inventory.database import Inventory
    from backup.inventory.retrievals import Restore
    from backup.restorer.restore import RestorePlan, RestoreReport, RestoreWorld

_FIRST_POLL, _LONGEST_POLL = 1.0, 300.0
# What AWS says of most retrievals: "Downloading an Archive in Amazon Glacier", developer guide.
_HOURS = {Tier.EXPEDITED: "1 to 5 minutes", Tier.STANDARD: "3 to 5 hours", Tier.BULK: "5 to 12 hours"}

numeric_option = click.option(
    "--numeric-owner",
    is_flag=True,
    help="Owners, groups and ACLs by their numbers, even where this machine knows their names.",
)
wait_option = click.option(
    "--wait", is_flag=True, help="Stay until the vault is ready, however long it takes."
)


@click.command(cls=CommandWithWords)
@click.argument("words", metavar="SNAPSHOT[:PATH]")
@click.option("--target", required=True, metavar="DIR", help="Where to write; made if it is not there.")
@job_option
@click.option("--key", "key_file", metavar="FILE|-", help="The recovery key; asked for if it is not given.")
@click.option("--passphrase-file", metavar="FILE", help="Where the key file's passphrase is.")
@click.option("--tier", type=click.Choice([str(tier) for tier in Tier]), help="How fast, and how dear.")
@wait_option
@numeric_option
@click.option("--dry-run", is_flag=True, help="Say what would be retrieved and written; ask for nothing.")
@pass_cli
def restore(
    cli: Cli,
    words: str,
    target: str,
    job: str | None,
    key_file: str | None,
    passphrase_file: str | None,
    tier: str | None,
    wait: bool,
    numeric_owner: bool,
    dry_run: bool,
) -> None:
    """Restore a snapshot, or PATH in it, below --target.

    From a vault that must make archives readable first, the same command given again later goes on where it
    is; so does `restore resume ID`. Exit code 3 says that some files could not be restored: they are named.
    """
    from backup.app.runs import opened, restore_world
    from backup.inventory.runs import vault_of_job
    from backup.inventory.snapshots import find_snapshot
    from backup.restorer.restore import begin_restore, plan_restore

    name, path = split_words(words)
    config = cli.config()
    with closing(opened(config)) as inventory:
        with inventory.reading() as tx:
            snapshot = find_snapshot(tx, name, job=JobName(job) if job else None)
            vault = vault_of_job(tx, snapshot.job_number)
        world = restore_world(config, inventory, vault, clock=cli.clock, progress=cli.progress())
        world = replace(world, numeric_owner=numeric_owner)
        plan = plan_restore(snapshot, path, world)
        if dry_run:
            _show_plan(cli, plan)
            return
        where = os.fsencode(os.path.abspath(target))
        chosen = Tier(tier) if tier else config.vault(vault).tier
        begun = begin_restore(
            plan, where, world, tier=chosen, key=lambda: read_key(key_file, passphrase_file)
        )
        _carry_on(cli, begun, world, wait=wait)


@restore.word("resume")
@click.argument("restore_id", metavar="ID")
@wait_option
@numeric_option
@pass_cli
def resume(cli: Cli, restore_id: str, wait: bool, numeric_owner: bool) -> None:
    """Go on with an open restore."""
    from backup.app.runs import opened, restore_world
    from backup.restorer.restore import find_restore

    config = cli.config()
    with closing(opened(config)) as inventory:
        begun = find_restore(inventory, restore_id)
        if begun.state != "open":
            raise UsageError(f"restore {begun.id} is {begun.state} already")
        world = restore_world(config, inventory, begun.vault, clock=cli.clock, progress=cli.progress())
        world = replace(world, numeric_owner=numeric_owner)
        _carry_on(cli, begun, world, wait=wait)


@restore.word("cancel")
@click.argument("restore_id", metavar="ID")
@pass_cli
def cancel(cli: Cli, restore_id: str) -> None:
    """Give an open restore up; what was asked for is not fetched."""
    from backup.app.runs import opened
    from backup.app.state import State
    from backup.restorer.restore import cancel as give_up
    from backup.restorer.restore import find_restore

    config = cli.config()
    with closing(opened(config)) as inventory:
        begun = find_restore(inventory, restore_id)
        give_up(begun, inventory, State(config.state_dir).restores, cli.clock)
    cli.show({"restore": begun.id, "state": "cancelled"}, f"restore {begun.id} is cancelled")


def _carry_on(cli: Cli, begun: Restore, world: RestoreWorld, *, wait: bool) -> None:
    from backup.cli.render import counted
    from backup.restorer.restore import advance, deliver, is_ready, waiting_report

    pause = _FIRST_POLL
    known = advance(begun, world)
    while not is_ready(known) and (wait or not world.vault.traits.waits):
        if pause == _FIRST_POLL and world.vault.traits.waits:
            cli.say(f"restore {begun.id}: waiting for {counted(len(known), 'retrieval')} ({begun.tier}) …")
            cli.say(f"Ctrl-C is safe: `nightvault restore resume {begun.id}` goes on")
        cli.clock.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_POLL)
        known = advance(begun, world)
    if is_ready(known):
        _tell(cli, deliver(begun, known, world))
        return
    report = waiting_report(begun, known)
    asked = counted(report.retrievals, "retrieval")
    lines = [
        f"restore {begun.id} waits for {report.waiting} of {asked} ({_HOURS[begun.tier]} with {begun.tier})",
        f"next: the same command again, then, or `nightvault restore resume {begun.id} --wait` now",
    ]
    cli.show(restore_document(report), "\n".join(lines))


def restore_document(report: RestoreReport) -> dict[str, Any]:
    """A report as JSON."""
    from backup.cli.render import path_document

    problems = [
        {**path_document(one.path), "kind": str(one.kind), "detail": one.detail} for one in report.problems
    ]
    return report.document() | {"target": path_document(report.target), "problems": problems}


def _tell(cli: Cli, report: RestoreReport) -> None:
    from backup.cli.problems import told
    from backup.cli.render import counted, duration, shown_id, shown_path, size
    from backup.model import SnapshotId

    for line in told(report.problems):
        cli.warn(line)
    wrote = f"{counted(report.files, 'file')} and {counted(report.directories, 'directory')}"
    text = [
        f"snapshot {shown_id(SnapshotId(report.snapshot))} restored below {shown_path(report.target)}",
        f"  wrote      {wrote}, {size(report.bytes)}",
        f"  retrieved  {size(report.retrieved)} in {counted(report.retrievals, 'retrieval')}",
        f"  took       {duration(report.seconds)}",
    ]
    cli.show(restore_document(report), "\n".join(text))
    if report.outcome is not Outcome.DONE:
        cli.warn("not everything could be restored or set: see above")
        raise click.exceptions.Exit(int(ExitCode.PARTIAL))


def _show_plan(cli: Cli, plan: RestorePlan) -> None:
    from backup.cli.render import counted, shown_path, size

    asked = [(plan.archives[one.archive].archive_id, one.extent) for one in plan.ranges]
    count = plan.selection.names
    document = {
        "snapshot": plan.snapshot.id,
        "files": count,
        "bytes": plan.selection.bytes,
        "retrieved": plan.retrieved,
        "retrievals": [
            {"archive": archive, "start": extent.start, "end": extent.end} for archive, extent in asked
        ],
    }
    files = f"{counted(count, 'file')}, {size(plan.selection.bytes)}"
    requests = f"{counted(len(plan.ranges), 'retrieval')} from {counted(len(plan.archives), 'archive')}"
    where = f"{shown_path(plan.path)} of snapshot {plan.snapshot.id[:8]}"
    text = f"would restore {files}, from {where}\nwould retrieve {size(plan.retrieved)} in {requests}"
    cli.show(document, text)


@click.command()
@click.option("--all", "everything", is_flag=True, help="Also those that are over.")
@pass_cli
def restores(cli: Cli, everything: bool) -> None:
    """List restores and what they wait for."""
    from backup.app.runs import opened
    from backup.cli.render import Column, local_time, path_document, table

    documents: list[dict[str, Any]] = []
    rows: list[tuple[object, ...]] = []
    with closing(opened(cli.config())) as inventory:
        for one, states in _with_states(inventory, everything=everything):
            waiting = sum(state not in {"ready", "done", "failed"} for state in states)
            documents.append(
                {
                    "id": one.id,
                    "snapshot": one.snapshot,
                    "vault": one.vault,
                    "path": path_document(one.path),
                    "target": path_document(one.target),
                    "tier": str(one.tier),
                    "state": one.state,
                    "created_at": one.created_at,
                    "finished_at": one.finished_at,
                    "retrievals": len(states),
                    "waiting": waiting,
                }
            )
            count = f"{waiting} of {len(states)}" if one.state == "open" else None
            begun = local_time(one.created_at)
            rows.append((one.id[:8], one.snapshot[:8], one.state, count, begun, one.target))
    columns = ["restore", "snapshot", "state", "waiting", "begun", Column("below", folds=True)]
    cli.show(documents, table(columns, rows) if rows else "no restores")


def _with_states(inventory: Inventory, *, everything: bool) -> list[tuple[Restore, list[str]]]:
    from backup.inventory import retrievals

    with inventory.reading() as tx:
        found = retrievals.list_restores(tx, only_open=not everything)
        return [(one, [part.state for part in retrievals.retrievals_of(tx, one.number)]) for one in found]
