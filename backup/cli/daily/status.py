"""`nightvault status`: whether all is well, on one screen; no vault is asked."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from backup.cli.support.context import Cli, pass_cli
from backup.errors import ExitCode, LockedError, NightvaultError, UsageError

if TYPE_CHECKING:
    from backup.app.status.parts import Status

EXAMPLES = {"status": ("nightvault status", "nightvault status --overdue --notify  # in a timer")}

_PATIENCE = 3.0
"""For how many seconds another process may write to the inventory while somebody is to be told."""


@click.command()
@click.option(
    "--watch",
    is_flag=False,
    flag_value=5,
    type=click.IntRange(1, 3600),
    metavar="[SECONDS]",
    help="Show it again every 5 seconds, or as often as given, until Ctrl-C.",
)
@click.option("--overdue", "only_overdue", is_flag=True, help="Only whether anything is overdue.")
@click.option(
    "--nagios", is_flag=True, help="Print a Nagios plugin's line; exit codes 0, 1, 2, 3 are Nagios's."
)
@click.option(
    "--metrics", metavar="FILE", help="Only write metrics for Prometheus; the exit code is 0 once they are."
)
@click.option("--notify", is_flag=True, help="Send concerns by the channels of [notify]; for a timer.")
@pass_cli
def status(
    cli: Cli, watch: int | None, only_overdue: bool, nagios: bool, metrics: str | None, notify: bool
) -> int:
    """Show whether all is well: jobs, what runs and what is next, restores, costs, the certificate.

    Exit code 0: all is well; 1: it is not, and a line for each concern says what to look at. It asks no
    vault, and the daemon need not run. docs/watching.md says what is a warning and what is critical.
    """
    if sum((cli.json, nagios, metrics is not None)) > 1 or (watch is not None and (nagios or metrics)):
        raise UsageError(
            "--json, --nagios and --metrics are different outputs, and --watch is for people and --json",
            advice="give one of them",
        )
    if notify:
        if watch is not None or metrics is not None:
            raise UsageError("--notify tells once: it goes with neither --watch nor --metrics")
        _notify(cli, only_overdue=only_overdue)
    if nagios:
        return _nagios(cli, only_overdue=only_overdue)
    if metrics is not None:
        return _write_metrics(cli, metrics)
    if watch is not None:
        return _watch(cli, watch, only_overdue=only_overdue)
    found = _read(cli, only_overdue=only_overdue)
    _show(cli, found, only_overdue=only_overdue)
    return _exit_code(found)


def _read(cli: Cli, *, only_overdue: bool) -> Status:
    from backup.app.status.concerns import late_or_unknown
    from backup.app.status.status import read_status
    from backup.cli.support.live_tasks import with_tasks

    found = read_status(cli.config(), cli.clock.now())
    if not only_overdue:
        return with_tasks(found, cli.config().state_dir, cli.clock)
    late = [job for job in found.jobs if job.is_overdue]
    others = [task for task in found.scheduled if task.is_overdue]
    return replace(found, jobs=late, scheduled=others, concerns=late_or_unknown(found))


def _notify(cli: Cli, *, only_overdue: bool) -> None:
    """Tell of what is overdue, and of what will fail unless only that is wanted; send what waits.

    Where another process writes to the inventory and does not end, the next look tells: this one answers.
    """
    from backup.app.telling.fallback import send_directly
    from backup.app.telling.record import make_messages
    from backup.cli.support.telling import send_messages

    config = cli.config()
    try:
        found = _read(cli, only_overdue=False)
    except NightvaultError as error:  # its disk is not mounted, perhaps; what is shown next says so
        if not isinstance(error, LockedError):
            send_directly(config, cli.clock, error, None)
        return
    if make_messages(config, cli.clock, status=found, only_overdue=only_overdue, patience=_PATIENCE):
        send_messages(cli, config)


def _exit_code(found: Status) -> int:
    return ExitCode.DONE if found.is_well else ExitCode.FAILED


def _show(cli: Cli, found: Status, *, only_overdue: bool) -> None:
    from backup.cli.render.status_output import status_document
    from backup.cli.render.status_screen import overdue_screen, status_screen

    screen = overdue_screen if only_overdue else status_screen
    tell = cli.report if found.is_well else cli.show  # with --quiet nothing is said while all is well
    tell(status_document(found) if cli.json else None, screen(found))


def _nagios(cli: Cli, *, only_overdue: bool) -> int:
    """A plugin's answer; whatever keeps it from looking is its "unknown"."""
    from backup.cli.render.status_output import UNKNOWN, nagios_lines, nagios_unknown

    try:
        code, text = nagios_lines(_read(cli, only_overdue=only_overdue))
    except (NightvaultError, OSError) as error:
        code, text = UNKNOWN, nagios_unknown(str(error))
    click.echo(text)
    return code


def _write_metrics(cli: Cli, path: str) -> int:
    from backup.app.status.metrics_file import write_metrics

    write_metrics(path, _read(cli, only_overdue=False))
    return ExitCode.DONE


def _watch(cli: Cli, seconds: int, *, only_overdue: bool) -> int:
    """Show it again and again: in the terminal's second screen, or one after the other where it is a pipe."""
    if cli.json or not sys.stdout.isatty():
        while True:
            _show(cli, _read(cli, only_overdue=only_overdue), only_overdue=only_overdue)
            sys.stdout.flush()
            cli.clock.sleep(seconds)
    from rich.console import Console, Group
    from rich.text import Text

    from backup.cli.render.status_screen import overdue_screen, status_screen

    shown = overdue_screen if only_overdue else status_screen
    console = Console(highlight=False, markup=False, emoji=False)
    with console.screen() as screen:
        while True:
            found = _read(cli, only_overdue=only_overdue)
            at = f"{found.now.astimezone():%Y-%m-%d %H:%M:%S}, again every {seconds} s; Ctrl-C ends"
            screen.update(Group(shown(found), Text(), Text(at, style="dim")))
            cli.clock.sleep(seconds)
