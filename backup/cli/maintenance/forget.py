"""`nightvault forget`: forgets the snapshots that policies do not keep, or named ones; undoes that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from backup.cli.options.keep_options import keep_options, policy_of
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.failures import Failure, failure_of, worst_of
from backup.cli.support.operating import run_context
from backup.errors import ExitCode, InterruptedRunError, NightvaultError, UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from backup.app.base.run_context import RunContext
    from backup.app.money.freed import Freed
    from backup.app.retention.forget_words import Targets
    from backup.app.retention.forgetting import JobPlan, Planner
    from backup.catalogs.amend import Amended
    from backup.config import Config
    from backup.inventory.store.connections import Transaction
    from backup.model import JobName
    from backup.retention.policy import Decision, Policy

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
@click.option("--vault", metavar="VAULT", help="With --undo: copies that were forgotten in this vault.")
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
    vault: str | None,
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
        take_back(cli, words, jobs, every=every, vault=vault, dry_run=dry_run)
        return
    if vault is not None:
        raise UsageError(
            "--vault belongs to --undo", advice="what a copy's own policy does not keep, `copy` forgets there"
        )
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
    """The function that makes the plans, now and again under the lock."""
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

    if not cli.json:
        cli.report(None, Group(*_job_screen(plan)))
        for warning in [*plan.warnings, *(done.warnings if done else ())]:
            cli.warn(f"warning: {warning}")
    return _document(plan, done)


def _show(cli: Cli, documents: Sequence[dict[str, Any]], freed: Sequence[Freed], *, is_dry: bool) -> None:
    lines = list(_freed_lines(freed))
    if is_dry:
        lines.append("nothing was changed: this was a dry run")
    elif any(document["run"] for document in documents):
        lines.append("nothing was deleted; `nightvault forget --undo SNAPSHOT` takes one back")
    found = {
        "dry_run": is_dry,
        "jobs": documents,
        "frees": [_freed_document(freed_of_vault) for freed_of_vault in freed],
    }
    cli.report(found, "\n".join(lines) if lines else None)


def _only_with_policy(policy: Policy | None, words: Sequence[str], what: str) -> None:
    if policy is not None:
        which = f"--keep-… and {what}: which of the two?"
        raise UsageError(which, advice=f"leave one out: {' '.join(words)}")


def _job_screen(plan: JobPlan) -> Iterator[RenderableType]:
    """Return a job's heading, and the table of its snapshots kept and forgotten."""
    from backup.cli.render.render import printable, table
    from backup.cli.render.tables import Column

    policy = f": keeps {plan.policy}" if plan.policy else ""
    yield printable(f"job {plan.job.name} in vault {plan.vault}{policy}")
    shown = plan.plan.stays if plan.policy else ()
    for title, decisions in (("stays", shown), ("goes", plan.plan.goes)):
        if decisions:
            why = Column("why", folds=True)
            yield table(
                ["snapshot", "time", why], [_row(plan, decision) for decision in decisions], title=title
            )
    yield f"snapshots that stay: {len(plan.plan.stays):,}, that go: {len(plan.plan.goes):,}"


def _freed_lines(found: Sequence[Freed]) -> Iterator[str]:
    """Yield lines on how much prune could delete, and from when on without extra cost."""
    from backup.wording import counted, size

    for freed in found:
        if not freed.archives:
            yield f"in vault {freed.vault} it frees nothing yet: other snapshots need the same archives"
            continue
        archives = counted(freed.archives, "archive")
        yield f"in vault {freed.vault} nothing else needs {archives} of {size(freed.bytes)} (an estimate);"
        yield f"  {_when(freed)}"


def _when(freed: Freed) -> str:
    from backup.wording import size

    if freed.free_now is None or freed.last is None:
        return "how long this vault bills at least is not known"
    if freed.free_now == freed.bytes:
        return "they can be deleted at no extra cost now"
    later = f"at no extra cost from {freed.last:%Y-%m-%d} on"
    return f"{size(freed.free_now)} can be deleted at no extra cost now, all of it {later}"


def _document(plan: JobPlan, done: Amended | None, error: Failure | None = None) -> dict[str, Any]:
    """Return what was forgotten of a job as JSON; `run` is null if nothing was changed."""
    found: dict[str, Any] = {
        "job": plan.job.name,
        "vault": plan.vault,
        "policy": str(plan.policy) if plan.policy else None,
        "kept": [_decided(plan, decision) for decision in plan.plan.stays],
        "forgotten": [_decided(plan, decision) for decision in plan.plan.goes],
        "run": done.run if done else None,
        "warnings": [*plan.warnings, *(done.warnings if done else ())],
        "recovery_line": done.recovery_line if done else None,
    }
    return found if error is None else found | {"error": error}


def _freed_document(freed: Freed) -> dict[str, Any]:
    """Return the estimate of what prune could delete in one vault, as JSON."""
    return {
        "vault": freed.vault,
        "archives": freed.archives,
        "bytes": freed.bytes,
        "bytes_free_now": freed.free_now,
        "free_from": freed.last,
    }


def _row(plan: JobPlan, decision: Decision) -> tuple[object, ...]:
    from backup.wording import local_time

    snapshot = plan.snapshots[decision.number]
    return snapshot.id[:8], local_time(snapshot.started_at, plan.zone), "; ".join(decision.reasons)


def _decided(plan: JobPlan, decision: Decision) -> dict[str, Any]:
    snapshot = plan.snapshots[decision.number]
    return {"snapshot": snapshot.id, "started_at": snapshot.started_at, "reasons": list(decision.reasons)}
