"""Automatic forgetting, after a backup or by a schedule. A failure is recorded as a run."""

from __future__ import annotations

import threading
from contextlib import closing
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from backup.app.backups.run_context import RunContext, attempt
from backup.app.base.opened import opened
from backup.catalogs.report import BackupReport
from backup.config import Config, ForgetWhen
from backup.errors import NightvaultError, as_stopped
from backup.inventory.records import runs
from backup.inventory.records.runs import Outcome, RunKind
from backup.model import JobName, SnapshotId
from backup.protocols import Clock, Progress
from backup.transfer.retry import RetryLimit


class Forgot(Struct, frozen=True):
    """The result for a job: what it forgot, the new recovery line if anything changed, warnings."""

    job: JobName
    snapshots: tuple[SnapshotId, ...] = ()
    recovery_line: str = ""
    warnings: tuple[str, ...] = ()
    has_failed: bool = False


def forget_after(
    config: Config,
    report: BackupReport,
    *,
    clock: Clock,
    progress: Progress,
    stop: threading.Event,
    retry_limit: RetryLimit | None = None,
) -> tuple[BackupReport, Forgot | None]:
    """Forget after a backup that made a snapshot, if the job is configured so; None if not.

    A failure does not fail the backup: it is among the warnings, and in `runs`. The report has the newest
    recovery line.
    """
    after = config.job(report.job).forget_when is ForgetWhen.AFTER_BACKUP
    if report.shrunk or not after:  # what was lost is told already, and that nothing is forgotten
        return report, None
    try:
        forgot = forget_job(
            config, report.job, clock=clock, progress=progress, stop=stop, retry_limit=retry_limit
        )
    except NightvaultError as error:
        forgot = Forgot(report.job, warnings=(f"the policy could not be applied: {error}",), has_failed=True)
    line = forgot.recovery_line or report.recovery_line
    return replace(report, recovery_line=line, warnings=[*report.warnings, *forgot.warnings]), forgot


def forget_job(
    config: Config,
    job: JobName,
    *,
    clock: Clock,
    progress: Progress,
    stop: threading.Event,
    retry_limit: RetryLimit | None = None,
    always_record: bool = False,
) -> Forgot:
    """Forget what a job's policy does not keep; an error is recorded as a failed run.

    Nothing goes while the job excludes all of a source: only older snapshots have its files. `always_record`:
    the run is recorded even if nothing was forgotten.
    """
    began = clock.now()
    with closing(opened(config)) as inventory:
        at = RunContext(
            config=config,
            inventory=inventory,
            clock=clock,
            progress=progress,
            stop=stop.is_set,
            retry_limit=retry_limit or RetryLimit(),
        )
        with attempt(inventory, clock, RunKind.FORGET, {}, job), as_stopped(at.stop):
            forgot = _forget(at, job)
        if always_record and not forgot.snapshots:
            _record(at, job, began)
        return forgot


def _forget(at: RunContext, job: JobName) -> Forgot:
    from backup.app.retention.forgetting import forget_in, plan_by_policy  # few backups are followed by it

    with at.inventory.reading() as tx:
        plan = plan_by_policy(at.config, tx, job, at.clock.now())
    if plan.leaves_out:
        return Forgot(job, warnings=plan.warnings, has_failed=True)
    if not plan.goes:
        return Forgot(job, warnings=plan.warnings)
    done = list(forget_in(at, plan.vault, lambda tx: [plan_by_policy(at.config, tx, job, at.clock.now())]))
    return Forgot(
        job,
        tuple(snapshot.id for plan, _ in done for snapshot in plan.goes),
        done[-1][1].recovery_line if done else "",
        tuple(text for plan, amended in done for text in (*plan.warnings, *amended.warnings)),
    )


def _record(at: RunContext, job: JobName, began: datetime) -> None:
    """Record that the policy was applied, unless its own run tells so."""
    with at.inventory.writing() as tx:
        newest, row = runs.newest_of_kind(tx, job, RunKind.FORGET), runs.find_job(tx, job)
        if row is not None and (newest is None or newest.started_at < began):
            report: dict[str, object] = {"forgotten": []}
            runs.record_attempt(tx, RunKind.FORGET, row, Outcome.DONE, report, began, at.clock.now())
