"""`nightvault vault-lock`: the lock of a Glacier vault: nobody deletes what is younger than so many days."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

import click

from backup.cli.support.choosing_vault import choose_vault, vault_option
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.operating import run_context
from backup.errors import ExitCode, UsageError, VaultError

if TYPE_CHECKING:
    from backup.locker.vault_lock import LockingContext, VaultLockReport

EXAMPLES = {
    "vault-lock initiate": (
        "nightvault vault-lock initiate --days 180 --dry-run",
        "nightvault vault-lock initiate --days 180",
    ),
    "vault-lock complete": (
        "nightvault vault-lock complete",
        "nightvault vault-lock complete --yes-forever cold",
    ),
    "vault-lock abort": ("nightvault vault-lock abort", "nightvault vault-lock abort --vault cold"),
}


@click.group("vault-lock")
def vault_lock() -> None:
    """The lock of a Glacier vault: nobody deletes what is younger than so many days, you neither.

    It goes with your own AWS keys (in the environment, or ~/.aws), never with a role of the config:
    `nightvault aws policy --only vault-lock` prints what they need. Buckets have object lock instead.
    """


@vault_lock.command()
@vault_option
@click.option(
    "--days", type=click.IntRange(1, 36500), required=True, help="How old an archive must be to be deleted."
)
@click.option("--dry-run", is_flag=True, help="Show the policy, and what it keeps of what nothing needs.")
@pass_cli
def initiate(cli: Cli, vault_name: str | None, days: int, dry_run: bool) -> None:
    """Begin a lock: it is in force for 24 hours, and gone then unless it is completed.

    Uploads, deletions and retrievals are tried against it at once, each with the role that does it at night.
    """
    from backup.locker import vault_lock as locks

    _run(cli, vault_name, lambda context: locks.initiate(context, days, only_plan=dry_run))


@vault_lock.command()
@vault_option
@click.option(
    "--yes-forever", "named", metavar="NAME", help="The vault's name in the config, instead of typing it."
)
@pass_cli
def complete(cli: Cli, vault_name: str | None, named: str | None) -> None:
    """Complete the lock that was begun: nobody ever takes it away or changes it, AWS neither.

    What goes on at night is tried once more, and if something fails nothing is completed. Then the vault's
    name is to be typed.
    """
    from backup.locker import vault_lock as locks

    def work(context: LockingContext) -> VaultLockReport:
        report = locks.tried(context)
        if report.stage is locks.Stage.LOCKED:
            return report
        if not report.is_well:
            failed = "; ".join(
                f"{trial.what}: {trial.detail}" for trial in report.trials if not trial.is_well
            )
            raise VaultError(
                f"the lock of vault {report.vault} is not completed, as something does not go on: {failed}",
                advice="`nightvault vault-lock abort`, or give the role the right, and try again",
            )
        _require_named(cli, report, named)
        return locks.complete(context)

    _run(cli, vault_name, work)


@vault_lock.command()
@vault_option
@pass_cli
def abort(cli: Cli, vault_name: str | None) -> None:
    """Take away a lock that was begun and is not completed."""
    from backup.locker import vault_lock as locks

    _run(cli, vault_name, locks.abort)


def _require_named(cli: Cli, report: VaultLockReport, named: str | None) -> None:
    """`UsageError` unless a person names the vault that is locked for ever."""
    for fact in report.facts():
        cli.say(f"{fact.label}: {fact.value}")
    if named is None:
        if not cli.can_ask:
            raise UsageError(
                f"there is no terminal on which the name of vault {report.vault} could be typed",
                advice=f"run it on a terminal, or with --yes-forever {report.vault}",
            )
        named = click.prompt(f"Nobody ends this lock, ever. Type the vault's name ({report.vault})", err=True)
    if named != report.vault:
        raise UsageError(f"{named} is not the name of vault {report.vault}: nothing was completed")


def _run(cli: Cli, vault_name: str | None, work: Callable[[LockingContext], VaultLockReport]) -> None:
    """Do it with a vault of the config, and show what its lock is then."""
    from backup.app.base.opened import opened
    from backup.app.retention.holding import locking_context
    from backup.cli.render.render import printable

    config = cli.config()
    settings = choose_vault(config, vault_name)
    with closing(opened(config)) as inventory, run_context(cli, config, inventory) as at:
        report = work(locking_context(at, settings))
    lines = [f"lock of vault {report.vault}", *(f"  {fact.label:<9} {fact.value}" for fact in report.facts())]
    cli.report(report.document(), printable("\n".join(lines)))
    if not report.is_well:
        raise click.exceptions.Exit(int(ExitCode.PARTIAL))
