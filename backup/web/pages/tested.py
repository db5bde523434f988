"""The part of the page of archives about checks, drills, and what was read back or opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from msgspec import Struct

from backup.app.status.verified import proofs_of_jobs
from backup.inventory.content.archives import count_unread
from backup.inventory.questions.proofs import Proof, proofs
from backup.inventory.questions.status import held, last_good, oldest_unverified
from backup.inventory.records.drills import Drill, list_drills
from backup.inventory.records.readings import Grade
from backup.inventory.records.runs import list_runs
from backup.inventory.store.connections import Transaction
from backup.kinds import Outcome, RunKind
from backup.model import JobName, VaultName
from backup.web.pages.runs import RunLine, run_line

_MOST_DRILLS = 10
_MILLION = 1_000_000
_CHECKS = 5
_PROVING = (RunKind.CHECK, RunKind.DRILL, RunKind.REBUILD_DRILL)


class CheckLine(Struct, frozen=True):
    """The checks of a vault: when its list was last compared, and when data was last read back.

    `runs` are the newest checks and drills.
    """

    vault: VaultName
    checked_at: datetime | None
    last_read_back: datetime | None
    unverified_since: datetime | None
    unverified_archives: int
    archives: int
    runs: Sequence[RunLine]
    last_drill: datetime | None = None


class ProvenLine(Struct, frozen=True):
    """Shares (0 to 1, None without bytes) of a job's `bytes` ever read back or opened, and when last."""

    job: JobName
    bytes: int
    last_read_back: datetime | None
    read_back: float | None
    last_opened: datetime | None
    opened: float | None


class DrillLine(Struct, frozen=True):
    """A drill: what it read back or opened with a recovery key. `outcome` running: it waits for the vault."""

    run: int
    name: str
    is_opened: bool
    vault: VaultName
    outcome: Outcome
    started_at: datetime
    files: int
    archives: int
    bytes: int
    cost: Decimal
    error: str | None


def proven_lines(tx: Transaction, now: datetime) -> list[ProvenLine]:
    """Return each job with the shares that were ever read back and opened, and when last."""
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
    """Return the newest drills, newest first."""
    return [_line(drill) for drill in list_drills(tx, limit=_MOST_DRILLS)]


def _line(drill: Drill) -> DrillLine:
    report = drill.run.report
    read, opened = _counts(report.get("read")), _counts(report.get("opened"))
    return DrillLine(
        run=drill.run.number,
        name=drill.name,
        is_opened=drill.grade is not Grade.READ_BACK,
        vault=drill.vault,
        outcome=drill.run.outcome,
        started_at=drill.run.started_at,
        files=opened.get("files", 0),
        archives=read.get("archives", 0),
        bytes=opened.get("bytes", 0) or read.get("bytes", 0),
        cost=Decimal(drill.cost) / _MILLION,
        error=report.get("error"),
    )


def _counts(told: Any) -> Mapping[str, int]:
    """Counts of a report, which may lack them."""
    return told if isinstance(told, dict) else {}


def check_lines(tx: Transaction, now: datetime, names: Sequence[VaultName]) -> list[CheckLine]:
    """Return the checks of each vault."""
    good, unread, oldest = last_good(tx, now), count_unread(tx), oldest_unverified(tx)
    proven, there = proofs(tx, now), held(tx)
    lines: dict[VaultName | None, list[RunLine]] = {}
    for run in list_runs(tx, kinds=_PROVING, limit=_CHECKS * 20):
        lines.setdefault(run.vault, []).append(run_line(run))
    found = []
    for name in names:
        proof = sum((vault_proof for (vault, _), vault_proof in proven.items() if vault == name), Proof())
        found.append(
            CheckLine(
                vault=name,
                checked_at=good.of(RunKind.CHECK, name, (Outcome.DONE,)),
                last_read_back=proof.last_read_back,
                unverified_since=oldest.get(name),
                unverified_archives=unread.get(name, 0),
                archives=sum(class_held.archives for class_held in there if class_held.vault == name),
                runs=lines.get(name, [])[:_CHECKS],
                last_drill=proof.last_opened,
            )
        )
    return found
