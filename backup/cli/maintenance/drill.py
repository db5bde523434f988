"""`nightvault drill`: rehearses a restore now, as the daemon does by the config's schedules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from backup.cli.options.retrieval_options import keys_option, passphrase_files_option, wait_option
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.operating import operate
from backup.cli.support.waiting import daemon_runs
from backup.errors import ExitCode, UsageError
from backup.inventory.store.states import StepStage

if TYPE_CHECKING:
    from backup.config import Config, DrillSettings
    from backup.driller.report import DrillReport
    from backup.format.keys import RecoveryKey

EXAMPLES = {
    "drill run": ("nightvault drill run weekly --dry-run", "nightvault drill run --key recovery.key --wait")
}

_MOST_SHOWN = 20


def show_drill(cli: Cli, report: DrillReport) -> None:
    """Show the outcome of a drill; exit with 1 or 3 if something is wrong, with 17 if it waits."""
    from backup.cli.render.render import path_document, printable
    from backup.kinds import Outcome

    document = report.document()
    document["affected"]["paths"] = [path_document(path) for path in report.affected.paths]
    if report.state is not StepStage.DONE:
        too = "; the daemon goes on, too" if daemon_runs(cli) else ""
        text = (
            f"drill {report.name} waits for {report.waits_for}\n"
            f"next: run the same command again in some hours, or now with --wait{too}"
        )
        cli.report(document, text, wraps=True)
        raise click.exceptions.Exit(int(ExitCode.WAITING))
    is_well = report.outcome is Outcome.DONE
    (cli.report if is_well else cli.show)(document, "\n".join(_lines(report)))
    for finding in report.findings[:_MOST_SHOWN]:
        told = printable(": ".join(filter(None, (finding.kind, finding.what, finding.detail))))
        (cli.warn if report.is_grave else cli.say)(told)
    if len(report.findings) > _MOST_SHOWN:
        cli.warn(f"… and {len(report.findings) - _MOST_SHOWN} more; --json has them all")
    if report.advice:
        cli.say(f"next: {report.advice}")
    codes = {Outcome.FAILED: ExitCode.FAILED, Outcome.PARTIAL: ExitCode.PARTIAL}
    if report.outcome in codes:
        raise click.exceptions.Exit(int(codes[report.outcome]))


def _lines(report: DrillReport) -> Iterator[str]:
    """Lines on what was read back or opened, at what cost, and the verdict."""
    from backup.cli.render.render import counted, size
    from backup.driller.money import money_of
    from backup.driller.report import load_text

    if report.run is None:
        yield f"drill {report.name}: nothing is stored yet that could be read"
        return
    cost = f"{money_of(report.cost):.2f} {report.currency} at most" if report.cost else "at no cost"
    if report.read is not None:
        read = report.read
        what = f"{size(read.bytes)} in {counted(read.archives, 'archive')}, {counted(read.frames, 'frame')}"
        yield f"drill {report.name}: read back {what}, {cost}"
    if report.opened is not None:
        opened = report.opened
        yield f"drill {report.name}: opened {counted(opened.files, 'file')}, {size(opened.bytes)}, {cost}"
        yield from (f"  {name}" for name in opened.names)
        if opened.names and opened.files > len(opened.names):
            yield f"  … and {opened.files - len(opened.names):,} more"
    yield from (f"  {load_text(dump)}" for dump in report.loaded)
    verdict = "all of it is as it was stored" if report.opened is None else "all of it is as it was saved"
    if report.is_grave:
        verdict = "it failed: something is not as it was saved, see below"
    elif report.findings:
        verdict = "nothing is known to be wrong, but not all could be read: see below"
    yield verdict


@click.group()
def drill() -> None:
    """Rehearse restores: a sample is read back or opened, before anybody needs it."""


@drill.command()
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--dry-run", is_flag=True, help="Show what would be read and what it would cost; read nothing.")
@keys_option("The recovery key: files are restored into a directory of the drill's own, and compared.")
@passphrase_files_option
@wait_option
@pass_cli
def run(
    cli: Cli,
    name: str | None,
    dry_run: bool,
    key_files: tuple[str, ...],
    passphrase_files: tuple[str, ...],
    wait: bool,
) -> None:
    """Run a drill of the config; without NAME the only one.

    A sample of archives is read back: retrieved, and compared with what was stored. With --key files are
    opened instead: restored, and compared with the inventory, and with the source where that is unchanged.
    A drill never costs more than its max_cost_per_month. From a cold vault the same command, run again,
    goes on where it is, and so does the daemon; the key is not needed again.

    Exit code 1 says that something is not as it was saved, 3 that some of it could not be read now, 16 that
    the month's money is not enough, 17 that it waits: come again.
    """
    from backup.cli.support.keyfiles import read_keys
    from backup.cli.support.telling import telling
    from backup.operations.drill import Drill

    config = cli.config()
    settings = _chosen(config, name)
    keys = read_keys(key_files, passphrase_files) if key_files else []
    if dry_run:
        _show_quote(cli, config, settings, keys)
        return
    report = operate(
        cli,
        config,
        lambda at: Drill.of(at, settings.name, keys=keys).rehearse,
        told=telling(cli, config),
        stays=wait,
        stops=False,
    )
    show_drill(cli, report)


def _chosen(config: Config, name: str | None) -> DrillSettings:
    """The drill that is meant. `UsageError`."""
    if name is not None:
        return config.drill(name)
    if len(config.drills) != 1:
        names = ", ".join(settings.name for settings in config.drills)
        told = f"which drill? There is {names}" if names else f"{config.path} has no drill"
        raise UsageError(told, advice="name one" if names else "add a [[drill]]: see docs/drills.md")
    return config.drills[0]


def _show_quote(cli: Cli, config: Config, settings: DrillSettings, keys: Sequence[RecoveryKey]) -> None:
    from backup.cli.support.quoting import show_sample
    from backup.operations.drill import Drill
    from backup.operations.recorded import context

    with context(config, clock=cli.clock, progress=cli.progress(), only_plan=True) as at:
        found = Drill.of(at, settings.name, keys=keys).quotes()
    if not found:
        cli.report({"retrieved": 0, "quotes": []}, "nothing is stored yet that could be read")
        return
    show_sample(cli, config, config.vault(config.vault_of_drill(settings)), found)
