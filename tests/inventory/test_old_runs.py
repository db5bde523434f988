"""Without old runs no question has another answer than before, and all that nothing needs is gone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.inventory.content.snapshots import record_snapshot
from backup.inventory.records import runs
from backup.inventory.records.old_runs import ENOUGH_BACKUPS, OldRuns, find_old_runs, remove_old_runs
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.inventory.store.driver import insert_row
from backup.inventory.store.states import RestoreStage
from backup.inventory.store.times import micros
from backup.kinds import Outcome, RunKind
from backup.model import JobName, SnapshotId
from backup.retention.prune import DEFAULT_KEEP_RUNS
from backup.retention.unusual import NIGHTS
from tests.inventory.made_up_runs import DAY, KEEP, NOW, Row, answers, fill, numbers, plain
from tests.support import campaigns
from tests.support.doubles import PowerCut
from tests.support.made_up_inventories import Ledger, fresh_ledger, snapshot
from tests.support.sql_statements import listening_to_sql

HISTORIES = campaigns.share("NIGHTVAULT_HISTORIES", 60)


class Block(NamedTuple):
    """So many runs alike, of which only the first is needed by something."""

    row: Row
    times: int


ROWS = st.builds(
    Row,
    st.sampled_from(RunKind),
    st.integers(0, 1),
    st.sampled_from([*[Outcome.DONE] * 4, Outcome.PARTIAL, Outcome.FAILED, Outcome.RUNNING]),
    st.integers(0, 2),
    st.sampled_from([0, 1, 7, 40, 200]),
    st.sampled_from([0, 0, 0, 0, 30, 3_000, -3_000]),
    st.integers(0, 50),
    st.sampled_from(["", "snapshot", "archive", "reading", "message", "staged"]),
    st.sampled_from([0, 0, 0, 1, 40]),
)
BLOCKS = st.lists(st.builds(Block, ROWS, st.sampled_from([1, 2, 3, 30, 60])), min_size=1, max_size=14)


def expanded(blocks: Sequence[Block]) -> list[Row]:
    """All runs of the blocks."""
    return [
        block.row if number == 0 else block.row._replace(needed_by="", hours=block.row.hours // 2)
        for block in blocks
        for number in range(block.times)
    ]


@pytest.fixture(scope="module")
def ledger() -> Iterator[Ledger]:
    """An inventory with two jobs and two vaults."""
    with fresh_ledger() as made:
        with made.inventory.writing() as tx:
            runs.get_or_create_job(tx, JobName("other"), made.job.vault, b"o" * 16)
            insert_row(tx, "vaults", number=2, name="w")
            insert_row(tx, "directories", number=1, job=1, path=b"/")
        yield made


@settings(max_examples=HISTORIES, deadline=None)
@given(blocks=BLOCKS)
def test_no_answer_changes(ledger: Ledger, blocks: list[Block]) -> None:
    inventory, rows = ledger.inventory, expanded(blocks)
    with inventory.writing() as tx:
        fill(tx, ledger, rows)
    with inventory.reading() as tx:
        before, there = answers(tx, NOW), numbers(tx)
        plan = find_old_runs(tx, KEEP, NOW)
    done = remove_old_runs(inventory, KEEP, NOW)
    with inventory.reading() as tx:
        left = numbers(tx)
        assert answers(tx, NOW) == before
        assert answers(tx, NOW + DAY) is not None
        assert not list(tx.connection.execute("PRAGMA foreign_key_check"))
        again = find_old_runs(tx, KEEP, NOW)
    assert plan == done
    assert len(there - left) == done.runs
    assert (again.runs, again.restores) == (0, 0)
    recent = [
        number
        for number, began in began_by_number(rows).items()
        if micros(NOW - KEEP) <= micros(began) <= micros(NOW)
    ]
    assert {number for number in there if number >= min(recent, default=0)} <= left


def began_by_number(rows: Sequence[Row]) -> dict[int, datetime]:
    """When each run began, by its own clock."""
    at, found = NOW - timedelta(days=sum(row.pace for row in rows)), {}
    for number, row in enumerate(rows, 1):
        at += timedelta(days=row.pace)
        found[number] = at + timedelta(days=row.ahead)
    return found


def shortened(ledger: Ledger, rows: Sequence[Row], keep: timedelta = DEFAULT_KEEP_RUNS) -> list[int]:
    """What is left of these rows, by number."""
    with ledger.inventory.writing() as tx:
        fill(tx, ledger, rows)
    remove_old_runs(ledger.inventory, keep, NOW)
    with ledger.inventory.reading() as tx:
        return sorted(numbers(tx))


PACE = [plain(RunKind.MARK, 1)] * 400  # makes what is before old, and is nothing that anybody asks for
FAILED = Outcome.FAILED
HIDDEN: dict[str, list[Row]] = {
    "one drill's last good run is behind those of another": [
        plain(RunKind.DRILL, 1)._replace(sort=1),
        *[plain(RunKind.DRILL, 1)] * 3,
        *[plain(RunKind.DRILL, 1, outcome=FAILED)._replace(sort=1)] * 3,
    ],
    "a job's first backup failed": [plain(RunKind.BACKUP, 1, outcome=FAILED)] * 3
    + [plain(RunKind.BACKUP, 1)] * 50,
    "a backup was dated in the future": [plain(RunKind.BACKUP, 1)._replace(ahead=3_000)] * 3
    + [plain(RunKind.BACKUP, 1)] * 50,
    "the last good check by its date is not that by its number": [
        plain(RunKind.CHECK, 1)._replace(ahead=200),
        *[plain(RunKind.CHECK, 1)] * 3,
    ],
    "the longest backup was long ago": [plain(RunKind.BACKUP, 1)] * 3
    + [plain(RunKind.BACKUP, 1)._replace(hours=50)]
    + [plain(RunKind.BACKUP, 1)] * 50,
    "the newest fast restore is behind quick ones": [
        *[plain(RunKind.RESTORE, 1)._replace(sort=1)] * 2,
        *[plain(RunKind.RESTORE, 1)] * 19,
    ],
    "a policy was applied before people forgot by name": [
        *[plain(RunKind.FORGET, 1)] * 3,
        *[plain(RunKind.FORGET, 1)._replace(sort=1)] * 3,
    ],
    "drills that did not end": [
        *[plain(RunKind.DRILL, 1, outcome=Outcome.RUNNING)] * 3,
        *[plain(RunKind.DRILL, 1)] * 5,
    ],
    "a drill's cost is of a later month": [
        plain(RunKind.DRILL, 0)._replace(month=40),
        *[plain(RunKind.DRILL, 1)] * 3,
    ],
}


@pytest.mark.parametrize("rows", HIDDEN.values(), ids=HIDDEN)
def test_what_is_hidden_behind_newer_runs_stays(ledger: Ledger, rows: list[Row]) -> None:
    assert_no_answer_changes(ledger, [*rows, *PACE])


def test_after_a_year_without_a_backup_the_first_good_one_is_still_known(ledger: Ledger) -> None:
    old = [plain(RunKind.BACKUP, 1, outcome=FAILED), *[plain(RunKind.BACKUP, 1)] * 3]
    longer = plain(RunKind.BACKUP, 0)._replace(hours=2)
    assert_no_answer_changes(ledger, [*old, *PACE, *[longer] * (ENOUGH_BACKUPS + 5)])


def test_that_a_cost_of_a_later_month_is_over_is_still_seen(ledger: Ledger) -> None:
    dear = plain(RunKind.DRILL, 0)._replace(month=40)
    assert_no_answer_changes(ledger, [dear, *PACE, plain(RunKind.MARK, 100)])


def assert_no_answer_changes(ledger: Ledger, rows: Sequence[Row]) -> None:
    """Hundreds of runs go, and nobody notices."""
    with ledger.inventory.writing() as tx:
        fill(tx, ledger, rows)
        before = answers(tx, NOW)
    assert remove_old_runs(ledger.inventory, KEEP, NOW).runs > 300, "the marks, too"
    with ledger.inventory.reading() as tx:
        assert answers(tx, NOW) == before


@pytest.mark.parametrize("row", ["snapshot", "archive", "reading", "message", "staged"])
def test_a_run_that_a_row_refers_to_stays(ledger: Ledger, row: str) -> None:
    left = shortened(ledger, [plain(RunKind.MARK, 1)._replace(needed_by=row), *PACE, *PACE])
    assert left[0] == 1
    assert len(left) < 500


def test_of_five_years_of_nights_a_year_and_a_month_are_left(ledger: Ledger) -> None:
    left = shortened(ledger, [plain(RunKind.BACKUP, 1)] * 1_825)
    recent = set(range(1_825 - DEFAULT_KEEP_RUNS.days, 1_826))
    first, last_of_the_old = 1, min(recent) - 1
    assert set(left) == {*recent, first, last_of_the_old}


def test_of_a_backup_once_a_year_forty_are_left(ledger: Ledger) -> None:
    left = shortened(ledger, [plain(RunKind.BACKUP, 365)] * 60)
    assert left == [1, *range(61 - ENOUGH_BACKUPS, 61)]
    assert ENOUGH_BACKUPS > NIGHTS


def test_the_last_good_check_stays_behind_years_of_bad_ones(ledger: Ledger) -> None:
    bad = plain(RunKind.CHECK, 30, outcome=Outcome.FAILED)
    left = shortened(ledger, [plain(RunKind.CHECK, 30), bad, bad, plain(RunKind.CHECK, 30), *[bad] * 60])
    assert left[0] == 4
    assert len(left) < 20


def test_a_server_without_good_backups_is_shortened_too(ledger: Ledger) -> None:
    bad = plain(RunKind.BACKUP, 1, outcome=Outcome.FAILED)
    assert len(shortened(ledger, [bad] * 1_000)) < DEFAULT_KEEP_RUNS.days + 5


def test_a_clock_that_was_behind_makes_no_run_old(ledger: Ledger) -> None:
    wrong = plain(RunKind.CHECK, 1)._replace(ahead=-3_000)
    rows = [plain(RunKind.CHECK, 1), *[wrong] * 20, plain(RunKind.CHECK, 1)]
    assert shortened(ledger, rows) == list(range(1, 23))


def test_a_clock_that_was_ahead_keeps_nothing_for_ever(ledger: Ledger) -> None:
    wrong = plain(RunKind.CHECK, 1)._replace(ahead=30_000)
    left = shortened(ledger, [*[wrong] * 50, *[plain(RunKind.CHECK, 1)] * 1_000])
    assert len([number for number in left if number <= 50]) <= 1, "but for the one with the latest date"
    assert len(left) < DEFAULT_KEEP_RUNS.days + 5


def test_after_a_long_silence_nothing_goes(ledger: Ledger) -> None:
    rows = [plain(RunKind.CHECK, 1)] * 50
    with ledger.inventory.writing() as tx:
        fill(tx, ledger, rows)
    assert remove_old_runs(ledger.inventory, KEEP, NOW + 5_000 * DAY).runs == 0


def test_what_a_drill_spent_this_month_stays_whatever_its_age(ledger: Ledger) -> None:
    dear = plain(RunKind.DRILL, 1)._replace(month=30)  # by a clock that was ahead
    rows = [dear, *[plain(RunKind.DRILL, 30)] * 30, plain(RunKind.CHECK, 1)]
    left = shortened(ledger, rows)
    assert 1 in left
    assert len(left) < 20


def restored(tx: Transaction, number: int, began: datetime, ended: datetime | None) -> None:
    values = {"number": number, "id": str(number), "snapshot": "s", "vault": 1, "path": b"/", "target": b"/t"}
    values |= {"tier": "bulk", "created_at": micros(began), "finished_at": ended and micros(ended)}
    state = RestoreStage.OPEN if ended is None else RestoreStage.DONE
    insert_row(tx, "restores", **values, state=state)
    piece = {"restore": number, "archive": 1, "start": 0, "end": 1, "tier": "bulk", "token": f"r{number}"}
    insert_row(tx, "retrievals", **piece, state="fetched")


def test_restores_that_ended_long_ago_go_with_their_retrievals(ledger: Ledger) -> None:
    with ledger.inventory.writing() as tx:
        fill(tx, ledger, [plain(RunKind.BACKUP, 1)._replace(needed_by="archive")])
        record_snapshot(tx, snapshot(ledger.job, 9, SnapshotId("s")))
        restored(tx, 1, NOW - 500 * DAY, NOW - 499 * DAY)
        restored(tx, 2, NOW - 500 * DAY, None)
        restored(tx, 3, NOW - 500 * DAY, NOW - 3 * DAY)
    done = remove_old_runs(ledger.inventory, DEFAULT_KEEP_RUNS, NOW)
    assert done == OldRuns(NOW - DEFAULT_KEEP_RUNS, 0, 1)
    with ledger.inventory.reading() as tx:
        left = tx.connection.execute(
            "SELECT r.number, t.token FROM restores r JOIN retrievals t ON t.restore"
        )
        assert {number for number, _ in left} == {2, 3}


# Cuts, pages, statements.


@pytest.fixture
def filled() -> Iterator[Inventory]:
    """Twenty years of nights of one job, in an inventory of its own."""
    rows = [
        {"number": number, "kind": "backup", "job": 1, "outcome": "done", "report": '{"files": 12345678}'}
        | {"started_at": micros(NOW - (7_300 - number) * DAY), "finished_at": micros(NOW)}
        for number in range(1, 7_301)
    ]
    with fresh_ledger() as made:
        with made.inventory.writing() as tx:
            for row in rows:
                insert_row(tx, "runs", **row)
        yield made.inventory


def test_a_cut_between_two_batches_leaves_the_rest_to_the_next(filled: Inventory) -> None:
    batches = 0

    def cut(statement: str) -> None:
        nonlocal batches
        batches += statement.startswith("DELETE FROM runs")
        if batches == 2:
            raise PowerCut

    with listening_to_sql(cut), pytest.raises(PowerCut):
        remove_old_runs(filled, DEFAULT_KEEP_RUNS, NOW)
    with filled.reading() as tx:
        before, left = answers(tx, NOW), len(numbers(tx))
    assert DEFAULT_KEEP_RUNS.days + 5 < left < 7_300
    rest = remove_old_runs(filled, DEFAULT_KEEP_RUNS, NOW)
    with filled.reading() as tx:
        assert answers(tx, NOW) == before
        assert len(numbers(tx)) == left - rest.runs < DEFAULT_KEEP_RUNS.days + 5


def test_statements_by_batches_not_by_rows_and_pages_are_used_again(filled: Inventory) -> None:
    statements: list[str] = []

    with listening_to_sql(statements.append):
        assert remove_old_runs(filled, DEFAULT_KEEP_RUNS, NOW).runs > 6_800
    assert len([statement for statement in statements if statement.startswith("DELETE")]) == 4 * 3
    with filled.reading() as tx:
        pages = tx.connection.execute("PRAGMA page_count").fetchone()[0]
        assert tx.connection.execute("PRAGMA freelist_count").fetchone()[0] > pages / 2
    with filled.writing() as tx:
        row = {"kind": "check", "outcome": "done", "started_at": micros(NOW), "report": "{}"}
        for _ in range(2_000):
            insert_row(tx, "runs", **row)
    with filled.reading() as tx:
        assert tx.connection.execute("PRAGMA page_count").fetchone()[0] == pages
