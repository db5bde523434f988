"""`nightvault check`: is what was stored still there, and whole?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from backup.cli.support.choosing_vault import choose_vault, vault_option
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.retrieval_options import (
    keys_option,
    max_cost_option,
    passphrase_files_option,
    tier_option,
    wait_option,
)
from backup.cli.support.waiting import SAME_COMMAND_GOES_ON, wait_until
from backup.errors import ExitCode, UsageError
from backup.model import Tier, VaultName

if TYPE_CHECKING:
    from collections.abc import Callable

    from backup.checker.context import CheckContext
    from backup.checker.read_sample import Piece
    from backup.checker.report import Affected, CheckReport, Finding, ReadBack
    from backup.checker.sample import Amount
    from backup.config import Config
    from backup.transfer.retry import Reach

_MOST_SHOWN = 20
_SHARE = re.compile(r"[0-9]{1,3}(\.[0-9]{1,9})?%")


@click.command()
@vault_option
@click.option("--inventory", "laws", is_flag=True, help="Hold the inventory to its own laws; asks no vault.")
@click.option("--read-data", "amount", metavar="1%|5GiB", help="Retrieve so much and see if it is right.")
@keys_option("A recovery key: opens what is read.")
@passphrase_files_option
@tier_option
@max_cost_option
@click.option("--anew", is_flag=True, help="Give up a sample that still waits, and begin another.")
@click.option("--dry-run", is_flag=True, help="Say what --read-data would ask for and cost; ask for nothing.")
@wait_option
@pass_cli
def check(
    cli: Cli,
    vault_name: str | None,
    laws: bool,
    amount: str | None,
    key_files: tuple[str, ...],
    passphrase_files: tuple[str, ...],
    tier: str | None,
    max_cost: str | None,
    anew: bool,
    dry_run: bool,
    wait: bool,
) -> None:
    """Is it still there? Compare the inventory with the vault's own list.

    That is free, but hours away where the vault is cold: the same command given again goes on where it is.
    With --read-data archives are retrieved and read instead, those that were never read first, so that in
    time everything is; without a key what is sealed is compared, not opened.

    Archives that are gone or damaged are marked so: the next backup stores again what they held. Exit code 1
    says that something is missing or damaged, 3 that some of it could not be looked at, 17 that it waits:
    come again.
    """
    config = cli.config()
    if laws:
        if amount is not None:
            raise UsageError("--inventory and --read-data are two checks", advice="give one after the other")
        _tell(cli, _laws(cli, config))
        return
    if amount is None:
        if key_files or tier or max_cost or anew or dry_run:
            raise UsageError(
                "--key, --tier, --max-cost, --anew and --dry-run go with --read-data",
                advice="comparing with the vault's list costs nothing and reads nothing",
            )
        _tell(cli, _compare(cli, config, choose_vault(config, vault_name).name, wait=wait))
        return
    wish = _Reading(parse_amount(amount), key_files, passphrase_files, tier, max_cost, anew, dry_run, wait)
    report = _read(cli, config, choose_vault(config, vault_name).name, wish)
    if report is not None:
        _tell(cli, report)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What was said of --read-data."""

    amount: Amount
    key_files: tuple[str, ...]
    passphrase_files: tuple[str, ...]
    tier: str | None
    max_cost: str | None
    anew: bool
    dry_run: bool
    wait: bool


def parse_amount(words: str) -> Amount:
    """`1%`, `0.5%` or a size such as `5GiB`. `UsageError`."""
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
    from backup.app.checking import check_world
    from backup.app.runs import opened
    from backup.checker.check import compare_with_vault

    with closing(opened(config)) as inventory:
        context = check_world(
            config, inventory, name, clock=cli.clock, progress=cli.progress(), reach=cli.reach()
        )
        return _until_done(cli, compare_with_vault, context, wait=wait)


def _laws(cli: Cli, config: Config) -> CheckReport:
    from backup.app.runs import opened
    from backup.app.state import State
    from backup.checker.invariants import check_laws

    secret = State(config.state_dir).read_secret()
    with closing(opened(config)) as inventory:
        return check_laws(inventory, secret.content_key, cli.clock, cli.progress())


def _read(cli: Cli, config: Config, name: VaultName, wish: _Reading) -> CheckReport | None:
    """Begin a sample, or go on with the one that waits; None if it was only to be shown."""
    from backup.app.checking import check_world
    from backup.app.runs import opened
    from backup.checker import read_sample
    from backup.cli.support.keyfiles import read_keys

    keys = read_keys(wish.key_files, wish.passphrase_files) if wish.key_files else []
    tier = Tier(wish.tier) if wish.tier else None
    with closing(opened(config)) as inventory:
        context = check_world(
            config,
            inventory,
            name,
            clock=cli.clock,
            progress=cli.progress(),
            keys=keys,
            tier=tier,
            reach=cli.reach(),
        )
        run = read_sample.find_open(context)
        if run is not None and wish.anew and not wish.dry_run:
            read_sample.give_up(run, context)
            run = None
        if run is None or wish.dry_run:
            pieces = read_sample.plan_sample(wish.amount, context)
            if not _is_affordable(cli, config, context, pieces, wish):
                return None
            run = read_sample.begin_reading(pieces, context)
        else:
            cli.say(f"going on with the sample of run {run}; --anew gives it up")
        number = run
        return _until_done(cli, lambda at: read_sample.go_on(number, at), context, wait=wish.wait)


def _is_affordable(
    cli: Cli, config: Config, context: CheckContext, pieces: Sequence[Piece], wish: _Reading
) -> bool:
    """Hold the sample to its limit; False if its price was only to be shown."""
    from backup.app.checking import quote_sample
    from backup.cli.support.quoting import hold_to_limit, limit_of, show_sample

    settings = config.vault(context.vault.name)
    quotes = quote_sample(config, settings, context.vault.traits, pieces)
    if wish.dry_run:
        show_sample(cli, config, settings, quotes)
        return False
    hold_to_limit(
        config, settings, quotes, context.tier, limit_of(wish.max_cost, config), what="check", say=cli.say
    )
    return True


def _until_done(
    cli: Cli, go_on: Callable[[CheckContext], CheckReport], context: CheckContext, *, wait: bool
) -> CheckReport:
    """The report of a check that is over, or of one that waits and is not waited for."""

    def look_again(reach: Reach) -> CheckReport:
        return go_on(replace(context, reach=reach))

    return wait_until(
        lambda report: report.state == "done",
        go_on(context),
        look_again,
        cli=cli,
        progress=context.progress,
        stays=wait,
        title=lambda report: f"Waiting for {report.waits_for}",
        hint=SAME_COMMAND_GOES_ON,
    )


def _tell(cli: Cli, report: CheckReport) -> None:
    from backup.cli.support.render import path_document

    document = report.document()
    document["affected"]["paths"] = [path_document(path) for path in report.affected.paths]
    if report.state != "done":
        text = (
            f"the check waits for {report.waits_for}\n"
            "next: the same command again, in some hours, or with --wait now"
        )
        cli.report(document, text)
        raise click.exceptions.Exit(int(ExitCode.WAITING))
    is_well = not (report.is_grave or report.is_partial)
    (cli.report if is_well else cli.show)(document, "\n".join(_lines(report)))
    _tell_findings(cli, report.findings)
    _tell_affected(cli, report.affected)
    if report.is_grave:
        raise click.exceptions.Exit(int(ExitCode.FAILED))
    if report.is_partial:
        raise click.exceptions.Exit(int(ExitCode.PARTIAL))


def _lines(report: CheckReport) -> list[str]:
    """What was looked at."""
    from backup.cli.support.render import counted, local_time

    lines: list[str] = []
    if (compared := report.compared) is not None:
        total = compared.shown + sum(one.kind in {"missing", "differs"} for one in report.findings)
        lines.append(
            f"vault {report.vault}, its list as of {local_time(compared.as_of)}: "
            f"{compared.shown} of {counted(total, 'archive')} as stored"
        )
        if compared.newer:
            newer = counted(compared.newer, "archive")
            lines.append(f"  newer than the list  {newer}: it says nothing of them")
        if compared.confirmed:
            confirmed = counted(compared.confirmed, "archive")
            lines.append(f"  confirmed            {confirmed}: built upon from now on")
    if report.read is not None:
        lines += _read_lines(report.read)
    if (laws := report.laws) is not None:
        lines.append(f"inventory: {laws.laws} laws, {counted(laws.entries, 'version')} of files")
    verdict = "nothing is missing or damaged"
    if report.is_grave:
        verdict = "something is missing or damaged: see below"
    elif report.is_partial:
        verdict = "nothing is known to be missing or damaged, but not all could be looked at: see below"
    return [*lines, verdict]


def _read_lines(read: ReadBack) -> list[str]:
    """What was retrieved, how far it was proven, and what is left for other times."""
    from backup.cli.support.render import counted, size

    whole = f", {read.whole_archives} of them whole" if read.whole_archives else ""
    where = f"{counted(read.archives, 'archive')}{whole}"
    lines = [f"read {size(read.bytes)} in {where}: {counted(read.frames, 'frame')} compared"]
    if read.opened_frames:
        opened, chunks = counted(read.opened_frames, "frame"), counted(read.chunks, "chunk")
        lines.append(f"  opened      {opened}, {chunks} named anew")
    else:
        lines.append("  not opened  no key was given: that frames open, and to what, is not proven")
    lines.append(f"  never read  {size(read.never_read)} of {size(read.stored_bytes)} by any check yet")
    return lines


def _tell_findings(cli: Cli, findings: Sequence[Finding]) -> None:
    from backup.cli.support.render import shown_archive

    for kind in dict.fromkeys(one.kind for one in findings):
        some = [one for one in findings if one.kind == kind]
        for one in some[:_MOST_SHOWN]:
            told = shown_archive(one.what) if kind not in {"law", "unnamed"} else one.what
            (cli.warn if one.is_grave else cli.say)(f"{kind}: {told}: {one.detail}")
        if len(some) > _MOST_SHOWN:
            cli.warn(f"{kind}: … and {len(some) - _MOST_SHOWN} more; --json has them all")


def _tell_affected(cli: Cli, affected: Affected) -> None:
    """Whose files cannot be restored whole, and what to do."""
    from backup.cli.support.render import counted, shown_id, shown_path, size

    if not affected.files:
        return
    count = counted(affected.files, "version")
    live = f"{affected.live_files} of them as the newest snapshot has them"
    cli.warn(f"affected: {count} of files, {size(affected.size)}, {live}")
    for one in affected.snapshots[-_MOST_SHOWN:]:
        cli.warn(f"affected: snapshot {shown_id(one.id)} of job {one.job}: {counted(one.files, 'file')}")
    for path in affected.paths:
        cli.warn(f"affected: {shown_path(path)}")
    if affected.files > len(affected.paths):
        cli.warn(f"affected: … and {affected.files - len(affected.paths)} more")
    if affected.live_files:
        cli.say("next: `nightvault backup`: it stores again what is still on this machine")
