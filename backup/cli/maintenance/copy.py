"""`nightvault copy`: snapshots into another vault, with catalogs of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

import click

from backup.cli.options.moments import parse_moment
from backup.cli.render.amounts import parse_amount
from backup.cli.support.choosing_vault import Result, show_results
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.operating import operate, report_lines, result_of

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

    from backup.app.base.run_context import RunContext
    from backup.config import Config
    from backup.copier.context import CopyChoice
    from backup.copier.report import CopyReport
    from backup.model import JobName, VaultName
    from backup.transfer.retry import RetryLimit

EXAMPLES = {
    "copy": (
        "nightvault copy --from disk --to cold --dry-run",
        "nightvault copy --from disk --to cold --job main --since 30d",
    )
}


@click.command()
@click.option(
    "--from", "source", metavar="VAULT", required=True, help="The vault that holds the job's backups."
)
@click.option("--to", "target", metavar="VAULT", required=True, help="The vault that gets the copies.")
@click.option("--job", "job", metavar="JOB", help="Copy only this job; else all jobs of the first vault.")
@click.option("--snapshot", metavar="SNAPSHOT", help="Copy only this snapshot: its id, or the begin of it.")
@click.option("--since", metavar="TIME", help="Copy only snapshots since that time.")
@click.option(
    "--tag", "tags", metavar="NAME", multiple=True, help="Copy only snapshots with this tag, or another."
)
@click.option(
    "--max-cost", "max_cost", metavar="MONEY", help="Copy nothing if reading it costs more than that."
)
@click.option("--dry-run", is_flag=True, help="Show what would be copied; send nothing.")
@pass_cli
def copy(
    cli: Cli,
    source: str,
    target: str,
    job: str | None,
    snapshot: str | None,
    since: str | None,
    tags: tuple[str, ...],
    max_cost: str | None,
    dry_run: bool,
) -> None:
    """Copy snapshots into another vault, as they are: the same packs, still sealed.

    Only what the other vault lacks is read and sent, each pack compared with what was recorded when it was
    stored. A copy that was cut goes on with the next. It runs beside backups. The other vault gets catalogs
    of its own: `nightvault rebuild --vault` from it alone brings everything back that was copied, with tags
    and pins, also what the first vault has forgotten and pruned since.

    The first vault must make archives readable at once: a directory, or a bucket that is no archive.
    """
    from backup.app.money.prices import currency_of
    from backup.errors import UsageError
    from backup.model import VaultName

    config = cli.config()
    vaults = VaultName(config.vault(source).name), VaultName(config.vault(target).name)
    if vaults[0] == vaults[1]:
        raise UsageError("a vault is not copied into itself")
    moment = None if since is None else parse_moment(since, cli.clock.now(), cli.warn)
    limit = None if max_cost is None else parse_amount("--max-cost", max_cost)
    results: list[Result] = []
    for name, choice in _chosen(config, vaults[0], job, snapshot, moment, tags):
        report = _copy(cli, config, name, vaults, choice, limit, is_plan=dry_run)
        nothing = "nothing is missing there"
        text = report_lines(report, currency_of(config), is_plan=dry_run, nothing=nothing)
        results.append(result_of(cli, report, "\n".join(text), report.problems))
    show_results(cli, results)


def _chosen(
    config: Config,
    vault: VaultName,
    job: str | None,
    snapshot: str | None,
    since: datetime | None,
    tags: tuple[str, ...],
) -> list[tuple[JobName, CopyChoice]]:
    """The jobs that are copied, each with the choice of its snapshots."""
    from backup.app.base.opened import opened
    from backup.copier.context import CopyChoice
    from backup.errors import UsageError
    from backup.inventory.content.snapshots import find_snapshot
    from backup.inventory.records.runs import list_jobs
    from backup.model import JobName

    with closing(opened(config)) as inventory, inventory.reading() as tx:
        if snapshot is not None:
            found = find_snapshot(tx, snapshot, job=None if job is None else JobName(job))
            return [(found.job, CopyChoice(found.id, since, tags))]
        names = [JobName(job)] if job else [row.name for row in list_jobs(tx, vault)]
    if not names:
        raise UsageError(
            f"vault {vault} has no job's own backups: there is nothing to copy from it",
            advice="name the vault of the job's backups in --from",
        )
    return [(name, CopyChoice(None, since, tags)) for name in names]


def _copy(
    cli: Cli,
    config: Config,
    job: JobName,
    vaults: tuple[VaultName, VaultName],
    choice: CopyChoice,
    limit: Decimal | None,
    *,
    is_plan: bool,
) -> CopyReport:
    from backup.cli.support.telling import telling
    from backup.operations.copy import Copy

    def begin(at: RunContext) -> Callable[[RetryLimit | None], CopyReport]:
        operation = Copy.between(at, job, *vaults, choice, max_cost=limit)
        return operation.plan if is_plan else operation.step

    told = None if is_plan else telling(cli, config, Copy.kind, job=job)
    return operate(cli, config, begin, told=told)
