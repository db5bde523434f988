"""`nightvault prune`: condemn what no kept snapshot needs, and delete what was condemned before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from decimal import Decimal
from functools import partial
from textwrap import wrap
from typing import TYPE_CHECKING

import click

from backup.cli.maintenance.delete_only import DeleteOnly
from backup.cli.maintenance.delete_only import delete_only as delete_for_servers
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
from backup.cli.support.operating import operate, report_lines, result_of
from backup.errors import LockedError, NightvaultError, UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from backup.app.base.run_context import RunContext
    from backup.cli.render.tables import Sheet
    from backup.config import Config, VaultSettings
    from backup.model import VaultName
    from backup.pruner.report import Group, PruneReport
    from backup.transfer.retry import RetryLimit

EXAMPLES = {"prune": ("nightvault prune --dry-run", "nightvault prune --wait")}

_MOST_GROUPS = 12
_WIDTH = 80
_WORDS = {
    "grace": "grace period",
    "duration": "minimum duration",
    "catalogs": "word of each job",
    "listing": "a newer list",
    "refused": "the vault's refusal",
    "locked": "end of its lock",
    "held": "end of a legal hold",
    "others": "who may delete",
}


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
    from backup.app.money.prices import money_unknown, price_of
    from backup.cost.limit import MEND

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
        from backup.app.money.prices import currency_of
        from backup.cli.support.telling import telling
        from backup.operations.prune import Prune, prune_context
        from backup.operations.recorded import step

        cli, config, name = self._cli, self._config, settings.name
        if self._may_have_paid:
            cli.say(
                f"vault {name}: nothing is deleted early, since it is not known what the prune of "
                f"vault {self._may_have_paid} paid before it failed"
            )

        def begin(at: RunContext) -> Callable[[RetryLimit | None], PruneReport]:
            operation = Prune(config, prune_context(at, name), self._left)
            return operation.plan if self._only_plan else self._held(settings)(partial(step, operation, at))

        told = None if self._only_plan else telling(cli, config, Prune.kind, vault=name)
        report = operate(
            cli,
            config,
            begin,
            told=told,
            stays=stays,
            answers=lambda error: _accepts(cli, config, name, error),
        )
        self._left -= report.deleted.fee or 0
        return _result(cli, report, currency_of(config))

    @contextmanager
    def _held(self, settings: VaultSettings) -> Iterator[None]:
        """Once a step of a prune has failed that may have paid, nothing more is paid."""
        from backup.pruner.listed import PruneStoppedError

        try:
            yield
        except (LockedError, PruneStoppedError):
            raise  # nothing was deleted
        except NightvaultError:
            if self._left and settings.kind != "directory":
                self._left = Decimal(0)
                self._may_have_paid = settings.name
            raise


def _accepts(cli: Cli, config: Config, vault: VaultName, stop: NightvaultError) -> bool:
    """Whether a person on a terminal accepts the catalogs that stop a prune."""
    from backup.app.base.opened import opened
    from backup.pruner.listed import PruneStoppedError
    from backup.transfer.answers import accept_catalogs

    if not (isinstance(stop, PruneStoppedError) and stop.accept and cli.can_ask):
        return False
    cli.warn(str(stop))
    cli.say(stop.advice)
    question = "Is nothing needed that only these catalogs hold, and should deleting go on without them?"
    if not cli.confirm(question, option=None):
        return False
    with closing(opened(config)) as inventory:
        accept_catalogs(inventory, vault, stop.accept, who_answers(), cli.clock.now())
    return True


def _result(cli: Cli, report: PruneReport, currency: str) -> Result:
    """The outcome of a prune: what it did, and a table of what waits for which day."""
    from rich.console import Group as Screen
    from rich.text import Text

    from backup.cli.render.render import printable

    if report.waits_for:
        return result_of(cli, report, "")
    more = "; what waits is below" if report.waiting else ": all that is stored is needed"
    lines = report_lines(report, currency, is_plan=report.is_plan, nothing=f"there is nothing to do{more}")
    screen: list[RenderableType] = [Text(printable("\n".join(lines)))]
    if report.waiting or report.condemned_groups:
        screen += [Text(), _table(report, currency)]
    remarks = [printable(line) for note in _notes(report) for line in wrap(note, _WIDTH)]
    return result_of(cli, report, Screen(*screen), remarks, [*report.held, *report.warnings])


def _table(report: PruneReport, currency: str) -> Sheet:
    """A table of condemned archives, and of the days on which they come free."""
    from backup.cli.render.render import size, table
    from backup.cli.render.tables import Column
    from backup.wording import money

    groups = _fewer([*report.condemned_groups, *report.waiting])
    shows_fees = any(group.fee for group in groups)
    right = [Column(title, right=True) for title in ("archives", "size")]
    fee = [Column("if deleted now", right=True, rank=1)] if shows_fees else []
    columns = [Column("waits for", folds=True, least=16), *right, "grace ends", "free from", *fee]
    rows = [
        (
            _word(group),
            *(f"{group.archives:,}", size(group.bytes)),
            *(_day(group.grace_ends), _day(group.free_from)),
            *([money(group.fee, currency)] if shows_fees else []),
        )
        for group in groups
    ]
    return table(columns, rows)


def _word(group: Group) -> str:
    if group.why == "refused":
        return f"kept until {_day(group.until)}"
    return _WORDS.get(group.why, group.detail)


def _fewer(groups: Sequence[Group]) -> list[Group]:
    """The groups, or where they are many those of a month and reason together."""
    if len(groups) <= _MOST_GROUPS:
        return list(groups)
    by_month: dict[tuple[str, str], list[Group]] = {}
    for group in groups:
        by_month.setdefault((group.why, (_day(group.until) or "")[:7]), []).append(group)
    return [_together(of_month) for of_month in by_month.values()]


def _together(some: Sequence[Group]) -> Group:
    from backup.pruner.report import Group

    fees = [group.fee for group in some if group.fee is not None]
    return Group(
        sum(group.archives for group in some),
        sum(group.bytes for group in some),
        some[0].why,
        some[0].detail,
        max((group.until for group in some if group.until), default=None),
        max((group.grace_ends for group in some if group.grace_ends), default=None),
        max((group.free_from for group in some if group.free_from), default=None),
        sum(fees, Decimal(0)) if fees else None,
    )


def _notes(report: PruneReport) -> Iterator[str]:
    """Notes on the next steps, and on what can still be undone."""
    reasons = {group.why for group in report.waiting}
    refusals = {group.detail for group in report.waiting if group.why == "refused"}
    yield from (f"refused before: {refusal}" for refusal in sorted(refusals))
    if report.condemned.archives and not report.is_plan:
        yield f"until their grace ends, `nightvault undelete --vault {report.vault}` takes them back"
    if "duration" in reasons and report.may_delete:
        yield "what waits for its minimum duration costs the same, kept or deleted; --max-fee M deletes early"
    if "held" in reasons:
        yield "a legal hold has no end: `nightvault unpin SNAPSHOT --legal-hold` ends it, if nobody needs it"
    yield from _of_lists(report)
    if not report.may_delete and (report.waiting or report.condemned.archives):
        yield (
            'this server condemns, and does not delete (deletes = "elsewhere"): '
            "`nightvault prune --delete-only` on another machine does, or this server with a prune_role_arn"
        )


def _of_lists(report: PruneReport) -> Iterator[str]:
    """For how long a list is waited for that shows the catalogs which condemn, and what to do after that."""
    untils = [group.until for group in report.waiting if group.why == "listing"]
    known = [until for until in untils if until is not None]
    if known:
        latest = _day(max(known))
        yield f"the vault's list shows the catalogs that condemn by {latest} at the latest: prune again then"
    if None in untils:
        yield (
            f"the list of vault {report.vault} does not show all that was stored days ago: `nightvault check "
            f"--vault {report.vault}` says what it lacks; after the next backup the vault makes a new one"
        )


def _day(at: datetime | None) -> str | None:
    return None if at is None else f"{at.astimezone():%Y-%m-%d}"


def _when(at: datetime) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M}"
