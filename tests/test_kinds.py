"""The table of kinds of runs: each line names what is there, and a recorded report is the one made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from backup.catalogs.report import BackupReport
from backup.checker.report import CheckFinding, CheckReport, ComparedList, ReadBack
from backup.copier.report import CopyReport
from backup.driller.report import DrillReport, Opened
from backup.inventory.records.old_runs import OldRuns
from backup.inventory.records.readings import Grade
from backup.inventory.records.runs import Run
from backup.inventory.store.states import StepStage
from backup.kinds import KINDS, Outcome, RunKind, load
from backup.locker.report import ExtendReport, Quote
from backup.model import JobName, SnapshotId, VaultName
from backup.pruner.compact import CompactReport
from backup.pruner.report import Group, PruneReport
from backup.reports import Fact, Report, recorded_facts, rows_of
from backup.restorer.report import RestoreReport

AT = datetime(2026, 11, 22, 3, 4, 5, 678, tzinfo=UTC)
COLD = VaultName("cold")
GROUP = Group(3, 2048, "grace", "in words", AT, AT, AT, Decimal("0.12"), Decimal("0.30"))
READ = ReadBack(2, 1, 3, 4096, stored_bytes=8192, never_read=4096)
REPORTS: dict[RunKind, list[Report]] = {
    RunKind.BACKUP: [
        BackupReport(
            job=JobName("main"),
            vault=COLD,
            run=7,
            snapshot=SnapshotId("0123456789abcdef"),
            outcome=Outcome.DONE,
            files=1234,
            bytes=4096,
            files_read=2,
            bytes_read=2048,
            bytes_new=1024,
            bytes_uploaded=512,
            archives=2,
            entries_added=3,
            entries_removed=0,
            seconds=1.5,
            recipients=["ab"],
            catalog="x",
            warnings=["odd"],
            recovery_line="line",
            older_packs={"packs": 1},
            files_again=3,
            shrunk=["it has lost"],
        ),
    ],
    RunKind.PRUNE: [
        PruneReport(StepStage.DONE, COLD),
        PruneReport(
            StepStage.DONE,
            COLD,
            condemned=GROUP,
            condemned_groups=[GROUP],
            taken_up=GROUP,
            deleted=GROUP,
            refused=[GROUP, Group(1, 1, detail="why")],
            waiting=[GROUP],
            deleted_elsewhere=2,
            dropped={"main": ["0123456789abcdef"]},
            old_runs=OldRuns(AT, 4, 5),
            recovery_lines={"main": "line"},
            warnings=["odd"],
        ),
    ],
    RunKind.RESTORE: [
        RestoreReport(
            "r1", "s1", b"/t", Outcome.DONE, 0, 3, files=4, bytes=2048, fetched=4096, warnings=["odd"]
        )
    ],
    RunKind.CHECK: [
        CheckReport(StepStage.DONE, COLD, compared=ComparedList(AT, 9, 8, 1, 0, 2)),
        CheckReport(
            StepStage.DONE, COLD, read=READ, findings=[CheckFinding("damaged", "a1", "not as it was")]
        ),
    ],
    RunKind.DRILL: [
        DrillReport(StepStage.DONE, "weekly", Grade.READ_BACK, COLD, "EUR", run=3, cost=123_456, read=READ),
        DrillReport(
            StepStage.DONE,
            "weekly",
            Grade.OPENED,
            COLD,
            "EUR",
            run=3,
            opened=Opened(4, 2048),
            findings=[CheckFinding("content", "/a", "differs")],
        ),
    ],
    RunKind.COMPACT: [
        CompactReport(COLD, False, 730),
        CompactReport(COLD, False, 730, 2, 4096, 12, 4084, Decimal("1.5"), AT, {"main": "line"}, ["odd"]),
    ],
    RunKind.COPY: [
        CopyReport(JobName("main"), COLD, VaultName("disk")),
        CopyReport(
            JobName("main"),
            COLD,
            VaultName("disk"),
            (SnapshotId("0123456789abcdef"),),
            3,
            4096,
            (SnapshotId("fedcba9876543210"),),
            ("pack 01 is not what was stored there",),
            ("odd",),
            "line",
        ),
    ],
    RunKind.EXTEND: [
        ExtendReport(COLD),
        ExtendReport(
            COLD,
            objects=7,
            due=3,
            extended=2,
            looked=1,
            until=AT,
            ends=AT,
            next=AT,
            idle=2,
            idle_until=AT,
            quote=Quote(7, 21, 256, Decimal("0.001"), Decimal("0.012")),
            missing=("data/1",),
            covered=("data/2",),
            covered_count=1,
            warnings=("odd",),
        ),
    ],
}


def facts(kind: RunKind, document: Mapping[str, object]) -> list[Fact]:
    """The facts of a run that was recorded with that document."""
    kept = json.loads(json.dumps(document))
    return recorded_facts(Run(1, kind, None, Outcome.DONE, AT, AT, None, kept), "EUR")


def test_each_kind_has_a_line() -> None:
    assert list(KINDS) == list(RunKind)
    assert {kind for kind, line in KINDS.items() if line.reports} == set(REPORTS)


def kept(report: Report) -> Mapping[str, object]:
    """What the record of a run keeps of its report."""
    return report.summary() if isinstance(report, (CheckReport, DrillReport)) else report.document()


@pytest.mark.parametrize("kind", [kind for kind in RunKind if KINDS[kind].operation])
def test_its_operation_is_there(kind: RunKind) -> None:
    assert load(KINDS[kind].operation).kind is kind


@pytest.mark.parametrize(
    ("kind", "report"), [(kind, each) for kind, all_ in REPORTS.items() for each in all_]
)
def test_a_recorded_report_says_what_it_said(kind: RunKind, report: Report) -> None:
    again = facts(kind, kept(report))
    assert rows_of(again) == rows_of(report.facts("EUR"))
    assert again == list(report.facts("EUR")) or isinstance(report, (CheckReport, DrillReport, RestoreReport))
    assert all(label and value for label, value in rows_of(again))


def test_a_backup_that_died_has_its_snapshot() -> None:
    document = {"snapshot": "0123456789abcdef", "recovered": True, "files": 3, "bytes": 2048}
    assert rows_of(facts(RunKind.BACKUP, document)) == [
        ("snapshot", "01234567"),
        ("holds", "3 files, 2.0 KiB"),
    ]


def test_what_failed_has_no_report() -> None:
    assert facts(RunKind.PRUNE, {"vault": "cold", "error": "why"}) == []
    assert facts(RunKind.MARK, {"added": ["tag"]}) == []
