"""`nightvault forget`: forgets the snapshots that policies do not keep, or named ones; undoes that."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from backup.cli.options.keep_options import keep_options, policy_of
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.failures import failure_of, worst_of
from backup.cli.support.operating import run_context
from backup.errors import ExitCode, InterruptedRunError, NightvaultError, UsageError

if TYPE_CHECKING:
    from backup.app.backups.run_context import RunContext
    from backup.app.money.freed import Freed
    from backup.app.retention.forget_words import Targets
    from backup.app.retention.forgetting import JobPlan, Planner
    from backup.config import Config
    from backup.inventory.store.connections import Transaction
    from backup.model import JobName
    from backup.retention.policy import Policy

EXAMPLES = {
    "forget": (
        "nightvault forget --dry-run  # by the policies of all jobs",
        "nightvault forget etc --simulate 'daily at 02:30' --years 3",
    )
}


@click.command()
@click.argument("words", nargs=-1, metavar="[JOB | SNAPSHOT]...")
@click.option(
    "--job",
    "jobs",
    metavar="NAME",
    multiple=True,
    help="This job, even if a snapshot's id begins with its name.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be forgotten, and change nothing.")
@click.option("--undo", is_flag=True, help="Take forgotten snapshots back: those named, or a job's.")
@click.option("--all", "every", is_flag=True, help="With --undo: all that can come back.")
@click.option(
    "--simulate",
    "schedule",
    metavar="SCHEDULE",
    help="Show which future nights the policy would keep.",
)
@click.option("--years", type=click.IntRange(1, 30), default=3, show_default=True, help="With --simulate.")
@click.option("--svg", metavar="FILE", help="With --simulate: draw it.")
@keep_options
@pass_cli
def forget(
    cli: Cli,
    /,
    words: tuple[str, ...],
    jobs: tuple[str, ...],
    dry_run: bool,
    undo: bool,
    every: bool,
    schedule: str | None,
    years: int,
    svg: str | None,
    **keep: Any,
) -> None:
    """Forget what the policies of the named jobs do not keep, or of all jobs that have a policy.

    A forgotten snapshot is not listed any more and keeps no archive. Nothing is deleted: --undo takes it back
    until archives are deleted that only it needed. With --keep-… another policy counts this once. Snapshots
    that are named are forgotten whatever the policy says; never a pinned one, nor a job's last whole one. The
    policy of a job that leaves out all of a source takes nothing (exit code 3).
    """
    policy = policy_of(keep)
    if schedule is not None:
        from backup.cli.maintenance.simulation import simulate

        simulate(cli, [*words, *jobs], schedule, years, svg, policy)
        return
    if svg is not None:
        raise UsageError("--svg belongs to --simulate")
    if undo:
        from backup.cli.maintenance.forget_undo import undo as take_back

        _only_with_policy(policy, words, "--undo")
        take_back(cli, words, jobs, every=every, dry_run=dry_run)
        return
    if every:
        raise UsageError("--all belongs to --undo", advice="without a JOB all jobs with a policy are taken")
    _forget(cli, words, jobs, policy, dry_run=dry_run)


def _forget(
    cli: Cli, words: Sequence[str], jobs: Sequence[str], policy: Policy | None, *, dry_run: bool
) -> None:
    from backup.app.base.opened import opened
    from backup.app.money.freed import freed_by
    from backup.app.retention.forget_words import targets_of
    from backup.app.retention.forgetting import refuse_refused, vaults_of
    from backup.cli.support.telling import telling

    config = cli.config()
    with closing(opened(config)) as inventory:
        with inventory.reading() as tx:
            meant = targets_of(config, tx, words, jobs)
            if meant.snapshots:
                _only_with_policy(policy, words, "a snapshot")
            planner = _planner(cli, config, meant, policy)
            plans = planner(tx)
            refuse_refused(plans)
            goes = [snapshot.id for plan in plans for snapshot in plan.goes]
            freed = freed_by(config, tx, goes, vaults_of(plans), cli.clock.now())
        if dry_run:
            _show(cli, [_tell_plan(cli, plan) for plan in plans], freed, is_dry=True)
            if any(plan.leaves_out for plan in plans):
                raise click.exceptions.Exit(int(ExitCode.PARTIAL))
            return
        with telling(cli, config), run_context(cli, config, inventory) as at:
            documents, worst = _run(cli, at, plans, planner)
    _show(cli, documents, freed, is_dry=False)
    if worst is not ExitCode.DONE:
        raise click.exceptions.Exit(int(worst))


def _planner(cli: Cli, config: Config, meant: Targets, policy: Policy | None) -> Planner:
    """What makes the plans, now and again under the lock."""
    from backup.app.retention.forgetting import jobs_with_policy, plan_by_name, plan_by_policy

    def by_name(tx: Transaction) -> list[JobPlan]:
        found: dict[JobName, set[Any]] = {}
        for snapshot in meant.snapshots:
            found.setdefault(snapshot.job, set()).add(snapshot.id)
        return [plan_by_name(config, tx, job, ids, cli.clock.now()) for job, ids in found.items()]

    def by_policy(tx: Transaction) -> list[JobPlan]:
        chosen: Sequence[JobName] = meant.jobs or jobs_with_policy(config, tx, any_job=policy is not None)
        return [plan_by_policy(config, tx, job, cli.clock.now(), instead=policy) for job in chosen]

    return by_name if meant.snapshots else by_policy


def _run(
    cli: Cli, at: RunContext, plans: Sequence[JobPlan], planner: Planner
) -> tuple[list[dict[str, Any]], ExitCode]:
    """Forget in one vault after the other; if one fails, the others are done all the same."""
    from backup.app.retention.forgetting import forget_in, vaults_of

    documents: dict[JobName, dict[str, Any]] = {}
    vaults = vaults_of(plans)
    worst = ExitCode.PARTIAL if any(plan.leaves_out for plan in plans) else ExitCode.DONE
    for vault in vaults:
        try:
            for plan, done in forget_in(at, vault, planner):
                documents[plan.job.name] = _tell_plan(cli, plan, done)
                if done.warnings:
                    worst = worst_of([worst, ExitCode.PARTIAL])
        except NightvaultError as error:
            if len(vaults) == 1 or isinstance(error, InterruptedRunError):
                raise
            failed = [plan for plan in plans if plan.vault == vault and plan.job.name not in documents]
            names = ", ".join(plan.job.name for plan in failed)
            cli.warn(f"nightvault: {names}: {error}" + (f"\n  {error.advice}" if error.advice else ""))
            worst = worst_of([worst, error.exit_code])
            found = failure_of(error)
            documents |= {plan.job.name: _document(plan, None, found) for plan in failed}
    for plan in plans:
        if plan.job.name not in documents:
            documents[plan.job.name] = _tell_plan(cli, plan)
    return list(documents.values()), worst


def _tell_plan(cli: Cli, plan: JobPlan, done: Any = None) -> dict[str, Any]:
    """Tell of one job; its document."""
    from rich.console import Group

    from backup.cli.maintenance.forget_output import job_screen

    if not cli.json:
        cli.report(None, Group(*job_screen(plan)))
        for warning in [*plan.warnings, *(done.warnings if done else ())]:
            cli.warn(f"warning: {warning}")
    return _document(plan, done)


def _document(plan: JobPlan, done: Any, error: Any = None) -> dict[str, Any]:
    from backup.cli.maintenance.forget_output import document

    return document(plan, done, error)


def _show(cli: Cli, documents: Sequence[dict[str, Any]], freed: Sequence[Freed], *, is_dry: bool) -> None:
    from backup.cli.maintenance.forget_output import freed_document, freed_lines

    lines = list(freed_lines(freed))
    if is_dry:
        lines.append("nothing was changed: this was a dry run")
    elif any(document["run"] for document in documents):
        lines.append("nothing was deleted; `nightvault forget --undo SNAPSHOT` takes one back")
    found = {
        "dry_run": is_dry,
        "jobs": documents,
        "frees": [freed_document(freed_of_vault) for freed_of_vault in freed],
    }
    cli.report(found, "\n".join(lines) if lines else None)


def _only_with_policy(policy: Policy | None, words: Sequence[str], what: str) -> None:
    if policy is not None:
        which = f"--keep-… and {what}: which of the two?"
        raise UsageError(which, advice=f"leave one out: {' '.join(words)}")
