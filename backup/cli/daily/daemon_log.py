"""Log lines of the daemon's runs: a few for each report."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from backup.cli.render import render
from backup.errors import NightvaultError
from backup.reports import log_report

if TYPE_CHECKING:
    from backup.checker.report import CheckReport
    from backup.daemon.task_run import TaskEnd, TaskRun
    from backup.daemon.work import RestoresDone
    from backup.driller.report import DrillReport
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


def tell_check(report: CheckReport) -> None:
    """Log the outcome of a check: each grave finding, and a line of figures."""
    of = f"check of vault {report.vault}"
    for grave in [finding for finding in report.findings if finding.is_grave][:_MOST_SHOWN]:
        _log.error(
            "%s: %s: %s: %s", of, grave.kind, render.printable(grave.what), render.printable(grave.detail)
        )
    if report.affected.files:
        _log.error("%s: %s cannot be restored whole", of, render.counted(report.affected.files, "file"))
    if report.compared is not None:
        shown = render.counted(report.compared.shown, "archive")
        _log.info("%s: its list shows %s as stored", of, shown)
    if report.read is not None:
        read = render.size(report.read.bytes)
        _log.info("%s: %s read back, %s never read yet", of, read, render.size(report.read.never_read))


def tell_drill(report: DrillReport) -> None:
    """Log the outcome of a drill: each finding with advice, and a line of figures."""
    of = f"drill {report.name}"
    for finding in report.findings[:_MOST_SHOWN]:
        level = logging.ERROR if report.is_grave else logging.WARNING
        told = render.printable(": ".join(filter(None, (finding.kind, finding.what, finding.detail))))
        _log.log(level, "%s: %s", of, told)
    if report.advice:
        _log.info("%s: %s", of, report.advice)
    if report.run is None:
        _log.info("%s: nothing is stored yet", of)
    if report.read is not None:
        _log.info("%s: %s read back, %s", of, render.size(report.read.bytes), report.outcome)
    if report.opened is not None:
        count, size = render.counted(report.opened.files, "file"), render.size(report.opened.bytes)
        _log.info("%s: %s of %s opened, %s", of, count, size, report.outcome)


def tell_restores(done: RestoresDone) -> None:
    """Log the outcome of each open restore that the task worked on."""
    for restore_id, report in done:
        tell_restore(restore_id, report)


_TELL: dict[str, Callable[[Any], None]] = {
    "backup": log_report,
    "forget": log_report,
    "compact": log_report,
    "prune": log_report,
    "check": tell_check,
    "drill": tell_drill,
    "restores": tell_restores,
}
