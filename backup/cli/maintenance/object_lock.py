"""`nightvault object-lock`: locks of what is stored, renewed before they end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import click

from backup.cli.support.choosing_vault import Result, choose_vault, in_vaults, vaults_option
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.operating import operate, report_lines, result_of

if TYPE_CHECKING:
    from backup.app.base.run_context import RunContext
    from backup.config import Config, VaultSettings
    from backup.locker.report import ExtendReport
    from backup.transfer.retry import RetryLimit

EXAMPLES = {
    "object-lock extend": ("nightvault object-lock extend --dry-run", "nightvault object-lock extend"),
}


@click.group("object-lock")
def object_lock() -> None:
    """Locks of what is stored: nobody deletes it before they end, this server neither."""


@object_lock.command()
@vaults_option
@click.option("--dry-run", is_flag=True, help="Show what is due and what a month and a year cost.")
@pass_cli
def extend(cli: Cli, vault_name: str | None, dry_run: bool) -> None:
    """Lock for longer what is needed, so that nobody deletes it.

    What any state of the last `lock_for` needed stays locked for another `lock_for`, whatever was forgotten
    since: so an intruder who forgets everything gains nothing as long as somebody looks within that time.
    Packs, catalogs, the vault's identity and marks of heirs are renewed, each once in a `lock_step`, and what
    ends first before all else. What nothing needs runs out.

    It works with the role `lock_role_arn`, which can do nothing else. On this server it protects from
    mistakes, and from an intruder who does not stay: one who stays stops it.
    """
    from backup.app.money.prices import currency_of
    from backup.cli.support.telling import telling
    from backup.operations.extend import Extend
    from backup.operations.recorded import step

    config = cli.config()

    def work(settings: VaultSettings, _stays: bool) -> Result:
        def begin(at: RunContext) -> Callable[[RetryLimit | None], ExtendReport]:
            operation = Extend.of(at, settings.name)
            return operation.plan if dry_run else partial(step, operation, at)

        told = None if dry_run else telling(cli, config, Extend.kind, vault=settings.name)
        report = operate(cli, config, begin, told=told)
        lines = report_lines(report, currency_of(config), is_plan=dry_run)
        return result_of(cli, report, "\n".join(lines), report.problems)

    in_vaults(cli, _that_lock(config, vault_name), work)


def _that_lock(config: Config, name: str | None) -> list[VaultSettings]:
    """The vault that is named, or all that lock."""
    locking = [vault for vault in config.vaults if vault.lock is not None]
    if name is not None or not locking:
        return [choose_vault(config, name)]
    return locking
