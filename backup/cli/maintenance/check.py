"""`nightvault check`: verifies that what was stored is still there, and undamaged."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import click
from msgspec import Struct

from backup.cli.maintenance.check_output import check_result, show_check, versions_result
from backup.cli.options.accepting import accept, accept_option
from backup.cli.options.retrieval_options import (
    keys_option,
    max_cost_option,
    passphrase_files_option,
    tier_option,
    wait_option,
)
from backup.cli.support.choosing_vault import (
    Result,
    choose_vault,
    choose_vaults,
    in_vaults,
    vaults_option,
)
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.operating import operate
from backup.errors import UsageError
from backup.model import Tier, VaultName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backup.app.base.run_context import RunContext
    from backup.checker.context import CheckContext
    from backup.checker.read_sample import Piece
    from backup.checker.report import CheckReport
    from backup.checker.sample import Amount
    from backup.config import Config, VaultSettings
    from backup.cost.limit import CostLimit
    from backup.transfer.retry import RetryLimit

EXAMPLES = {"check": ("nightvault check", "nightvault check --read-data 1% --key recovery.key --max-cost 2")}

_MOST_SHOWN = 20
_SHARE = re.compile(r"[0-9]{1,3}(\.[0-9]{1,9})?%")


@click.command()
@vaults_option
@click.option(
    "--inventory", "of_inventory", is_flag=True, help="Check the inventory's own invariants; asks no vault."
)
@click.option(
    "--versions",
    "by_versions",
    is_flag=True,
    help="Look for what somebody did: delete markers, other objects put over ours, tags, another class.",
)
@click.option("--read-data", "amount", metavar="1%|5GiB", help="Read back this much.")
@accept_option("Say that a catalog which others stored is not of this server's jobs; may be repeated.")
@keys_option("A recovery key: opens what is read.")
@passphrase_files_option
@tier_option
@max_cost_option
@click.option("--anew", is_flag=True, help="Cancel a sample that still waits, and begin another.")
@click.option(
    "--dry-run", is_flag=True, help="Show what --read-data would retrieve and cost; retrieve nothing."
)
@wait_option
@pass_cli
def check(
    cli: Cli,
    vault_name: str | None,
    of_inventory: bool,
    by_versions: bool,
    amount: str | None,
    accepted: tuple[str, ...],
    key_files: tuple[str, ...],
    passphrase_files: tuple[str, ...],
    tier: str | None,
    max_cost: str | None,
    anew: bool,
    dry_run: bool,
    wait: bool,
) -> None:
    """Check that backups are still there: compare the inventory with the vault's own list.

    That is free, but takes hours if the vault is cold: run the same command again, and it continues. With
    --read-data archives are retrieved and read instead, first those that were never read, so that in time
    everything is read; without a key, sealed data is compared, but not opened. It reads one vault: if there
    are several, say which.

    With --versions all that a bucket keeps is compared with what was stored, by size and checksum, to find
    what somebody hid, overwrote, tagged or moved; `undelete --versions` takes that back. It records nothing.

    Archives that are gone or damaged are marked so: the next backup stores their content again. Exit code 1
    says that something is missing or damaged, 3 that a part could not be checked, 17 that it waits: run it
    again later.
    """
    config = cli.config()
    if by_versions:
        if any((of_inventory, accepted, amount, key_files, tier, max_cost, anew, dry_run, wait)):
            raise UsageError("--versions is a check of its own, with --vault alone")
        look = partial(_by_versions, cli, config)
        in_vaults(cli, choose_vaults(config, vault_name), look)
        return
    if of_inventory:
        if accepted:
            raise UsageError("--accept goes with a comparison, not with --inventory")
        if amount is not None:
            raise UsageError("--inventory and --read-data are two checks", advice="give one after the other")
        show_check(cli, _check_invariants(cli, config))
        return
    if amount is None:
        if key_files or tier or max_cost or anew or dry_run:
            raise UsageError(
                "--key, --tier, --max-cost, --anew and --dry-run go with --read-data",
                advice="comparing with the vault's list costs nothing and reads nothing",
            )
        _compare_lists(cli, config, vault_name, accepted, wait=wait)
        return
    if accepted:
        raise UsageError("--accept goes with a comparison, not with --read-data")
    options = _ReadOptions(
        parse_amount(amount), key_files, passphrase_files, tier, max_cost, anew, dry_run, wait
    )
    report = _read(cli, config, choose_vault(config, vault_name).name, options)
    if report is not None:
        show_check(cli, report)


@contextmanager
def _ending_runs(cli: Cli, config: Config) -> Iterator[None]:
    """Write metrics and send messages once checks have ended."""
    from backup.app.status.metrics_file import metrics_after
    from backup.cli.support.telling import telling

    with telling(cli, config), metrics_after(config, cli.clock):
        yield


class _ReadOptions(Struct, frozen=True):
    """The options that go with --read-data."""

    amount: Amount
    key_files: tuple[str, ...]
    passphrase_files: tuple[str, ...]
    tier: str | None
    max_cost: str | None
    anew: bool
    dry_run: bool
    wait: bool


def parse_amount(words: str) -> Amount:
    """Return the amount of data that a text such as `1%`, `0.5%` or `5GiB` stands for. `UsageError`."""
    from fractions import Fraction

    from backup.checker.sample import Amount
    from backup.config import parse_size

    try:
        if _SHARE.fullmatch(words):
            amount = Amount(share=Fraction(words[:-1]) / 100)
        else:
            amount = Amount(size=parse_size(int(words) if words.isdigit() else words))
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(f"--read-data {words} is no amount", advice="say 1% or 5GiB") from error
    if amount.of(100) <= 0 or (amount.of(100) > 100 and amount.share is not None):
        raise UsageError("--read-data must be above 0, and at most 100%", advice="say 1% or 5GiB")
    return amount


def _compare(cli: Cli, config: Config, name: VaultName, *, wait: bool) -> CheckReport:
    from backup.cli.support.telling import telling
    from backup.operations.check import Check

    return operate(
        cli, config, lambda at: Check.of(at, name).compare, told=telling(cli, config), stays=wait, stops=False
    )


def _by_versions(cli: Cli, config: Config, settings: VaultSettings, _stays: bool) -> Result:
    from backup.operations.check import Check

    report = operate(cli, config, lambda at: Check.of(at, settings.name).versions)
    return versions_result(cli, report)


def _compare_lists(
    cli: Cli, config: Config, vault_name: str | None, accepted: tuple[str, ...], *, wait: bool
) -> None:
    vaults = choose_vaults(config, vault_name)
    if accepted:
        vaults = [choose_vault(config, vault_name)]
        accept(cli, config, vaults[0].name, accepted)

    def compare(settings: VaultSettings, stays: bool) -> Result:
        return check_result(cli, _compare(cli, config, settings.name, wait=stays))

    in_vaults(cli, vaults, compare, wait=wait)


def _check_invariants(cli: Cli, config: Config) -> CheckReport:
    from backup.app.base.opened import opened
    from backup.app.base.state import State
    from backup.checker.invariants import check_invariants

    secret = State(config.state_dir).read_secret()
    with _ending_runs(cli, config), closing(opened(config)) as inventory:
        return check_invariants(inventory, secret.content_key, cli.clock, cli.progress())


def _read(cli: Cli, config: Config, name: VaultName, options: _ReadOptions) -> CheckReport | None:
    """Begin a sample, or go on with the one that waits; None if it was only to be shown."""
    from backup.checker import read_sample
    from backup.cli.support.keyfiles import read_keys
    from backup.cli.support.telling import telling
    from backup.operations.check import Check

    keys = read_keys(options.key_files, options.passphrase_files) if options.key_files else []
    tier = Tier(options.tier) if options.tier else None

    def begin(at: RunContext) -> Callable[[RetryLimit | None], CheckReport | None]:
        check = Check.of(at, name, keys=keys, tier=tier)
        context = check.context
        run = read_sample.find_open(context)
        if run is not None and options.anew and not options.dry_run:
            read_sample.give_up(run, context)
            run = None
        if run is None or options.dry_run:
            pieces = read_sample.plan_sample(options.amount, context)
            limit = _limit(cli, config, context, pieces, options)
            if limit is None:
                return lambda _: None
            run = read_sample.begin_reading(pieces, context, limit)
        else:
            cli.say(f"going on with the sample of run {run}; --anew gives it up")
        return partial(check.go_on, run)

    told = None if options.dry_run else telling(cli, config)
    return operate(cli, config, begin, told=told, stays=options.wait, stops=False)


def _limit(
    cli: Cli, config: Config, context: CheckContext, pieces: Sequence[Piece], options: _ReadOptions
) -> CostLimit | None:
    """The limit on reading the sample; None if only its price was to be shown."""
    from backup.app.checks.checks import quote_sample
    from backup.app.money.limits import limit_on
    from backup.cli.support.quoting import limit_of, show_sample

    settings = config.vault(context.vault.name)
    quotes = quote_sample(config, settings, context.vault.traits, pieces)
    if options.dry_run:
        show_sample(cli, config, settings, quotes)
        return None
    limit = limit_on(
        config, settings, quotes, limit_of(options.max_cost, config), "this check", less="check less"
    )
    for sentence in limit.remarks(context.tier):
        cli.say(sentence)
    return limit
