"""The order of snapshots: by number within a job, whatever the clock showed; jobs are merged by time."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from backup.errors import UsageError
from backup.inventory.content import archives, snapshots
from backup.inventory.records import runs
from backup.inventory.records.runs import JobRow
from backup.inventory.store.database import Inventory
from backup.model import JobName, VaultName
from tests.support.doubles import START
from tests.support.made_up_inventories import snapshot


@pytest.fixture
def job(inventory: Inventory) -> JobRow:
    with inventory.writing() as tx:
        vault = archives.get_or_create_vault(tx, VaultName("v"))
        return runs.get_or_create_job(tx, JobName("job"), vault, b"j" * 16)


DAYS = st.integers(-20_000, 20_000)


def record(inventory: Inventory, job: JobRow, days: list[int], digit: str = "a") -> None:
    """Snapshots numbered from 1, each of that many days after the start."""
    with inventory.writing() as tx:
        for number, day in enumerate(days, 1):
            one = snapshot(job, number, f"{digit}{number:0>15}")
            began = START + timedelta(days=day)
            snapshots.record_snapshot(tx, replace(one, started_at=began, finished_at=began))


def numbers(inventory: Inventory, *words: str, at: datetime | None = None) -> list[int]:
    with inventory.reading() as tx:
        return [snapshots.find_snapshot(tx, word, at=at).number for word in words]


def test_latest_is_the_highest_number_after_a_clock_that_was_ahead(inventory: Inventory, job: JobRow) -> None:
    """One run of a clock that was 400 days ahead does not stay `latest` for as long."""
    record(inventory, job, [0, 1, 402, 3, 4])
    assert numbers(inventory, "latest", "latest~1", "latest~2", "latest~4") == [5, 4, 3, 1]
    with inventory.reading() as tx:
        assert [listed.number for listed in snapshots.list_snapshots(tx)] == [1, 2, 3, 4, 5]


def test_a_point_in_time_goes_by_the_times_that_snapshots_bear(inventory: Inventory, job: JobRow) -> None:
    """Of those that bear no later time, the one of the highest number."""
    record(inventory, job, [0, 1, 402, 3, 4])
    for day, number in ((0, 1), (2, 2), (3, 4), (5, 5), (500, 5)):
        assert numbers(inventory, "latest", at=START + timedelta(days=day)) == [number]
    with pytest.raises(UsageError, match="no snapshot as old"):
        numbers(inventory, "latest", at=START - timedelta(days=1))


def test_jobs_are_merged_by_time_and_one_that_was_ahead_stands_before_its_next(
    inventory: Inventory, job: JobRow
) -> None:
    record(inventory, job, [0, 402, 20])
    with inventory.writing() as tx:
        other = runs.get_or_create_job(tx, JobName("other"), job.vault, b"o" * 16)
    record(inventory, other, [10, 30], "b")
    with inventory.reading() as tx:
        found = [(listed.job == job.name, listed.number) for listed in snapshots.list_snapshots(tx)]
    assert found == [(True, 1), (False, 1), (True, 2), (True, 3), (False, 2)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(DAYS, max_size=6), min_size=1, max_size=3))
def test_whatever_the_clocks_showed_each_job_is_in_the_order_of_its_numbers(
    inventory: Inventory, job: JobRow, of_jobs: list[list[int]]
) -> None:
    """As a law; and where no clock was wrong, all are in the order of time."""
    with inventory.writing() as tx:
        tx.connection.execute("DELETE FROM snapshots")
    for place, days in enumerate(of_jobs):
        with inventory.writing() as tx:
            one = runs.get_or_create_job(tx, JobName(f"job-{place}"), job.vault, bytes([place]) * 16)
        record(inventory, one, days, "abc"[place])
    with inventory.reading() as tx:
        found = snapshots.list_snapshots(tx)
    for place, days in enumerate(of_jobs):
        assert [listed.number for listed in found if listed.job == f"job-{place}"] == list(
            range(1, len(days) + 1)
        )
    if all(days == sorted(days) for days in of_jobs):
        times = [listed.started_at for listed in found]
        assert times == sorted(times)
