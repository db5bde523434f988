"""The table of kinds of runs: each line names what is there, and a recorded report is the one made."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from msgspec import Struct

from backup.inventory.records.old_runs import OldRuns
from backup.inventory.records.runs import Outcome, Run, RunKind
from backup.inventory.store.states import StepStage
from backup.kinds import KINDS, load, report_of
from backup.model import VaultName
from backup.pruner.compact import CompactReport
from backup.pruner.report import Group, PruneReport
from backup.reports import Report, rows_of

AT = datetime(2026, 11, 22, 3, 4, 5, 678, tzinfo=UTC)
COLD = VaultName("cold")
GROUP = Group(3, 2048, "grace", "in words", AT, AT, AT, Decimal("0.12"), Decimal("0.30"))
REPORTS: dict[RunKind, list[Report]] = {
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
    RunKind.COMPACT: [
        CompactReport(COLD, False, 730),
        CompactReport(COLD, False, 730, 2, 4096, 12, 4084, Decimal("1.5"), AT, {"main": "line"}, ["odd"]),
    ],
}


def recorded(kind: RunKind, document: object) -> Run:
    return Run(1, kind, None, Outcome.DONE, AT, AT, None, dict(document))  # type: ignore[call-overload]


def test_each_kind_has_a_line() -> None:
    assert list(KINDS) == list(RunKind)
    assert {kind for kind, line in KINDS.items() if line.report} == set(REPORTS)


@pytest.mark.parametrize("kind", [kind for kind in RunKind if KINDS[kind].operation])
def test_its_operation_is_there(kind: RunKind) -> None:
    assert load(KINDS[kind].operation).kind is kind


@pytest.mark.parametrize(
    ("kind", "report"), [(kind, each) for kind, all_ in REPORTS.items() for each in all_]
)
def test_a_recorded_report_is_what_it_was(kind: RunKind, report: Report) -> None:
    assert isinstance(report, Struct)
    again = report_of(recorded(kind, report.document()))
    assert again is not None
    assert type(again) is load(KINDS[kind].report)
    assert again.document() == report.document()
    assert list(again.facts("EUR")) == list(report.facts("EUR"))
    assert all(label and value for label, value in rows_of(again, "EUR"))


def test_what_failed_has_no_report() -> None:
    assert report_of(recorded(RunKind.PRUNE, {"vault": "cold", "error": "why"})) is None
    assert report_of(recorded(RunKind.MARK, {"added": ["tag"]})) is None
