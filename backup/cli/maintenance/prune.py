"""`nightvault prune`: condemn what no kept snapshot needs, and delete what was condemned before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from decimal import Decimal
from typing import TYPE_CHECKING

import click

from backup.cli.maintenance.delete_only import DeleteOnly
from backup.cli.maintenance.delete_only import delete_only as delete_for_servers
from backup.cli.maintenance.prune_output import prune_result
from backup.cli.options.accepting import accept, accept_option, who_answers
from backup.cli.options.retrieval_options import (
    keys_option,
    passphrase_files_option,
    tier_option,
    wait_option,
)
from backup.cli.render.amounts import parse_amount
from backup.cli.support.choosing_vault import (
    Result,
    choose_vault,
    choose_vaults,
    in_vaults,
    vaults_option,
)
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.keyfiles import read_keys
from backup.cli.support.run_context import run_context
from backup.cli.support.waiting import SAME_COMMAND_GOES_ON, wait_until
from backup.errors import LockedError, NightvaultError, UsageError
from backup.inventory.store.states import StepStage

if TYPE_CHECKING:
    from backup.app.retention.pruning import Prune
    from backup.config import Config, VaultSettings
    from backup.model import VaultName
    from backup.pruner.report import PruneReport
    from backup.transfer.retry import RetryLimit


@click.command()
@vaults_option
@click.option("--dry-run", is_flag=True, help="Show what would be done; condemn and delete nothing.")
@click.option(
    "--max-fee",
    "max_fee",
    metavar="MONEY",
    help="Delete before the minimum duration is over what costs no more than this together, in all vaults.",
)
@click.option(
    "--delete-only",
    is_flag=True,
    help="Delete in place of servers, by their catalogs and a recovery key; condemn nothing.",
)
@accept_option("Say that a catalog which stops the prune is not of this server's jobs; may be repeated.")
@keys_option("With --delete-only: the recovery key; asked for if not given.")
@passphrase_files_option
@click.option(
    "--keep-within",
    metavar="SPAN",
    help="With --delete-only: nothing is deleted that was needed within this time (30d).",
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

    New backups no longer use condemned archives, and a catalog in the vault records that. A later prune
    deletes them, once `prune_grace` (3 days) and the vault's minimum duration are over, and only if a list of
    the vault and the snapshots of that moment agree. Until then `undelete` takes them back.

    A cold vault needs hours for its list: run the same command again, and it continues. Exit code 17 says
    that it waits, 3 that the vault refused without naming a day, 1 that something stopped it and nothing was
    deleted. All vaults of the config are pruned, also if one of them fails: the exit code is that of the
    first failure, else 3, else 17.

    It also removes the records of runs and restores that are older than `keep_runs` (400 days) and that
    nothing needs.

    With --delete-only it needs no inventory, so that it can run on another machine, whose role deletes: each
    server's state is rebuilt from its catalogs, and what these condemned goes once nothing needed it for
    --keep-within, by the vault's dates. Signs of an attack are reported, with exit code 3.
    """
    config = cli.config()
    vaults = [choose_vault(config, vault_name)] if accepted else choose_vaults(config, vault_name)
    if delete_only:
        if max_fee is not None:
            raise UsageError("--max-fee is for prunes by an inventory: --delete-only waits for the vault")
        keys = read_keys(key_files, passphrase_files)
        wish = DeleteOnly(keys, keep_within, tier, dry_run, accepted)

        def delete(settings: VaultSettings, stays: bool) -> Result:
            return delete_for_servers(cli, wish, settings, stays=stays)

        in_vaults(cli, vaults, delete, wait=wait)
        return
    if key_files or passphrase_files or keep_within or tier:
        raise UsageError("--key, --passphrase-file, --keep-within and --tier go with --delete-only")
    accept(cli, config, vaults[0].name, accepted)
    most = parse_amount("--max-fee", max_fee)
    if most:
        _require_prices(config, vaults)
    in_vaults(cli, vaults, _Prunes(cli, config, most, only_plan=dry_run).prune, wait=wait)


def _require_prices(config: Config, vaults: Sequence[VaultSettings]) -> None:
    """`UsageError` before anything is done if what deleting early costs in one of them is not known."""
    from backup.app.money.prices import MEND, money_unknown, price_of

    for settings in vaults:
        if settings.kind != "directory" and price_of(config, settings) is None:
            unknown = money_unknown(config)
            raise UsageError(
                f"there is no price for vault {settings.name}, so nothing can be held to --max-fee"
                + (f": {unknown}" if unknown else ""),
                advice=MEND if unknown else "add its prices to your own table: docs/prices.md",
            )


class _Prunes:
    """Prunes by this server's inventory, of one vault after the other, held to one amount together."""

    def __init__(self, cli: Cli, config: Config, most: Decimal, *, only_plan: bool) -> None:
        self._cli = cli
        self._config = config
        self._left = most
        self._only_plan = only_plan
        self._may_have_paid: VaultName | None = None

    def prune(self, settings: VaultSettings, stays: bool) -> Result:
        """Run one prune; it is recorded, and people are notified, unless it is a dry run."""
        from backup.app.base.opened import opened
        from backup.app.money.prices import currency_of
        from backup.app.retention.pruning import Prune, prune_context
        from backup.cli.support.telling import telling
        from backup.inventory.records.runs import RunKind

        cli, config = self._cli, self._config
        if self._may_have_paid:
            cli.say(
                f"vault {settings.name}: nothing is deleted early, since it is not known what the prune of "
                f"vault {self._may_have_paid} paid before it failed"
            )
        told = nullcontext() if self._only_plan else telling(cli, config, RunKind.PRUNE, vault=settings.name)
        with told, closing(opened(config)) as inventory, run_context(cli, config, inventory) as at:
            work = Prune(config, prune_context(at, settings.name), self._left, only_plan=self._only_plan)
            with self._held(settings):
                report = _until_done(cli, work, wait=stays)
        self._left -= report.deleted.fee or 0
        return prune_result(cli, report, currency_of(config))

    @contextmanager
    def _held(self, settings: VaultSettings) -> Iterator[None]:
        """Once a prune has failed that may have paid, nothing more is paid."""
        from backup.pruner.listed import PruneStoppedError

        try:
            yield
        except (LockedError, PruneStoppedError):
            raise  # nothing was deleted
        except NightvaultError:
            if self._left and settings.kind != "directory" and not self._only_plan:
                self._left = Decimal(0)
                self._may_have_paid = settings.name
            raise


def _step(cli: Cli, work: Prune, retry_limit: RetryLimit | None = None) -> PruneReport:
    """A step of a prune; what a person must answer is asked on a terminal, once."""
    from backup.pruner.listed import PruneStoppedError
    from backup.transfer.answers import accept_catalogs

    try:
        return work.step(retry_limit)
    except PruneStoppedError as stop:
        if not (stop.accept and cli.can_ask):
            raise
        cli.warn(str(stop))
        cli.say(stop.advice)
        if not cli.confirm(
            "Is nothing needed that only these catalogs hold, and should deleting go on without them?",
            option=None,
        ):
            raise
        backup = work.context.backup
        now = cli.clock.now()
        accept_catalogs(backup.inventory, backup.vault.name, stop.accept, who_answers(), now)
    return work.step(retry_limit)


def _until_done(cli: Cli, work: Prune, *, wait: bool) -> PruneReport:
    """The report of a prune that is over, or of one that waits and is not waited for.

    While it waits the lock is free: backups go on, and one that runs just then is waited for, too.
    """
    first = _step(cli, work)

    def look_again(retry_limit: RetryLimit) -> PruneReport:
        try:
            return _step(cli, work, retry_limit)
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
