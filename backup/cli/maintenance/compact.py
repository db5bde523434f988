"""`nightvault compact`: retire archives that are mostly dead, so that they can go; nothing is retrieved."""

from __future__ import annotations

from contextlib import closing, nullcontext
from typing import TYPE_CHECKING

import click

from backup.cli.render.amounts import parse_amount
from backup.cli.support.choosing_vault import Result, choose_vaults, in_vaults, vaults_option
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.run_context import run_context
from backup.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backup.config import VaultSettings
    from backup.pruner.compact import CompactReport


@click.command()
@vaults_option
@click.option("--dry-run", is_flag=True, help="Show what would be done; retire nothing.")
@click.option(
    "--min-gain",
    "min_gain",
    metavar="MONEY",
    help="Leave archives alone that gain less than this each, within `compact_horizon`.",
)
@pass_cli
def compact(cli: Cli, vault_name: str | None, dry_run: bool, min_gain: str | None) -> None:
    """Make room without a retrieval, from files that lie on this server's disk.

    An archive may be mostly dead, and be kept for a few files that are on the disk today. `compact` retires
    such archives where that pays: the next backup of each job stores those files anew, and `prune` deletes
    the old archive once no kept snapshot needs anything else in it. Restores read it until then.

    Costs are compared over `compact_horizon` (2 years); savings count from the day on which the policies of
    the jobs forget the last snapshot that needs the rest. In a directory, only space counts.
    """
    from backup.app.base.opened import opened
    from backup.app.money.prices import currency_of
    from backup.app.retention.compacting import run_compact
    from backup.app.retention.pruning import prune_context
    from backup.cli.support.telling import telling
    from backup.inventory.records.runs import RunKind

    config = cli.config()
    least = parse_amount("--min-gain", min_gain)

    def work(settings: VaultSettings, _stays: bool) -> Result:
        told = nullcontext() if dry_run else telling(cli, config, RunKind.COMPACT, vault=settings.name)
        with told, closing(opened(config)) as inventory, run_context(cli, config, inventory) as at:
            context = prune_context(at, settings.name)
            report = run_compact(config, settings, context, min_gain=least, only_plan=dry_run)
        return _result(cli, report, currency_of(config))

    in_vaults(cli, choose_vaults(config, vault_name), work)


def _result(cli: Cli, report: CompactReport, currency: str) -> Result:
    from backup.cli.render.render import printable

    def remark() -> None:
        for warning in report.warnings:
            cli.warn(f"warning: {warning}")

    text = printable("\n".join(_lines(report, currency)))
    code = ExitCode.PARTIAL if report.warnings else ExitCode.DONE
    return Result(report.document(), code, text, remark)


def _lines(report: CompactReport, currency: str) -> Iterator[str]:
    from backup.cli.render.render import counted, size
    from backup.cli.render.stats_screen import money

    yield f"compaction of vault {report.vault}" + (", a plan: nothing was done" if report.is_plan else "")
    if not report.chosen:
        yield "  nothing is worth it: what is stored is needed, or would cost more stored anew"
        return
    whole = sum(compaction.archive.size for compaction in report.chosen)
    retired = "to retire" if report.is_plan else "retired"
    yield f"  {retired:<15}{counted(len(report.chosen), 'archive')}, {size(whole)}"
    yield f"  {'stored anew':<15}{size(report.stored_anew)}, by the next backups, from the disk"
    yield f"  {'comes free':<15}{size(report.freed)}, {_when(report)}"
    if report.gain is not None:
        years = report.horizon.days / 365
        gain = money(report.gain, currency)
        yield f"  {'gain':<15}{gain} within {years:.3g} years, by today's prices"
    if not report.is_plan:
        yield "next: back up as usual; then `nightvault prune` deletes what is free to go"


def _when(report: CompactReport) -> str:
    return f"the last of it by {report.gone_at:%Y-%m-%d}" if report.gone_at else ""
