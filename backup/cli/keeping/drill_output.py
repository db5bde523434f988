"""The outcome of a drill, for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from backup.cli.support.context import Cli
from backup.cli.support.waiting import daemon_runs
from backup.errors import ExitCode
from backup.inventory.store.stages import StepStage

if TYPE_CHECKING:
    from backup.driller.report import DrillReport

_MOST_SHOWN = 20


def show_drill(cli: Cli, report: DrillReport) -> None:
    """Tell the outcome of a drill; ends the command with 1, 3 or 17 if it was not well or is not over."""
    from backup.cli.render.render import path_document, printable
    from backup.inventory.records.runs import Outcome

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
    for one in report.findings[:_MOST_SHOWN]:
        told = printable(": ".join(filter(None, (one.kind, one.what, one.detail))))
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
    verdict = "all of it is as it was stored" if report.opened is None else "all of it is as it was saved"
    if report.is_grave:
        verdict = "it failed: something is not as it was saved, see below"
    elif report.findings:
        verdict = "nothing is known to be wrong, but not all could be read: see below"
    yield verdict
