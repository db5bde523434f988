"""Which attempts that broke off are made good by which run, and whether a run tells of a failure."""

from __future__ import annotations

from typing import Any

import pytest

from backup.inventory.records import attempts, runs
from backup.inventory.store.connections import Transaction
from backup.kinds import Outcome, RunKind
from backup.model import JobName
from tests.support.doubles import START
from tests.support.made_up_inventories import fresh_ledger

LISTS: dict[str, Any] = {"vault": "v", "compared": {}, "read": None}
SAMPLES: dict[str, Any] = {"vault": "v", "compared": None, "read": {}}
DRILL: dict[str, Any] = {"vault": "v", "drill": "d", "grade": "read back"}


def record(tx: Transaction, kind: RunKind, report: dict[str, Any], outcome: Outcome = Outcome.FAILED) -> int:
    runs.record_of_vault(tx, kind, outcome, report, START, START)
    return runs.newest_number(tx)


def test_what_broke_off_is_made_good_by_the_same_alone() -> None:
    with fresh_ledger() as ledger, ledger.inventory.writing() as tx:
        lists, samples = (record(tx, RunKind.CHECK, part | {"error": "away"}) for part in (LISTS, SAMPLES))
        drill = record(tx, RunKind.DRILL, DRILL | {"error": "away"})
        record(tx, RunKind.CHECK, LISTS | {"findings": {"missing": 1}})
        record(tx, RunKind.CHECK, LISTS | {"error": "stopped"}, Outcome.INTERRUPTED)
        assert attempts.failed_attempts(tx, RunKind.CHECK, LISTS) == [lists]
        assert attempts.failed_attempts(tx, RunKind.CHECK, SAMPLES) == [samples]
        assert attempts.failed_attempts(tx, RunKind.DRILL, DRILL) == [drill]
        for other in ({"vault": "w"}, {"drill": "e"}, {"grade": "opened"}):
            assert attempts.failed_attempts(tx, RunKind.DRILL, DRILL | other) == []
        assert attempts.failed_attempts(tx, RunKind.CHECK, LISTS | {"vault": "w"}) == []
        attempts.end_attempts(tx, [lists, drill])
        assert attempts.failed_attempts(tx, RunKind.CHECK, LISTS) == []
        assert attempts.failed_attempts(tx, RunKind.CHECK, SAMPLES) == [samples]
        found = runs.find_run(tx, lists)
        assert found is not None
        assert (found.outcome, found.report["error"]) == (Outcome.FAILED, "away"), "what was, stays"


@pytest.mark.parametrize(
    ("kind", "outcome", "vault", "tells"),
    [
        (RunKind.PRUNE, Outcome.FAILED, "v", True),
        (RunKind.PRUNE, Outcome.INTERRUPTED, "v", True),
        (RunKind.PRUNE, Outcome.DONE, "v", False),
        (RunKind.COMPACT, Outcome.FAILED, "v", False),
        (RunKind.PRUNE, Outcome.FAILED, "w", False),
    ],
)
def test_a_run_that_tells_of_a_failure(kind: RunKind, outcome: Outcome, vault: str, tells: bool) -> None:
    with fresh_ledger() as ledger, ledger.inventory.writing() as tx:
        before = record(tx, RunKind.PRUNE, {"vault": "v"})
        record(tx, kind, {"vault": vault}, outcome)
        found = attempts.tells_of_failure(tx, RunKind.PRUNE, {"vault": "v"}, None, after=before)
        assert found is tells


def test_a_run_of_another_job_tells_nothing() -> None:
    with fresh_ledger() as ledger, ledger.inventory.writing() as tx:
        runs.record_attempt(tx, RunKind.FORGET, ledger.job, Outcome.FAILED, {}, START, START)
        for name, tells in ((ledger.job.name, True), (JobName("other"), False)):
            assert attempts.tells_of_failure(tx, RunKind.FORGET, {}, name, after=0) is tells
