"""When a task is due, case by case: clocks that were ahead, attempts that go on, delays, what is counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backup.app.tasks.times import (
    MOST_CUTS,
    LastRun,
    Timing,
    begun,
    due_at,
    ended,
    found_at_start,
    retry_at,
)
from backup.inventory.records.tasks import TaskRow, TaskState
from backup.kinds import Outcome
from backup.schedule import CatchUp, parse_schedule

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MIDNIGHT = datetime(2026, 11, 24, tzinfo=UTC)
TWENTY_PAST_TWO = MIDNIGHT + 2 * HOUR + 20 * MINUTE
HALF_PAST_TWO = MIDNIGHT + 2 * HOUR + 30 * MINUTE


def timing(schedule: str = "daily at 02:30", **more: Any) -> Timing:
    return Timing(parse_schedule(schedule, "UTC"), **more)


def row(**more: Any) -> TaskRow:
    return TaskRow("backup", "main", **{"known_since": MIDNIGHT - 9 * DAY, **more})


def test_what_began_in_the_future_says_nothing_and_is_not_delayed() -> None:
    ahead = row(state=TaskState.DONE, began_at=TWENTY_PAST_TWO + DAY, ended_at=TWENTY_PAST_TWO + DAY)
    assert due_at(timing(jitter=HOUR), ahead, None, TWENTY_PAST_TWO) == TWENTY_PAST_TWO


def test_of_two_dates_the_one_that_can_be_right_counts() -> None:
    ahead = row(state=TaskState.DONE, began_at=TWENTY_PAST_TWO + DAY, ended_at=TWENTY_PAST_TWO + DAY)
    last = LastRun(MIDNIGHT, Outcome.DONE)
    assert due_at(timing(), ahead, last, TWENTY_PAST_TWO) == HALF_PAST_TWO


def test_a_task_that_is_known_since_a_day_to_come_waits_for_its_time() -> None:
    assert (
        due_at(timing(), row(known_since=MIDNIGHT + 9 * DAY), None, MIDNIGHT + 3 * HOUR)
        == HALF_PAST_TWO + DAY
    )


@pytest.mark.parametrize(
    ("state", "ago", "is_at_once"),
    [
        (TaskState.INTERRUPTED, 5 * MINUTE, True),
        (TaskState.INTERRUPTED, 3 * HOUR, False),
        (TaskState.WAITING, 5 * MINUTE, True),
        (TaskState.WAITING, 3 * HOUR, True),
    ],
)
def test_what_goes_on_waits_for_the_next_time_only_if_it_was_cut_off_long_ago(
    state: TaskState, ago: timedelta, is_at_once: bool
) -> None:
    began = TWENTY_PAST_TWO - ago
    cut = row(state=state, began_at=began, ended_at=began + MINUTE)
    due = due_at(timing(), cut, LastRun(began, None), TWENTY_PAST_TWO)
    assert due == (TWENTY_PAST_TWO if is_at_once else HALF_PAST_TWO)


def test_what_was_missed_is_not_left_to_the_next_time_while_one_may_still_be_delayed() -> None:
    """At 02:32 that of 02:00 may begin until 02:20, and be looked at for half an hour from then."""
    missed = row(state=TaskState.DONE, began_at=MIDNIGHT, ended_at=MIDNIGHT)
    now = MIDNIGHT + 2 * HOUR + 32 * MINUTE
    due = due_at(timing("0,40 * * * *", jitter=20 * MINUTE), missed, LastRun(MIDNIGHT), now)
    assert due is not None
    assert due <= now


def test_a_time_that_is_delayed_is_not_skipped_as_missed() -> None:
    yesterday = HALF_PAST_TWO - DAY
    done = row(state=TaskState.DONE, began_at=yesterday, ended_at=yesterday)
    late = timing(jitter=HOUR, catch_up=CatchUp.SKIP)
    due = due_at(late, done, LastRun(yesterday), HALF_PAST_TWO + 50 * MINUTE)
    assert due is not None
    assert HALF_PAST_TWO <= due <= HALF_PAST_TWO + HOUR
    assert due_at(late, done, LastRun(yesterday), HALF_PAST_TWO + 95 * MINUTE) != due


def test_a_retry_that_was_missed_is_skipped_where_missed_times_are() -> None:
    failed = row(state=TaskState.FAILED, began_at=MIDNIGHT, ended_at=MIDNIGHT, failures=1)
    for catch_up, expected in ((CatchUp.SKIP, None), (CatchUp.ONCE, MIDNIGHT + 10 * MINUTE)):
        times = timing(retry=(10 * MINUTE,), catch_up=catch_up)
        assert retry_at(times, failed, MIDNIGHT + 2 * HOUR) == expected
        assert retry_at(times, failed, MIDNIGHT + 30 * MINUTE) == MIDNIGHT + 10 * MINUTE


def test_a_run_by_hand_lets_the_next_attempt_count_from_0() -> None:
    cut = row(state=TaskState.INTERRUPTED, began_at=MIDNIGHT, ended_at=MIDNIGHT, failures=1, cuts=2)
    by_hand, now = LastRun(MIDNIGHT + HOUR, Outcome.DONE), HALF_PAST_TWO
    new = begun(timing(), cut, by_hand, now)
    assert (new.state, new.began_at, new.failures, new.cuts) == (TaskState.RUNNING, now, 0, 0)
    goes_on = begun(timing(), cut, LastRun(MIDNIGHT), now)
    assert (goes_on.failures, goes_on.cuts) == (1, 2)


@pytest.mark.parametrize(("state", "failures"), [(TaskState.FAILED, 2), (TaskState.DONE, 0)])
def test_without_a_schedule_failures_in_a_row_are_counted(state: TaskState, failures: int) -> None:
    asked = row(state=state, began_at=MIDNIGHT, ended_at=MIDNIGHT, failures=2)
    assert begun(Timing(None), asked, None, HALF_PAST_TWO).failures == failures


@pytest.mark.parametrize(
    ("state", "failures", "cuts"),
    [
        (TaskState.DONE, 0, 0),
        (TaskState.FAILED, 3, 0),
        (TaskState.CANCELLED, 2, 0),
        (TaskState.INTERRUPTED, 2, 1),
        (TaskState.WAITING, 2, 1),
    ],
)
def test_what_an_end_counts(state: TaskState, failures: int, cuts: int) -> None:
    end = ended(row(state=TaskState.RUNNING, began_at=MIDNIGHT, failures=2, cuts=1), state, HALF_PAST_TWO)
    assert (end.state, end.ended_at, end.failures, end.cuts) == (state, HALF_PAST_TWO, failures, cuts)


def test_a_run_before_it_says_nothing_of_an_attempt_that_was_cut_off() -> None:
    running = row(state=TaskState.RUNNING, began_at=HALF_PAST_TWO)
    for outcome in (Outcome.DONE, Outcome.FAILED):
        found = found_at_start(running, LastRun(MIDNIGHT, outcome), HALF_PAST_TWO + HOUR)
        assert (found.state, found.cuts) == (TaskState.INTERRUPTED, 1)
    assert found_at_start(running, LastRun(HALF_PAST_TWO, Outcome.DONE), HALF_PAST_TWO + HOUR).state == "done"


@pytest.mark.parametrize(
    ("began", "last"), [(MIDNIGHT, None), (MIDNIGHT + DAY, None), (MIDNIGHT, MIDNIGHT + DAY)]
)
def test_it_ends_no_earlier_than_it_began_whatever_the_clock_says(
    began: datetime, last: datetime | None
) -> None:
    """Else its own run would look like one that somebody did by hand since."""
    newest = None if last is None else LastRun(last)
    found = found_at_start(row(state=TaskState.RUNNING, began_at=began), newest, HALF_PAST_TWO)
    assert found.ended_at == max(began, last or began, HALF_PAST_TWO)


def test_what_is_cut_off_each_time_counts_as_a_failure() -> None:
    running = row(state=TaskState.RUNNING, began_at=MIDNIGHT, cuts=MOST_CUTS - 1)
    again = found_at_start(running, None, HALF_PAST_TWO)
    assert (again.state, again.cuts) == (TaskState.INTERRUPTED, MOST_CUTS)
    once_more = row(state=TaskState.RUNNING, began_at=MIDNIGHT, cuts=MOST_CUTS)
    assert found_at_start(once_more, None, HALF_PAST_TWO).state is TaskState.FAILED
