"""`nightvault forget --undo`: brings forgotten snapshots back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from backup.cli.support.operating import run_context
from backup.errors import ExitCode, UsageError
from backup.model import VaultName

if TYPE_CHECKING:
    from backup.app.retention.forget_words import Targets
    from backup.app.retention.undo import Return
    from backup.cli.support.context import Cli
    from backup.config import Config, JobSettings
    from backup.inventory.content.snapshots import Snapshot
    from backup.inventory.store.connections import Transaction


def undo(
    cli: Cli, words: Sequence[str], jobs: Sequence[str], *, every: bool, vault: str | None, dry_run: bool
) -> None:
    """Take back the named snapshots, all of the named jobs, or all that can come back: copies in `vault`."""
    from backup.app.base.opened import opened
    from backup.app.retention.forget_words import targets_of
    from backup.app.retention.undo import cannot_come_back, known_snapshots

    if every and (words or jobs):
        raise UsageError("--all and a name: not both", advice=f"leave one out: {' '.join((*words, *jobs))}")
    if not (every or words or jobs):
        raise UsageError(
            "which snapshots? name them or their jobs, or say --all",
            advice="`nightvault snapshots --forgotten` lists what can come back"
            if vault is None
            else f"`nightvault forget --undo --vault {vault} --all --dry-run` lists what can come back",
        )
    config = cli.config()
    there = None if vault is None else VaultName(config.vault(VaultName(vault)).name)
    with closing(opened(config)) as inventory:
        with inventory.reading() as tx:
            known = known_snapshots(tx, there)
            if there is not None and not known:
                raise UsageError(
                    f"vault {there} has no copies", advice="without --vault a job's own vault is meant"
                )
            meant = targets_of(config, tx, words, jobs, undo=True, among=known)
            found = _found(tx, meant, known, there)
        lost = [snapshot for of_job in found for snapshot in of_job.lost]
        if lost and meant.snapshots:
            raise cannot_come_back(lost)
        comes = [snapshot for of_job in found for snapshot in of_job.comes]
        done = [] if dry_run else _run(cli, config, inventory, comes, there, if_all=bool(meant.snapshots))
    _show(cli, config, comes, lost, done, there, dry_run=dry_run)
    if lost:
        raise click.exceptions.Exit(int(ExitCode.PARTIAL))


def _found(
    tx: Transaction, meant: Targets, known: Sequence[Snapshot], vault: VaultName | None
) -> list[Return]:
    """The snapshots that can come back, and those that cannot, of each job that is meant."""
    from backup.app.retention.undo import returns

    chosen = meant.snapshots or [
        snapshot
        for snapshot in known
        if snapshot.forgotten_at is not None and (not meant.jobs or snapshot.job in meant.jobs)
    ]
    by_job: dict[str, list[Snapshot]] = {}
    for snapshot in chosen:
        by_job.setdefault(snapshot.job, []).append(snapshot)
    return [returns(tx, of_job, vault) for of_job in by_job.values()]


def _run(
    cli: Cli,
    config: Config,
    inventory: Any,
    comes: Sequence[Snapshot],
    vault: VaultName | None,
    *,
    if_all: bool,
) -> list[dict[str, Any]]:
    from backup.app.retention.undo import undo_forget

    done: list[dict[str, Any]] = []
    with run_context(cli, config, inventory) as at:
        chosen = {snapshot.id for snapshot in comes}
        for amended in undo_forget(at, chosen, if_all=if_all, vault=vault):
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
    vault: VaultName | None,
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
    title = ("would come back" if dry_run else "came back") + (f" in vault {vault}" if vault else "")
    cli.report(found, table(columns, rows, title=title) if rows else "nothing is forgotten")
    policies = {job.name for job in config.jobs if _has_policy(job, vault)}
    again = sorted({snapshot.job for snapshot in comes} & policies)
    if again and not dry_run:
        cli.say(f"the policy of {', '.join(again)} may forget them again: `nightvault pin` keeps them")


def _has_policy(job: JobSettings, vault: VaultName | None) -> bool:
    """Whether a policy forgets snapshots of a job: its own, or that of its copies in a vault."""
    if vault is None:
        return job.policy is not None
    return any(copy.vault == vault and copy.policy is not None for copy in job.copy)
