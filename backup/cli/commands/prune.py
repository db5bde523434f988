"""`nightvault prune`: condemn what no kept snapshot needs, and delete what was condemned before."""

from __future__ import annotations

from contextlib import closing, nullcontext
from typing import TYPE_CHECKING

import click

from backup.cli.support.accepting import accept, accept_option, who_answers
from backup.cli.support.amending import amending
from backup.cli.support.amounts import parse_amount
from backup.cli.support.choosing_vault import choose_vault, vault_option
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.delete_only import DeleteOnly
from backup.cli.support.delete_only import delete_only as delete_for_servers
from backup.cli.support.prune_output import show_prune
from backup.cli.support.retrieval_options import (
    keys_option,
    passphrase_files_option,
    tier_option,
    wait_option,
)
from backup.cli.support.waiting import SAME_COMMAND_GOES_ON, wait_until
from backup.errors import LockedError, UsageError
from backup.inventory.stages import StepStage

if TYPE_CHECKING:
    from decimal import Decimal

    from backup.app.pruning import Prune
    from backup.config import Config, VaultSettings
    from backup.pruner.report import PruneReport
    from backup.transfer.retry import Reach


@click.command()
@vault_option
@click.option("--dry-run", is_flag=True, help="Show what would be done; condemn and delete nothing.")
@click.option(
    "--max-fee",
    "max_fee",
    metavar="MONEY",
    help="Delete before the minimum duration is over what costs no more than this together.",
)
@click.option(
    "--delete-only",
    is_flag=True,
    help="Delete in place of servers, by their catalogs and a recovery key; condemn nothing.",
)
@accept_option("A catalog that stops it takes no part in this server's jobs; may be repeated.")
@keys_option("With --delete-only: the recovery key; asked for if not given.")
@passphrase_files_option
@click.option(
    "--keep-within",
    metavar="SPAN",
    help="With --delete-only: nothing goes that was needed within this time (30d).",
)
@tier_option
@wait_option
@pass_cli
def prune(
    cli: Cli,
    vault_name: str | None,
    dry_run: bool,
    max_fee: str | None,
    delete_only: bool,
    accepted: tuple[str, ...],
    key_files: tuple[str, ...],
    passphrase_files: tuple[str, ...],
    keep_within: str | None,
    tier: str | None,
    wait: bool,
) -> None:
    """Make room: condemn archives that no kept snapshot needs, and delete what was condemned days ago.

    What is condemned is not built upon any more, and a catalog in the vault says so. It is deleted by a later
    prune, once `prune_grace` (3 days) and the vault's minimum duration are over, and only if a list of the
    vault and the snapshots of that moment agree. Until then `undelete` takes it back.

    A cold vault needs hours for its list: the same command given again goes on where it is. Exit code 17 says
    that it waits, 3 that the vault refused without a day, 1 that something stopped it: nothing was deleted
    then.

    It also removes the records of runs and restores that are older than `keep_runs` (400 days) and that
    nothing needs.

    With --delete-only it needs no inventory, so that it can run on another machine, whose role deletes: each
    server's state is rebuilt from its catalogs, and what these condemned goes once nothing needed it for
    --keep-within, by the vault's dates. What looks like an attack is told, with exit code 3.
    """
    config = cli.config()
    settings = choose_vault(config, vault_name)
    if delete_only:
        if max_fee is not None:
            raise UsageError("--max-fee is for prunes by an inventory: --delete-only waits for the vault")
        wish = DeleteOnly(
            settings.name, key_files, passphrase_files, keep_within, tier, dry_run, wait, accepted
        )
        delete_for_servers(cli, wish)
        return
    if key_files or passphrase_files or keep_within or tier:
        raise UsageError("--key, --passphrase-file, --keep-within and --tier go with --delete-only")
    accept(cli, config, settings.name, accepted)
    _prune(cli, config, settings, parse_amount("--max-fee", max_fee), only_plan=dry_run, wait=wait)


def _prune(
    cli: Cli, config: Config, settings: VaultSettings, most: Decimal, *, only_plan: bool, wait: bool
) -> None:
    """One prune by this server's inventory, shown; recorded and told unless it is only a plan."""
    from backup.app.opened import opened
    from backup.app.prices import MEND, currency_of, money_unknown
    from backup.app.pruning import Prune, prune_context
    from backup.cli.support.telling import telling
    from backup.inventory.runs import RunKind

    told = nullcontext() if only_plan else telling(cli, config, RunKind.PRUNE, vault=settings.name)
    with told, closing(opened(config)) as inventory, amending(cli, config, inventory) as at:
        context = prune_context(at, settings.name)
        if most and settings.kind != "directory" and context.price is None:
            unknown = money_unknown(config)
            raise UsageError(
                f"there is no price for vault {settings.name}, so nothing can be held to --max-fee"
                + (f": {unknown}" if unknown else ""),
                advice=MEND if unknown else "add its prices to your own table: docs/prices.md",
            )
        work = Prune(config, context, most, only_plan=only_plan)
        report = _asking(cli, work, wait=wait)
    show_prune(cli, report, currency_of(config))


def _asking(cli: Cli, work: Prune, *, wait: bool) -> PruneReport:
    """The report of a prune; what a person must answer is asked on a terminal, once."""
    from backup.pruner.listed import PruneStoppedError
    from backup.transfer.answers import accept_catalogs

    try:
        return _until_done(cli, work, wait=wait)
    except PruneStoppedError as stop:
        if not (stop.accept and cli.can_ask):
            raise
        cli.warn(str(stop))
        cli.say(stop.advice)
        if not cli.confirm(
            "Is nothing wanted that only these catalogs hold, and shall deleting go on without them?",
            option=None,
        ):
            raise
        backup = work.context.backup
        now = cli.clock.now()
        accept_catalogs(backup.inventory, backup.vault.name, stop.accept, who_answers(), now)
    return _until_done(cli, work, wait=wait)


def _until_done(cli: Cli, work: Prune, *, wait: bool) -> PruneReport:
    """The report of a prune that is over, or of one that waits and is not waited for.

    While it waits the lock is free: backups go on, and one that runs just then is waited for, too.
    """
    first = work.step()

    def look_again(reach: Reach) -> PruneReport:
        try:
            return work.step(reach)
        except LockedError:
            return first

    return wait_until(
        lambda report: report.state is StepStage.DONE,
        first,
        look_again,
        cli=cli,
        progress=work.context.backup.progress,
        stays=wait,
        title=lambda report: f"Waiting for {report.waits_for}",
        hint=SAME_COMMAND_GOES_ON,
    )
