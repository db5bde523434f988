"""`nightvault check`: is what was stored still there, and whole?"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import click

from backup.cli.context import Cli, pass_cli
from backup.errors import ExitCode, UsageError
from backup.model import VaultName

if TYPE_CHECKING:
    from collections.abc import Callable

    from backup.checker.verdicts import Affected, CheckReport, Finding
    from backup.config import Config

_FIRST_POLL, _LONGEST_POLL = 1.0, 300.0
_MOST_SHOWN = 20


@click.command()
@click.option("--vault", metavar="NAME", help="Which vault; the config's only one by default.")
@click.option("--wait", is_flag=True, help="Stay until the vault is ready, however long it takes.")
@pass_cli
def check(cli: Cli, vault: str | None, wait: bool) -> None:
    """Compare the inventory with the vault's own list: free, but hours away where the vault is cold.

    The same command given again goes on where it is. Archives that are gone are marked so: the next backup
    stores again what they held. Exit code 1 says that something is missing or damaged, 3 that some of it
    could not be looked at; 0 while it waits.
    """
    from backup.app.checking import check_world
    from backup.app.runs import opened
    from backup.checker.check import compare_with_vault

    config = cli.config()
    name = VaultName(_chosen(config, vault))
    with closing(opened(config)) as inventory:
        world = check_world(config, inventory, name, clock=cli.clock, progress=cli.progress())
        report = _until_done(cli, lambda: compare_with_vault(world), wait=wait)
    _tell(cli, report)


def _chosen(config: Config, name: str | None) -> str:
    if name is not None:
        return config.vault(name).name
    if len(config.vaults) != 1:
        raise UsageError(
            "which vault? " + ", ".join(vault.name for vault in config.vaults), advice="say --vault NAME"
        )
    return config.vaults[0].name


def _until_done(cli: Cli, act: Callable[[], CheckReport], *, wait: bool) -> CheckReport:
    """Act until the check is over, or waits and we do not."""
    pause = _FIRST_POLL
    while (report := act()).state != "done" and wait:
        if pause == _FIRST_POLL:
            cli.say(f"waiting for {report.waits_for} … Ctrl-C is safe: the same command goes on")
        cli.clock.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_POLL)
    return report


def _tell(cli: Cli, report: CheckReport) -> None:
    from backup.cli.render import path_document

    document = report.document()
    document["affected"]["paths"] = [path_document(path) for path in report.affected.paths]
    if report.state != "done":
        text = (
            f"the check waits for {report.waits_for}\n"
            "next: the same command again, in some hours, or with --wait now"
        )
        cli.show(document, text)
        return
    cli.show(document, "\n".join(_lines(report)))
    _tell_findings(cli, report.findings)
    _tell_affected(cli, report.affected)
    if report.is_grave:
        raise click.exceptions.Exit(int(ExitCode.FAILED))
    if report.is_partial:
        raise click.exceptions.Exit(int(ExitCode.PARTIAL))


def _lines(report: CheckReport) -> list[str]:
    """What was looked at."""
    from backup.cli.render import counted, local_time

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
    verdict = "nothing is missing or damaged"
    if report.is_grave:
        verdict = "something is missing or damaged: see below"
    elif report.is_partial:
        verdict = "nothing is known to be missing or damaged, but not all could be looked at: see below"
    return [*lines, verdict]


def _tell_findings(cli: Cli, findings: Sequence[Finding]) -> None:
    from backup.cli.render import shown_archive

    for kind in dict.fromkeys(one.kind for one in findings):
        some = [one for one in findings if one.kind == kind]
        for one in some[:_MOST_SHOWN]:
            told = shown_archive(one.what) if kind != "law" else one.what
            (cli.warn if one.is_grave else cli.say)(f"{kind}: {told}: {one.detail}")
        if len(some) > _MOST_SHOWN:
            cli.warn(f"{kind}: … and {len(some) - _MOST_SHOWN} more; --json has them all")


def _tell_affected(cli: Cli, affected: Affected) -> None:
    """Whose files cannot be restored whole, and what to do."""
    from backup.cli.render import counted, shown_id, shown_path, size

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
