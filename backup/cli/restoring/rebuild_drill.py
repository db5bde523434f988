"""`rebuild --dry-run`: runs a drill of a rebuild, and shows its result."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from backup.cli.support.context import Cli
from backup.cli.support.operating import operate
from backup.cli.support.waiting import hours_text
from backup.errors import ExitCode
from backup.kinds import Outcome
from backup.model import Tier, VaultName

if TYPE_CHECKING:
    from rich.console import Group

    from backup.app.money.prices import Quote
    from backup.config import Config, VaultSettings
    from backup.format.keys import RecoveryKey
    from backup.rebuilder.context import Wish
    from backup.rebuilder.drill import RebuildDrillReport
    from backup.rebuilder.findings import RowDifference

_MOST_SHOWN = 20
_EXITS = {Outcome.DONE: ExitCode.DONE, Outcome.PARTIAL: ExitCode.PARTIAL, Outcome.FAILED: ExitCode.FAILED}


def run_drill(
    cli: Cli, config: Config, wish: Wish, vault: VaultName, keys: Sequence[RecoveryKey], *, stays: bool
) -> None:
    """Run a drill of a rebuild, show its result, and end the command with its exit code."""
    from backup.cli.support.telling import telling
    from backup.operations.rebuild_drill import RebuildDrill, rebuild_quotes

    settings = config.vault(vault)
    report = operate(
        cli,
        config,
        lambda at: RebuildDrill(at, vault, wish, keys).step,
        told=telling(cli, config),
        stays=stays or settings.kind == "directory",
        stops=False,
    )
    if report.waits_for:
        text = (
            f"the drill waits for {report.waits_for}\n"
            "next: run the same command again in some hours, or now with --wait"
        )
        cli.report(report.document(), text)
        raise click.exceptions.Exit(int(ExitCode.WAITING))
    _show(cli, config, settings, report, rebuild_quotes(config, settings, report.catalogs, cli.clock))
    raise click.exceptions.Exit(int(_EXITS[report.outcome]))


def _show(
    cli: Cli, config: Config, settings: VaultSettings, report: RebuildDrillReport, quotes: Sequence[Quote]
) -> None:
    from backup.app.money.prices import known_table
    from backup.cli.support.quoting import prices_document, quote_document

    is_free = settings.kind == "directory"
    prices = None if is_free else known_table(config)
    document = {
        **report.document(),
        "prices": prices_document(prices),
        "currency": None if prices is None else prices.currency,
        "quotes": [quote_document(quote, is_free=is_free) for quote in quotes],
    }
    for suspicion in report.rebuilt.suspicions[:_MOST_SHOWN]:
        cli.warn(": ".join(filter(None, (suspicion.kind, suspicion.archive_id, suspicion.detail))))
    cli.show(document, _screen(config, settings, report, quotes))


def _screen(
    config: Config, settings: VaultSettings, report: RebuildDrillReport, quotes: Sequence[Quote]
) -> Group | str:
    from backup.cli.support.quoting import quote_table, terms_text

    lines = _fitted([*_lines(report), *_cost(report, settings)])
    if settings.kind == "directory":
        return "\n".join([*lines, "it would cost nothing: the vault is a directory"])
    from rich.console import Group
    from rich.text import Text

    terms = terms_text(config, settings, quotes)
    return Group(*map(Text, lines), quote_table(quotes), Text(terms))


def _fitted(lines: Sequence[str]) -> list[str]:
    """The lines, broken where the terminal ends; what goes into a pipe is not."""
    if not sys.stdout.isatty():
        return list(lines)
    width = shutil.get_terminal_size().columns
    broken = (textwrap.wrap(line, width, subsequent_indent="    ", break_on_hyphens=False) for line in lines)
    return [line for lines_of in broken for line in lines_of]


def _lines(report: RebuildDrillReport) -> Iterator[str]:
    from backup.cli.render.render import counted

    for job in report.rebuilt.jobs:
        yield f"job {job.name}: {counted(job.snapshots, 'snapshot')}, as of catalog {job.number}"
    found = report.comparison
    if found is None:
        return
    rows = f"{counted(sum(found.rows.values()), 'row')} of {counted(len(found.rows), 'table')}"
    if found.are_same:
        yield f"the rebuilt inventory equals the one in use: {rows}"
    else:
        count = sum(difference.count for difference in found.differences)
        yield f"the rebuilt inventory differs from the one in use: {count:,} of {rows}"
    for difference in found.differences:
        yield from _difference(difference)
    for difference in found.explained:
        yield f"explained: {difference.table}, {difference.kind}: {difference.count:,}: {difference.why}"
    yield "not compared, as no catalog has it: runs, open restores, kept lists, messages,"
    yield "what makes unchanged files known (all of it, with reasons: --json)"


def _difference(difference: RowDifference) -> Iterator[str]:
    yield f"difference: {difference.table}, {difference.kind}: {difference.count:,}"
    for example in difference.examples:
        yield f"    {example}"
    if difference.count > len(difference.examples):
        yield f"    … and {difference.count - len(difference.examples):,} more"


def _cost(report: RebuildDrillReport, settings: VaultSettings) -> Iterator[str]:
    from backup.app.money.expected_times import hours_of
    from backup.cli.render.render import counted, duration, size

    took = f"it took {duration(report.took)}"
    if report.took - report.worked > 1:
        took += f", of which {duration(report.worked)} of work; the rest was waiting for the vault"
    yield took
    catalogs = counted(report.catalogs.count, "catalog")
    yield f"a real rebuild reads the vault's list and {catalogs}, {size(report.catalogs.size)}"
    if settings.kind == "glacier":
        hours = hours_text(*hours_of(settings, Tier.STANDARD))
        yield f"the list takes {hours}, then come the catalogs, by their tier;"
        yield "with a recovery line (--from) no list is needed"
