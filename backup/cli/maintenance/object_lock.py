"""`nightvault object-lock`: locks of what is stored, renewed before they end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import click
from msgspec import Struct

from backup.cli.options.retrieval_options import keys_option, passphrase_files_option
from backup.cli.support.choosing_vault import Result, choose_vault, in_vaults, vaults_option
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.keyfiles import read_keys
from backup.cli.support.operating import operate, report_lines, result_of, step_loop
from backup.cli.support.stopping import stop_on_signals
from backup.errors import UsageError

if TYPE_CHECKING:
    from backup.app.base.run_context import RunContext
    from backup.config import Config, VaultSettings
    from backup.format.keys import RecoveryKey
    from backup.locker.report import ExtendReport
    from backup.transfer.retry import RetryLimit

EXAMPLES = {
    "object-lock extend": ("nightvault object-lock extend --dry-run", "nightvault object-lock extend"),
}

_HERE = (
    "renewed by this server itself: that protects from mistakes, not from an intruder who stays; "
    "--for-servers, on another machine, does"
)


@click.group("object-lock")
def object_lock() -> None:
    """Locks of what is stored: nobody deletes it before they end, this server neither."""


@object_lock.command()
@vaults_option
@click.option("--dry-run", is_flag=True, help="Show what is due and what a month and a year cost.")
@click.option(
    "--for-servers", is_flag=True, help="Renew in place of servers, by their catalogs and a recovery key."
)
@keys_option("With --for-servers: the recovery key; asked for if not given.")
@passphrase_files_option
@click.option(
    "--keep-within",
    metavar="SPAN",
    help="With --for-servers: nothing runs out that was needed within this time (lock_for, or 30d if more).",
)
@click.option(
    "--max-new",
    type=click.IntRange(min=0),
    help="With --for-servers: how many objects are taken in that came since the last renewal (10,000).",
)
@pass_cli
def extend(
    cli: Cli,
    vault_name: str | None,
    dry_run: bool,
    for_servers: bool,
    key_files: tuple[str, ...],
    passphrase_files: tuple[str, ...],
    keep_within: str | None,
    max_new: int | None,
) -> None:
    """Lock for longer what is needed, so that nobody deletes it.

    What any state of the last `lock_for` needed stays locked for another `lock_for`, whatever was forgotten
    since: so an intruder who forgets everything gains nothing as long as somebody looks within that time.
    Packs, catalogs, the vault's identity and marks of heirs are renewed, each once in a `lock_step`, and what
    ends first before all else. What nothing needs runs out.

    It works with the role `lock_role_arn`, which can do nothing else. On this server it protects from
    mistakes, and from an intruder who does not stay: one who stays stops it.

    With --for-servers it needs no inventory, and runs on another machine: each server's states are rebuilt
    from its catalogs, as `prune --delete-only` does, and all is renewed but what these have given up for
    --keep-within, by the vault's dates. Nothing that a server stores ends a lock: where its catalogs cannot
    be relied on, everything of it is renewed, and exit code 3 says so.
    """
    from backup.app.money.prices import currency_of
    from backup.cli.support.telling import telling
    from backup.operations.extend import Extend
    from backup.operations.recorded import step

    config = cli.config()
    vaults = _that_lock(config, vault_name)
    if for_servers:
        keys = read_keys(key_files, passphrase_files)
        renewal = _ForServers(cli, keys, keep_within, max_new, dry_run)
        in_vaults(cli, vaults, lambda settings, _stays: renewal.renew(settings))
        return
    if key_files or passphrase_files or keep_within or max_new is not None:
        raise UsageError("--key, --passphrase-file, --keep-within and --max-new go with --for-servers")

    def work(settings: VaultSettings, _stays: bool) -> Result:
        def begin(at: RunContext) -> Callable[[RetryLimit | None], ExtendReport]:
            operation = Extend.of(at, settings.name)
            return operation.plan if dry_run else partial(step, operation, at)

        told = None if dry_run else telling(cli, config, Extend.kind, vault=settings.name)
        report = operate(cli, config, begin, told=told)
        lines = report_lines(report, currency_of(config), is_plan=dry_run)
        return result_of(cli, report, "\n".join(lines), [*report.problems, _HERE])

    in_vaults(cli, vaults, work)


class _ForServers(Struct, frozen=True):
    """The options of a renewal in place of servers, as given on the command line."""

    cli: Cli
    keys: Sequence[RecoveryKey]
    keep_within: str | None
    max_new: int | None
    dry_run: bool

    def renew(self, settings: VaultSettings) -> Result:
        """One renewal, or its plan."""
        from backup.app.base.vaults import Purpose
        from backup.app.money.prices import currency_of
        from backup.app.retention.keeper import keeper_context
        from backup.locker.extend import MOST_NEW
        from backup.operations.extend import renew_for_servers

        cli, config = self.cli, self.cli.config()
        progress = cli.progress()
        with stop_on_signals() as stop:
            keeper = keeper_context(
                config,
                settings.name,
                self.keys,
                clock=cli.clock,
                progress=progress,
                stop=stop.is_set,
                keep_within=self.keep_within,
                purpose=Purpose.LOCK,
            )
            most_new = MOST_NEW if self.max_new is None else self.max_new

            def step(retry_limit: RetryLimit) -> ExtendReport:
                keeper_now = keeper.within(retry_limit)
                return renew_for_servers(config, keeper_now, most_new=most_new, only_plan=self.dry_run)

            report = step_loop(cli, step, progress, stays=True)
        lines = report_lines(report, currency_of(config), is_plan=self.dry_run)
        return result_of(cli, report, "\n".join(lines), report.problems)


def _that_lock(config: Config, name: str | None) -> list[VaultSettings]:
    """The vault that is named, or all that lock."""
    locking = [vault for vault in config.vaults if vault.lock is not None]
    if name is not None or not locking:
        return [choose_vault(config, name)]
    return locking
