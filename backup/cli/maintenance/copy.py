"""`nightvault copy`: snapshots into another vault, with catalogs of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import click

from backup.cli.options.moments import parse_moment
from backup.cli.options.retrieval_options import keys_option, passphrase_files_option, wait_option
from backup.cli.render.amounts import parse_amount
from backup.cli.support.choosing_vault import Result, show_results
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.keyfiles import read_keys
from backup.cli.support.operating import operate, report_lines, result_of

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

    from backup.app.base.run_context import RunContext
    from backup.config import Config
    from backup.copier.context import CopyChoice
    from backup.copier.report import CopyReport
    from backup.format.keys import RecoveryKey
    from backup.model import JobName, VaultName
    from backup.transfer.retry import RetryLimit

EXAMPLES = {
    "copy": (
        "nightvault copy --job main --dry-run",
        "nightvault copy --from disk --to cold --since 30d",
    )
}


class _PlannedCopy(NamedTuple):
    """A copy to make: the job, its vault, the vault that gets it; by the config if there is no choice."""

    job: JobName
    source: VaultName
    target: VaultName
    choice: CopyChoice | None


@click.command()
@click.option("--from", "source", metavar="VAULT", help="The vault that holds the job's backups.")
@click.option("--to", "target", metavar="VAULT", help="The vault that gets the copies.")
@click.option("--job", "job", metavar="JOB", help="Copy only this job; else all jobs.")
@click.option("--snapshot", metavar="SNAPSHOT", help="Copy only this snapshot: its id, or the begin of it.")
@click.option("--since", metavar="TIME", help="Copy only snapshots since that time.")
@click.option(
    "--tag", "tags", metavar="NAME", multiple=True, help="Copy only snapshots with this tag, or another."
)
@click.option(
    "--max-cost", "max_cost", metavar="MONEY", help="Copy nothing if reading it costs more than that."
)
@click.option("--dry-run", is_flag=True, help="Show what would be copied; send nothing.")
@keys_option("The recovery key: once after a rebuild, to read what the other vault has.")
@passphrase_files_option
@wait_option
@pass_cli
def copy(
    cli: Cli,
    source: str | None,
    target: str | None,
    job: str | None,
    snapshot: str | None,
    since: str | None,
    tags: tuple[str, ...],
    max_cost: str | None,
    dry_run: bool,
    key_files: tuple[str, ...],
    passphrase_files: tuple[str, ...],
    wait: bool,
) -> None:
    """Copy snapshots into another vault, as they are: the same packs, still sealed.

    Without --from it makes the copies that the config has (`[[job.copy]]`), as the daemon does: those
    snapshots that the other vault is to keep. With --from and --to it copies what you choose, else all.

    Only what the other vault lacks is read and sent, each pack compared with what was recorded when it was
    stored. A copy that was cut goes on with the next. It runs beside backups. The other vault gets catalogs
    of its own: `nightvault rebuild --vault` from it alone brings everything back that was copied, with tags
    and pins, also what the first vault has forgotten and pruned since.

    A first vault that makes archives readable hours later is asked for a part of them at a time, by its
    cheapest retrievals: give the same command again, and it goes on. Exit code 17 says that it waits.
    --max-cost is held against all that is left, before anything is asked for.

    After `nightvault rebuild` it is not known what the other vault has: its catalogs are sealed. Give the
    recovery key once, with --key: they are read, and it copies on; nothing is sent again.
    """
    from backup.app.money.prices import currency_of
    from backup.errors import UsageError
    from backup.wording import counted

    config = cli.config()
    moment = None if since is None else parse_moment(since, cli.clock.now(), cli.warn)
    limit = None if max_cost is None else parse_amount("--max-cost", max_cost)
    if source is None and (snapshot or moment or tags):
        raise UsageError("to choose snapshots, name the vaults, too: --from and --to")
    if source is None:
        wanted = _by_config(config, job, target)
    elif target is None:
        raise UsageError("--from needs --to: the vault that gets the copies")
    else:
        wanted = _chosen(config, source, target, job, snapshot, moment, tags)
    keys = read_keys(key_files, passphrase_files) if key_files else []
    results: list[Result] = []
    for each in wanted:
        report = _copy(cli, config, each, limit, keys, is_plan=dry_run, stays=wait)
        nothing = "nothing is missing there"
        text = report_lines(report, currency_of(config), is_plan=dry_run, nothing=nothing)
        if report.recovery_line and not dry_run:
            text.append(_line_text(config))
        so_far = f"{counted(report.archives, 'archive')} sent so far"
        results.append(result_of(cli, report, "\n".join(text), report.problems, so_far=so_far))
    show_results(cli, results)


def _line_text(config: Config) -> str:
    """A row that says where the recovery line of the copies is."""
    from backup.app.backups.recovery_lines import line_files
    from backup.cli.render.render import shown_path

    files = " and ".join(shown_path(os.fsencode(path)) for path in line_files(config))
    where = "" if config.recovery_file else ": keep a copy off this server"
    return f"  recovery       its line is in {files}{where}"


def _by_config(config: Config, job: str | None, target: str | None) -> list[_PlannedCopy]:
    """The copies that the config has: all, or those of a job, or those into a vault."""
    from backup.errors import UsageError

    jobs = config.jobs if job is None else (config.job(job),)
    if target is not None:
        config.vault(target)
    if job is not None and target is not None:
        config.copy_to(job, target)
    found = [
        _PlannedCopy(of.name, of.vault, copy.vault, None)
        for of in jobs
        for copy in of.copy
        if target in {None, copy.vault}
    ]
    if not found:
        which = "the config has" if job is None else f"job {job} has"
        where = "" if target is None else f" to vault {target}"
        raise UsageError(
            f"{which} no [[job.copy]]{where}",
            advice="a copy by hand: `nightvault copy --from VAULT --to VAULT`",
        )
    return found


def _chosen(
    config: Config,
    source: str,
    target: str,
    job: str | None,
    snapshot: str | None,
    since: datetime | None,
    tags: tuple[str, ...],
) -> list[_PlannedCopy]:
    """The jobs that are copied, each with the choice of its snapshots."""
    from backup.app.base.opened import opened
    from backup.copier.context import CopyChoice
    from backup.errors import UsageError
    from backup.inventory.content.snapshots import find_snapshot
    from backup.inventory.records.runs import list_jobs
    from backup.model import JobName

    vault, to = config.vault(source).name, config.vault(target).name
    if vault == to:
        raise UsageError("a vault is not copied into itself")
    with closing(opened(config)) as inventory, inventory.reading() as tx:
        if snapshot is not None:
            found = find_snapshot(tx, snapshot, job=None if job is None else JobName(job))
            return [_PlannedCopy(found.job, vault, to, CopyChoice(found.id, since, tags))]
        names = [JobName(job)] if job else [row.name for row in list_jobs(tx, vault)]
    if not names:
        raise UsageError(
            f"vault {vault} has no job's own backups: there is nothing to copy from it",
            advice="name the vault of the job's backups in --from",
        )
    return [_PlannedCopy(name, vault, to, CopyChoice(None, since, tags)) for name in names]


def _copy(
    cli: Cli,
    config: Config,
    each: _PlannedCopy,
    limit: Decimal | None,
    keys: Sequence[RecoveryKey],
    *,
    is_plan: bool,
    stays: bool,
) -> CopyReport:
    from backup.cli.support.telling import telling
    from backup.operations.copy import Copy

    def begin(at: RunContext) -> Callable[[RetryLimit | None], CopyReport]:
        if each.choice is None:
            operation = Copy.by_config(at, each.job, each.target, max_cost=limit, keys=keys)
        else:
            to, choice = each.target, each.choice
            operation = Copy.between(at, each.job, each.source, to, choice, max_cost=limit, keys=keys)
        return operation.plan if is_plan else operation.step

    told = None if is_plan else telling(cli, config, Copy.kind, job=each.job)
    return operate(cli, config, begin, told=told, stays=stays)
