"""`nightvault forget --undo`: brings forgotten snapshots back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from backup.cli.support.operating import run_context
from backup.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from backup.app.retention.forget_words import Targets
    from backup.app.retention.undo import Return
    from backup.cli.support.context import Cli
    from backup.config import Config
    from backup.inventory.content.snapshots import Snapshot
    from backup.inventory.store.connections import Transaction


def undo(cli: Cli, words: Sequence[str], jobs: Sequence[str], *, every: bool, dry_run: bool) -> None:
    """Take back the named snapshots, all of the named jobs, or all that can come back."""
    from backup.app.base.opened import opened
    from backup.app.retention.forget_words import targets_of
    from backup.app.retention.undo import cannot_come_back

    if every and (words or jobs):
        raise UsageError("--all and a name: not both", advice=f"leave one out: {' '.join((*words, *jobs))}")
    if not (every or words or jobs):
        raise UsageError(
            "which snapshots? name them or their jobs, or say --all",
            advice="`nightvault snapshots --forgotten` lists what can come back",
        )
    config = cli.config()
    with closing(opened(config)) as inventory:
        with inventory.reading() as tx:
            meant = targets_of(config, tx, words, jobs, undo=True)
            found = _found(tx, meant)
        lost = [snapshot for of_job in found for snapshot in of_job.lost]
        if lost and meant.snapshots:
            raise cannot_come_back(lost)
        comes = [snapshot for of_job in found for snapshot in of_job.comes]
        done = [] if dry_run else _run(cli, config, inventory, comes, if_all=bool(meant.snapshots))
    _show(cli, config, comes, lost, done, dry_run=dry_run)
    if lost:
        raise click.exceptions.Exit(int(ExitCode.PARTIAL))


def _found(tx: Transaction, meant: Targets) -> list[Return]:
    """The snapshots that can come back, and those that cannot, of each job that is meant."""
    from backup.app.retention.undo import returns
    from backup.inventory.content.snapshots import list_snapshots

    chosen = meant.snapshots or [
        snapshot
        for snapshot in list_snapshots(tx, also_forgotten=True)
        if snapshot.forgotten_at is not None and (not meant.jobs or snapshot.job in meant.jobs)
    ]
    by_job: dict[str, list[Snapshot]] = {}
    for snapshot in chosen:
        by_job.setdefault(snapshot.job, []).append(snapshot)
    return [returns(tx, of_job) for of_job in by_job.values()]


def _run(
    cli: Cli, config: Config, inventory: Any, comes: Sequence[Snapshot], *, if_all: bool
) -> list[dict[str, Any]]:
    from backup.app.retention.undo import undo_forget

    done: list[dict[str, Any]] = []
    with run_context(cli, config, inventory) as at:
        for amended in undo_forget(at, {snapshot.id for snapshot in comes}, if_all=if_all):
            for warning in amended.warnings:
                cli.warn(f"warning: {warning}")
            done.append(
                {
                    "job": amended.job,
                    "vault": amended.vault,
                    "run": amended.run,
                    **amended.report,
                    "warnings": amended.warnings,
                    "recovery_line": amended.recovery_line,
                }
            )
    return done


def _show(
    cli: Cli,
    config: Config,
    comes: Sequence[Snapshot],
    lost: Sequence[Snapshot],
    done: Sequence[dict[str, Any]],
    *,
    dry_run: bool,
) -> None:
    from backup.cli.render.render import local_time, shown_id, table
    from backup.cli.render.tables import Column

    for snapshot in lost:
        cli.warn(f"{shown_id(snapshot.id)} of job {snapshot.job} cannot come back: what it needs was deleted")
    found = {
        "dry_run": dry_run,
        "taken_back": [snapshot.id for snapshot in comes],
        "cannot_come_back": [snapshot.id for snapshot in lost],
        "amended": done,
    }
    rows = [
        (
            shown_id(snapshot.id),
            snapshot.job,
            local_time(snapshot.started_at),
            local_time(snapshot.forgotten_at),
        )
        for snapshot in comes
    ]
    columns = ["snapshot", Column("job", least=8), "time", "forgotten"]
    title = "would come back" if dry_run else "came back"
    cli.report(found, table(columns, rows, title=title) if rows else "nothing is forgotten")
    policies = {job.name for job in config.jobs if job.policy is not None}
    again = sorted({snapshot.job for snapshot in comes} & policies)
    if again and not dry_run:
        cli.say(f"the policy of {', '.join(again)} may forget them again: `nightvault pin` keeps them")
