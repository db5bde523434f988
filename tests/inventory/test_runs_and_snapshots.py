"""Numbers that are given once, runs and their ends, snapshots found by what people type."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from backup.errors import UsageError
from backup.inventory.content import archives, snapshots
from backup.inventory.content.numbers import NumberSupply, reserve
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.records import amendments, runs
from backup.inventory.records.runs import JobRow
from backup.inventory.store.database import Inventory
from backup.inventory.store.times import micros, moment
from backup.kinds import Outcome
from backup.model import JobName, Problem, ProblemKind, VaultName
from tests.support.doubles import START
from tests.support.made_up_inventories import snapshot


@pytest.fixture
def job(inventory: Inventory) -> JobRow:
    with inventory.writing() as tx:
        vault = archives.get_or_create_vault(tx, VaultName("v"))
        return runs.get_or_create_job(tx, JobName("job"), vault, b"j" * 16)


class TestNumbers:
    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(takes=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=6))
    def test_none_is_given_twice_whoever_dies_in_between(
        self, inventory: Inventory, takes: list[tuple[int, int]]
    ) -> None:
        given_out: list[int] = []
        for count, block in takes:
            supply = NumberSupply(inventory, "entries", block)  # a new one each time: the old process died
            given_out.extend(supply.take() for _ in range(count))
        assert len(given_out) == len(set(given_out))
        assert given_out == sorted(given_out)

    @pytest.mark.parametrize("times", [1, 3, 50])
    def test_none_is_given_twice_if_they_are_reserved_ahead(self, inventory: Inventory, times: int) -> None:
        """By another thread, from the third block on; a single one is never reserved in vain."""
        asked: list[Future[range]] = []

        def ahead(reserve_block: Callable[[], range]) -> Future[range]:
            asked.append(threads.submit(reserve_block))
            return asked[-1]

        with ThreadPoolExecutor(1) as threads:
            supply = NumberSupply(inventory, "entries", 4, ahead=ahead)
            given_out = [number for _ in range(times) for number in (*supply.take_many(3), supply.take())]
        assert given_out == list(range(1, 4 * times + 1))
        assert bool(asked) == (times > 1)
        with inventory.writing() as tx:
            assert reserve(tx, "entries", 1) > given_out[-1]

    def test_what_is_undone_was_never_given(self, inventory: Inventory) -> None:
        with pytest.raises(KeyError), inventory.writing() as tx:
            raise KeyError(reserve(tx, "chunks", 10))
        with inventory.writing() as tx:
            assert reserve(tx, "chunks", 10) == 1
            assert reserve(tx, "chunks", 1) == 11
            assert reserve(tx, "entries", 1) == 1

    def test_snapshot_and_catalog_numbers_are_the_job_s_own(self, inventory: Inventory, job: JobRow) -> None:
        with inventory.writing() as tx:
            other = runs.get_or_create_job(tx, JobName("other"), job.vault, b"o" * 16)
            assert [runs.open_backup(tx, job, START).snapshot_number for _ in range(3)] == [1, 2, 3]
            assert runs.open_backup(tx, other, START).snapshot_number == 1
            assert [runs.allot_catalog(tx, job) for _ in range(3)] == [1, 2, 3]
            assert runs.allot_catalog(tx, other) == 1
            assert runs.open_restore(tx, job, START).snapshot_number is None


class TestRuns:
    def test_a_job_keeps_id_and_vault(self, inventory: Inventory, job: JobRow) -> None:
        with inventory.writing() as tx:
            assert runs.get_or_create_job(tx, job.name, 99, b"x" * 16) == job
            assert runs.find_job(tx, JobName("unknown")) is None

    def test_begins_and_ends(self, inventory: Inventory, job: JobRow) -> None:
        later = START + timedelta(seconds=90)
        with inventory.writing() as tx:
            run = runs.open_backup(tx, job, START)
            assert runs.last_backup(tx, job.name) == run
            runs.finish_run(tx, run.number, Outcome.PARTIAL, {"files": 3}, later)
            done = runs.last_backup(tx, job.name)
        assert done is not None
        assert (done.outcome, done.started_at, done.finished_at, done.report) == (
            Outcome.PARTIAL,
            START,
            later,
            {"files": 3},
        )

    def test_lists_newest_first(self, inventory: Inventory, job: JobRow) -> None:
        with inventory.writing() as tx:
            numbers = [runs.open_backup(tx, job, START).number for _ in range(3)]
            restore = runs.open_restore(tx, None, START).number
            assert [run.number for run in runs.list_runs(tx)] == [restore, *reversed(numbers)]
            assert [run.number for run in runs.list_runs(tx, limit=1)] == [restore]
            assert [run.number for run in runs.list_runs(tx, job=job.name)] == numbers[::-1]
            newest = runs.last_backup(tx, job.name)
        assert newest is not None
        assert newest.number == numbers[-1]

    def test_unfinished_commits_are_those_before_ours(self, inventory: Inventory, job: JobRow) -> None:
        with inventory.writing() as tx:
            first, second, third = (runs.open_backup(tx, job, START) for _ in range(3))
            runs.open_restore(tx, job, START)
            runs.finish_run(tx, first.number, Outcome.DONE, {}, START)
            runs.prepare(tx, second.number, b"prepared")
            found = amendments.unfinished_commits(tx, job.vault, before=third.number)
            assert [(run.number, row, prepared) for run, row, prepared in found] == [
                (second.number, job, b"prepared")
            ]
            assert amendments.unfinished_commits(tx, job.vault + 1, before=third.number) == []

    @given(st.datetimes(START.replace(tzinfo=None) - timedelta(days=50_000), datetime(9999, 12, 30)))  # noqa: DTZ001
    def test_times_keep_their_microseconds(self, naive: object) -> None:
        when = naive.replace(tzinfo=START.tzinfo)  # type: ignore[attr-defined]
        assert moment(micros(when)) == when


class TestSnapshots:
    @pytest.fixture
    def kept(self, inventory: Inventory, job: JobRow) -> list[Snapshot]:
        found = [
            snapshot(job, number, f"{digits:0<16}")
            for number, digits in ((1, "abc1"), (2, "abc2"), (4, "1234"))
        ]
        with inventory.writing() as tx:
            for made in found:
                snapshots.record_snapshot(tx, made)
        return found

    def test_come_back_as_they_went_in(self, inventory: Inventory, kept: list[Snapshot]) -> None:
        with inventory.reading() as tx:
            assert snapshots.list_snapshots(tx) == kept
            assert snapshots.list_snapshots(tx, job=JobName("other")) == []

    def test_problems_by_run(self, inventory: Inventory, job: JobRow) -> None:
        met = (Problem(b"/odd\xff", ProblemKind.UNREADABLE, "Permission denied"),)
        with inventory.writing() as tx:
            first, second, third, fourth = (runs.open_backup(tx, job, START).number for _ in range(4))
            for number, run, problems in ((1, first, met), (2, second, met), (3, fourth, ())):
                made = snapshot(job, number, f"{number:0>16}")
                snapshots.record_snapshot(tx, replace(made, run=run, problems=problems))
        with inventory.reading() as tx:
            assert snapshots.problems_of_runs(tx, [fourth, third, first]) == {first: met, fourth: ()}
            assert snapshots.problems_of_runs(tx, []) == {}

    @pytest.mark.parametrize(
        ("words", "place"),
        [
            ("latest", 2),
            ("latest~0", 2),
            ("latest~2", 0),
            ("abc1", 0),
            ("ABC2", 1),
            ("1", 2),
            ("abc2000000000000", 1),
        ],
    )
    def test_are_found(self, inventory: Inventory, kept: list[Snapshot], words: str, place: int) -> None:
        with inventory.reading() as tx:
            assert snapshots.find_snapshot(tx, words) == kept[place]

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            ("abc", "several"),
            ("f", "no snapshot"),
            ("", "no snapshot"),
            ("latest~3", "there are 3"),
            ("latest~", "no"),
        ],
    )
    def test_are_not_found(self, inventory: Inventory, kept: list[Snapshot], words: str, says: str) -> None:
        with inventory.reading() as tx, pytest.raises(UsageError, match=says):
            snapshots.find_snapshot(tx, words)

    def test_latest_of_several_jobs_needs_a_job(
        self, inventory: Inventory, kept: list[Snapshot], job: JobRow
    ) -> None:
        with inventory.writing() as tx:
            other = runs.get_or_create_job(tx, JobName("other"), job.vault, b"o" * 16)
            theirs = snapshot(other, 1, "f" * 16)
            snapshots.record_snapshot(tx, theirs)
            with pytest.raises(UsageError, match="of which job"):
                snapshots.find_snapshot(tx, "latest")
            assert snapshots.find_snapshot(tx, "latest", job=other.name) == theirs
            assert snapshots.find_snapshot(tx, "latest", job=job.name) == kept[-1]
