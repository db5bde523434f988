"""Log lines of the daemon's runs: a few for each report."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from backup.cli.render import render
from backup.errors import NightvaultError
from backup.reports import log_report

if TYPE_CHECKING:
    from backup.daemon.task_run import TaskEnd, TaskRun
    from backup.daemon.work import RestoresDone
    from backup.restorer.restore import RestoreReport

_MOST_SHOWN = 20
_log = logging.getLogger(__name__)


class LogWatcher:
    """A watcher that logs the report of every run."""

    def began(self, run: TaskRun) -> None:
        """Do nothing: the executor logs the beginning of a run itself."""

    def ended(self, run: TaskRun, end: TaskEnd) -> None:
        """Log the report of a run that has ended."""
        tell = _TELL.get(run.task.kind)
        if tell is not None and end.report is not None and not end.waits_for:
            tell(end.report)


def tell_restore(restore_id: str, report: RestoreReport | NightvaultError) -> None:
    """Log the outcome of one session of an open restore."""
    if isinstance(report, NightvaultError):
        _log.error("restore %s: %s", restore_id, report)
        if report.advice:
            _log.info("restore %s: %s", restore_id, report.advice)
        return
    for problem in report.problems[:_MOST_SHOWN]:
        shown = render.shown_path(problem.path)
        _log.warning("restore %s: %s: %s: %s", restore_id, problem.kind, shown, problem.detail)
    for warning in report.warnings:
        _log.warning("restore %s: %s", restore_id, render.printable(warning))
    _log.info(
        "restore %s: %s, %s files of %s below %s, %d of %d retrievals to come",
        restore_id,
        report.outcome,
        f"{report.files:,}",
        render.size(report.bytes),
        render.shown_path(report.target),
        report.waiting,
        report.retrievals,
    )


def tell_restores(done: RestoresDone) -> None:
    """Log the outcome of each open restore that the task worked on."""
    for restore_id, report in done:
        tell_restore(restore_id, report)


_TELL: dict[str, Callable[[Any], None]] = {
    "backup": log_report,
    "forget": log_report,
    "compact": log_report,
    "prune": log_report,
    "check": log_report,
    "drill": log_report,
    "restores": tell_restores,
}
