"""`nightvault compact`: retire archives that are mostly dead, so that they can go; nothing is retrieved."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import click

from backup.cli.render.amounts import parse_amount
from backup.cli.support.choosing_vault import Result, choose_vaults, in_vaults, vaults_option
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.operating import operate, report_lines, result_of

if TYPE_CHECKING:
    from backup.app.base.run_context import RunContext
    from backup.config import VaultSettings
    from backup.pruner.compact import CompactReport
    from backup.transfer.retry import RetryLimit

EXAMPLES = {"compact": ("nightvault compact --dry-run", "nightvault compact --min-gain 0.10")}


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
    from backup.app.money.prices import currency_of
    from backup.cli.support.telling import telling
    from backup.operations.compact import Compact
    from backup.operations.prune import prune_context
    from backup.operations.recorded import step

    config = cli.config()
    least = parse_amount("--min-gain", min_gain)

    def work(settings: VaultSettings, _stays: bool) -> Result:
        def begin(at: RunContext) -> Callable[[RetryLimit | None], CompactReport]:
            operation = Compact(config, prune_context(at, settings.name), min_gain=least)
            return operation.plan if dry_run else partial(step, operation, at)

        told = None if dry_run else telling(cli, config, Compact.kind, vault=settings.name)
        report = operate(cli, config, begin, told=told)
        return _result(cli, report, currency_of(config))

    in_vaults(cli, choose_vaults(config, vault_name), work)


def _result(cli: Cli, report: CompactReport, currency: str) -> Result:
    nothing = "nothing is worth it: what is stored is needed, or would cost more stored anew"
    lines = report_lines(report, currency, is_plan=report.is_plan, nothing=nothing)
    if report.archives and not report.is_plan:
        lines.append("next: back up as usual; then `nightvault prune` deletes what is free to go")
    return result_of(cli, report, "\n".join(lines))
