"""What was proven of each job by reading it back and opening it, and the drills that did so."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from backup.app.status.verified import proofs_of_jobs
from backup.inventory.records.drills import Drill, list_drills
from backup.inventory.records.readings import Grade
from backup.inventory.store.connections import Transaction
from backup.web.views.values.archives import DrillLine, ProvenLine

_MOST_DRILLS = 10
_MILLION = 1_000_000


def proven_lines(tx: Transaction, now: datetime) -> list[ProvenLine]:
    """Each job with the share that was ever proven in either grade, and when last."""
    return [
        ProvenLine(
            job=job,
            bytes=proof.bytes,
            last_read_back=proof.last_read_back,
            read_back=proof.share(Grade.READ_BACK),
            last_opened=proof.last_opened,
            opened=proof.share(Grade.OPENED),
        )
        for job, proof in sorted(proofs_of_jobs(tx, now).items())
    ]


def drill_lines(tx: Transaction) -> list[DrillLine]:
    """The newest drills, newest first."""
    return [_line(one) for one in list_drills(tx, limit=_MOST_DRILLS)]


def _line(one: Drill) -> DrillLine:
    report = one.run.report
    read, opened = _counts(report.get("read")), _counts(report.get("opened"))
    return DrillLine(
        run=one.run.number,
        name=one.name,
        is_opened=one.grade is Grade.OPENED,
        vault=one.vault,
        outcome=one.run.outcome,
        started_at=one.run.started_at,
        files=opened.get("files", 0),
        archives=read.get("archives", 0),
        bytes=opened.get("bytes", 0) or read.get("bytes", 0),
        cost=Decimal(one.cost) / _MILLION,
        error=report.get("error"),
    )


def _counts(told: Any) -> Mapping[str, int]:
    """Counts of a report, which may lack them."""
    return told if isinstance(told, dict) else {}
