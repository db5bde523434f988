"""Forgetting by a job's policy, after a backup or by a schedule."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, ClassVar, Self

from msgspec import Struct
from msgspec.structs import replace

from backup.app.base.run_context import RunContext, attempt
from backup.catalogs.report import BackupReport
from backup.config import Config, ForgetWhen
from backup.errors import NightvaultError, as_stopped
from backup.inventory.records import runs
from backup.kinds import Outcome, RunKind
from backup.model import JobName, SnapshotId
from backup.reports import Fact, warned
from backup.transfer.retry import RetryLimit
from backup.wording import counted


class ForgetReport(Struct, frozen=True):
    """The snapshots that a job forgot, its new recovery line if anything changed, warnings."""

    job: JobName
    snapshots: tuple[SnapshotId, ...] = ()
    recovery_line: str = ""
    warnings: tuple[str, ...] = ()
    has_failed: bool = False
    waits_for: str = ""

    @property
    def subject(self) -> str:
        """The job."""
        return f"job {self.job}"

    @property
    def outcome(self) -> Outcome:
        """Done, or failed, where the policy took nothing."""
        return Outcome.FAILED if self.has_failed else Outcome.DONE

    def facts(self, currency: str = "USD") -> Iterator[Fact]:  # noqa: ARG002
        """Warnings, and a count."""
        yield from warned(self.warnings)
        yield from self.counts()

    def counts(self) -> Iterator[Fact]:
        """How many were forgotten; nothing where the policy took nothing."""
        if not self.has_failed:
            yield Fact(f"forgot {counted(len(self.snapshots), 'snapshot')} by the policy")

    def document(self) -> dict[str, Any]:
        """The record of a run in which nothing was forgotten."""
        return {"forgotten": list(self.snapshots)}


class Forget(Struct, frozen=True):
    """A forget of one job by its policy; what is forgotten is recorded with its catalog."""

    kind: ClassVar[RunKind] = RunKind.FORGET
    of_job: ClassVar[bool] = True
    records_itself: ClassVar[bool] = True
    at: RunContext
    name: JobName

    @classmethod
    def of(cls, at: RunContext, name: str) -> Self:
        """The forget of that job."""
        return cls(at, JobName(name))

    @staticmethod
    def about(_config: Config, _name: str) -> dict[str, object]:
        """Nothing: its job names it."""
        return {}

    def step(self, retry_limit: RetryLimit | None = None) -> ForgetReport:
        """Forget what the policy does not keep; the run is recorded even if that is nothing.

        Nothing goes while the job leaves out all of a source: only older snapshots have its files.
        """
        at = self.at.within(retry_limit)
        began = at.clock.now()
        report = apply_policy(at, self.name)
        if not report.snapshots:
            _record(at, report, began)
        return report


def forget_after(at: RunContext, report: BackupReport) -> tuple[BackupReport, ForgetReport | None]:
    """Forget after a backup that made a snapshot, if the job is configured so; None if not.

    A failure does not fail the backup: it is among the warnings, and in `runs`. The report has the newest
    recovery line.
    """
    after = at.config.job(report.job).forget_when is ForgetWhen.AFTER_BACKUP
    if report.shrunk or not after:  # what was lost is told already, and that nothing is forgotten
        return report, None
    try:
        with attempt(at.inventory, at.clock, RunKind.FORGET, {}, report.job), as_stopped(at.stop):
            forgot = apply_policy(at, report.job)
    except NightvaultError as error:
        told = f"the policy could not be applied: {error}"
        forgot = ForgetReport(report.job, warnings=(told,), has_failed=True)
    line = forgot.recovery_line or report.recovery_line
    return replace(report, recovery_line=line, warnings=[*report.warnings, *forgot.warnings]), forgot


def apply_policy(at: RunContext, job: JobName) -> ForgetReport:
    """Forget what a job's policy does not keep."""
    from backup.app.retention.forgetting import forget_in, plan_by_policy  # few backups are followed by it

    with at.inventory.reading() as tx:
        plan = plan_by_policy(at.config, tx, job, at.clock.now())
    if plan.leaves_out:
        return ForgetReport(job, warnings=plan.warnings, has_failed=True)
    if not plan.goes:
        return ForgetReport(job, warnings=plan.warnings)
    done = list(forget_in(at, plan.vault, lambda tx: [plan_by_policy(at.config, tx, job, at.clock.now())]))
    return ForgetReport(
        job,
        tuple(snapshot.id for plan, _ in done for snapshot in plan.goes),
        done[-1][1].recovery_line if done else "",
        tuple(text for plan, amended in done for text in (*plan.warnings, *amended.warnings)),
    )


def _record(at: RunContext, report: ForgetReport, began: datetime) -> None:
    """Record that the policy was applied, unless its own run tells so."""
    with at.inventory.writing() as tx:
        newest, row = runs.newest_of_kind(tx, report.job, RunKind.FORGET), runs.find_job(tx, report.job)
        if row is not None and (newest is None or newest.started_at < began):
            told = report.document()
            runs.record_attempt(tx, RunKind.FORGET, row, Outcome.DONE, told, began, at.clock.now())
