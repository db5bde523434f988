"""The outcome of a restore or a dump, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from backup.cli.render.problems import problem_document, problem_lines
from backup.cli.restoring.restore_waiting import expected_of
from backup.cli.support.context import Cli
from backup.cli.support.waiting import expected_text, hours_text
from backup.errors import ExitCode

if TYPE_CHECKING:
    from backup.inventory.records.retrievals import Restore, Retrieval
    from backup.restorer.restore import RestoreReport


def restore_document(report: RestoreReport) -> dict[str, Any]:
    """Return the report of a restore as a JSON document."""
    from backup.cli.render.render import path_document

    problems = [problem_document(problem) for problem in report.problems]
    return report.document() | {
        "target": path_document(report.target),
        "problems": problems,
        "expected_at": None,
    }


def show_waiting(cli: Cli, begun: Restore, known: Sequence[Retrieval]) -> NoReturn:
    """Show what a restore waits for, and how long it may take; end the command with exit code 17."""
    from backup.app.money.expected_times import hours_of, usual_hours
    from backup.cli.render.render import counted
    from backup.restorer.restore import waiting_report

    report = waiting_report(begun, known)
    when = expected_of(cli, begun, known)
    asked = counted(report.retrievals, "retrieval")
    settings, vaults = cli.config().vault(begun.vault), cli.config().vaults
    usual = hours_text(*(usual_hours(settings, known, vaults) or hours_of(settings, begun.tier)))
    by = f"({usual} with {begun.tier}){expected_text(when, cli.clock.now())}"
    lines = [
        f"restore {begun.id} waits for {report.waiting} of {asked} {by}",
        f"next: run the same command again after that; or `nightvault restore resume {begun.id} --wait` now",
    ]
    document = restore_document(report) | {"expected_at": None if when is None else when.latest}
    cli.report(document, "\n".join(lines), wraps=True)
    raise click.exceptions.Exit(int(ExitCode.WAITING))


def show_restored(cli: Cli, report: RestoreReport) -> None:
    """Show what was restored and what was not; end the command with exit code 3 if something is missing."""
    from backup.cli.render.render import counted, duration, shown_id, shown_path, size
    from backup.kinds import Outcome
    from backup.model import SnapshotId

    for line in problem_lines(report.problems):
        cli.warn(line)
    for warning in report.warnings:
        cli.warn(f"warning: {warning}")
    wrote = f"{counted(report.files, 'file')} and {counted(report.directories, 'directory')}"
    text = [
        f"snapshot {shown_id(SnapshotId(report.snapshot))} restored below {shown_path(report.target)}",
        f"  wrote      {wrote}, {size(report.bytes)}",
        f"  retrieved  {size(report.retrieved)} in {counted(report.retrievals, 'retrieval')}",
        f"  took       {duration(report.seconds)}",
    ]
    if report.vaults:
        text.insert(3, f"  from       {report.from_vaults}")
    counts = {"kept": report.kept, "removed": report.removed, "compared": report.verified}
    text[2:2] = [f"  {word:<10} {counted(count, 'entry')}" for word, count in counts.items() if count]
    cli.report(restore_document(report), "\n".join(text))
    if report.outcome is not Outcome.DONE:
        cli.warn("not everything could be restored or set: see above")
        raise click.exceptions.Exit(int(ExitCode.PARTIAL))
