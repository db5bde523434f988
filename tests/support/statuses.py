"""Statuses made up for tests: all is well, unless something is said otherwise."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from backup.app.base.certificate_dates import CertificateStatus
from backup.app.status.parts import (
    JobStatus,
    RestoreStatus,
    ScheduledStatus,
    Status,
    VaultStatus,
)
from backup.inventory.records.runs import Run
from backup.kinds import TASKS, Outcome, RunKind, TaskKind
from backup.model import JobName, SnapshotId, VaultName

NOW = datetime(2026, 11, 26, 6, 0, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def run(
    kind: RunKind = RunKind.BACKUP,
    outcome: Outcome = Outcome.DONE,
    *,
    number: int = 7,
    job: str | None = "main",
    found_damage: bool = True,
    reads_back: bool = False,
    **told: str,
) -> Run:
    """A run of this night, with what its report tells; a check or drill that failed has found damage."""
    began = NOW - 3 * HOUR
    report: dict[str, Any] = {"vault": "cold", **told}
    report |= {"findings": []} if found_damage and kind in {RunKind.CHECK, RunKind.DRILL} else {}
    report |= {"read": {}} if reads_back else {}
    of = JobName(job) if job else None
    return Run(number, kind, of, outcome, began, began + HOUR, None, report)


def job(**more: Any) -> JobStatus:
    """A job that was done this night, and is due in the next."""
    made = JobStatus(
        name=JobName("main"),
        vault=VaultName("cold"),
        schedule="daily at 03:00",
        has_policy=True,
        last_good=NOW - 3 * HOUR,
        last_run=run(),
        next_at=NOW + 21 * HOUR,
        overdue_from=NOW + 27 * HOUR,
        is_overdue=False,
        ahead=None,
    )
    return replace(made, **more)


def vault(**more: Any) -> VaultStatus:
    """A vault with a thousand archives."""
    made = VaultStatus(
        name=VaultName("cold"),
        kind="glacier",
        archives=1000,
        bytes=200 * 1024**3,
        month=Decimal("0.72"),
        is_free=False,
        unverified_since=NOW - 100 * DAY,
        next_prune=None,
    )
    return replace(made, **more)


def scheduled(kind: TaskKind = TaskKind.DRILL, name: str = "weekly", **more: Any) -> ScheduledStatus:
    """Something else that has a schedule, and was good two days ago."""
    name = "main@second" if kind is TaskKind.COPY else name
    made = ScheduledStatus(
        kind=kind,
        name=name,
        text=TASKS[kind].text_of(name),
        command=TASKS[kind].command_of(name),
        vault=VaultName("cold"),
        schedule="weekly",
        last_good=NOW - 2 * DAY,
        next_at=NOW + 5 * DAY,
        overdue_from=NOW + 7 * DAY,
        is_overdue=False,
    )
    return replace(made, **more)


def restore(**more: Any) -> RestoreStatus:
    """A restore that waits for its vault."""
    made = RestoreStatus(
        id="0123456789abcdef",
        snapshot=SnapshotId("a" * 16),
        vault=VaultName("cold"),
        target=b"/restored",
        stage="waiting",
        retrievals=5,
        waiting=3,
        failed=0,
        expected_at=NOW + HOUR,
        ready_until=None,
        held=None,
    )
    return replace(made, **more)


def certificate(left: timedelta, life: timedelta = 365 * DAY) -> CertificateStatus:
    """A certificate with so much of its life left."""
    return CertificateStatus(NOW + left - life, NOW + left)


def status(**more: Any) -> Status:
    """A server on which all is well."""
    made = Status(
        now=NOW,
        jobs=[job()],
        running=[],
        ended=[run(), run(RunKind.CHECK, job=None)],
        restores=[],
        vaults=[vault()],
        certificate=certificate(80 * DAY),
        daemon_runs=True,
        suspended=[],
        currency="USD",
        drills=["weekly"],
        scheduled=[scheduled()],
    )
    return replace(made, **more)
