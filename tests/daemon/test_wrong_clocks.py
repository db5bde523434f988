"""Clocks that were ahead or behind, and came back: jobs go on."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from backup.app.tasks.tasks import Task
from backup.daemon import ticks
from backup.daemon.board import Board
from backup.daemon.clock_gate import LONGEST as LONGEST_WAIT
from backup.daemon.executor import Executor
from backup.daemon.loop import Loop
from backup.daemon.task_run import Done, TaskRun
from backup.errors import LockedError, VaultError
from backup.kinds import Outcome
from backup.schedule import next_due, parse_schedule
from tests.support.daemons import Daemon, Figures, MemoryBook, task
from tests.support.doubles import ManualClock

AHEAD = timedelta(days=400)
TICK = timedelta(minutes=15)
LONGEST = {  # between two runs while the clock is right: a day may have 25 hours
    "daily at 02:30": timedelta(hours=25),
    "30 1 * * *": timedelta(hours=25),
    "15 2,14 * * *": timedelta(hours=13),
    "every 6h": timedelta(hours=6),
    "every 1d": timedelta(days=1),
}
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Chatham"]
# Days before and after which these zones change their clocks.
BEGINS = [
    datetime(2026, month, day, tzinfo=UTC) for month, day in ((3, 6), (3, 27), (10, 2), (10, 23), (10, 30))
]


@dataclass
class Bent:
    """A clock that shows what is so, and by how much it is wrong just now."""

    real: datetime
    wrong_by: timedelta = timedelta(0)

    def now(self) -> datetime:
        return self.real + self.wrong_by

    def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nobody sleeps here, not {seconds} s")


def watched(clock: Bent, of: Task) -> tuple[Daemon, list[datetime]]:
    """A daemon at work by that clock, and the real time of each run; seconds pass as they really do."""
    ran: list[datetime] = []
    began = clock.real

    def act(_: TaskRun) -> None:
        ran.append(clock.real)

    def since_begin() -> float:
        return (clock.real - began).total_seconds()

    return Daemon([of], clock, act, monotonic=since_begin), ran


class Jump(Struct, frozen=True):
    """For some hours of real time the clock is wrong by so much."""

    begins: timedelta
    lasts: timedelta
    by: timedelta


jumps = st.builds(
    Jump,
    st.integers(0, 6 * 96).map(lambda n: n * TICK),
    st.integers(1, 60).map(lambda n: n * TICK),
    st.one_of(
        st.sampled_from([AHEAD, -AHEAD, timedelta(days=3), timedelta(hours=-5), timedelta(days=20_000)]),
        st.integers(-3000, 3000).map(lambda minutes: timedelta(minutes=minutes)),
    ),
)


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(sorted(LONGEST)),
    st.sampled_from(ZONES),
    st.sampled_from(BEGINS),
    st.lists(jumps, max_size=3),
)
@example("daily at 02:30", "Europe/Berlin", BEGINS[1], [Jump(timedelta(hours=12), timedelta(hours=1), AHEAD)])
@example("every 6h", "UTC", BEGINS[1], [Jump(timedelta(hours=12), timedelta(hours=1), AHEAD)])
@example("daily at 02:30", "UTC", BEGINS[0], [Jump(timedelta(0), timedelta(hours=1), AHEAD)])
def test_over_days_with_a_clock_that_jumps_and_comes_back_a_job_is_run_as_often_as_ever(
    text: str, zone: str, begin: datetime, bent: list[Jump]
) -> None:
    """By real time no gap is longer than the schedule's, whatever the clock showed.

    But for the wait for a clock that is set, which has its end.
    """
    clock = Bent(begin)
    daemon, ran = watched(clock, task(name="nightly", schedule=text, zone=zone))
    longest = LONGEST[text] + TICK + timedelta(seconds=LONGEST_WAIT)
    right_since: datetime | None = begin
    for step in range(9 * 96):
        clock.real = begin + step * TICK
        shifts = [jump.by for jump in bent if jump.begins <= step * TICK < jump.begins + jump.lasts]
        clock.wrong_by = shifts[0] if shifts else timedelta(0)
        right_since = None if clock.wrong_by else right_since or clock.real
        daemon.look()
        if right_since is not None:
            since = max([right_since, *ran[-1:]])
            assert clock.real - since <= longest
    most = 9 * timedelta(days=1) / min(LONGEST[text], timedelta(days=1)) + 3
    assert len(ran) <= most + 2 * 60 * len(bent)
    few = [jump for jump in bent if jump.lasts <= timedelta(hours=1)]
    if few == bent:  # one more at its beginning, one more at its end, and what is due between
        assert len(ran) <= most + 6 * len(bent)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(sorted(LONGEST)), st.sampled_from(ZONES), st.sampled_from(BEGINS), st.integers(1, 10**9)
)
def test_a_last_run_that_is_still_to_come_is_due_now(
    text: str, zone: str, now: datetime, seconds: int
) -> None:
    schedule = parse_schedule(text, zone)
    assert next_due(schedule, now + timedelta(seconds=seconds), now) == now
    assert next_due(schedule, now, now) > now


def test_a_last_run_that_is_still_to_come_is_told(caplog: pytest.LogCaptureFixture) -> None:
    clock = Bent(BEGINS[0])
    of = task(name="nightly", schedule="daily at 02:30")
    daemon, ran = watched(clock, of)
    daemon.book.ran(of, clock.real + AHEAD)
    with caplog.at_level(logging.WARNING, "backup.daemon"):
        for _ in range(3):
            daemon.look()
            clock.real += TICK
    waits, given_up, message = caplog.messages
    assert "waiting for it to be set" in waits
    assert "is used as it is" in given_up
    assert message.startswith("job nightly: its last run began at 2027-04-10 00:00:00+00:00, which is ")
    assert len(ran) == 1


@pytest.mark.parametrize(("error", "tries"), [(VaultError("away"), 4), (LockedError("busy"), 239)])
def test_after_a_clock_that_was_ahead_a_run_without_a_record_is_not_tried_each_tick(
    error: Exception, tries: int
) -> None:
    """The record stays ahead as long as runs fail before they leave one of their own."""
    clock = Bent(BEGINS[0])
    of = task(name="nightly", schedule="daily at 02:30")
    daemon, ran = watched(clock, of)
    daemon.leaves_record = False
    daemon.book.ran(of, clock.real + AHEAD, Outcome.DONE)

    def fail(_: TaskRun) -> None:
        ran.append(clock.real)
        raise error

    daemon.act = fail
    for _ in range(240):
        daemon.look()
        clock.real += TICK
    assert len(ran) == tries


class Shifted(datetime):
    """What APScheduler and the daemon's own ticks take for the time."""

    by = timedelta(0)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Shifted:
        return super().now(tz) + cls.by


@pytest.mark.parametrize("by", [AHEAD, timedelta(days=30_000), timedelta(minutes=20)])
def test_the_ticks_themselves_come_back_with_the_clock(
    by: timedelta, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """APScheduler's next tick is not 400 days ahead; nor may it count each tick in between."""
    monkeypatch.setattr("apscheduler.schedulers.base.datetime", Shifted)
    monkeypatch.setattr("backup.app.base.clock.datetime", Shifted)
    monkeypatch.setattr(ticks, "TICK_SECONDS", 0.2)
    monkeypatch.setattr(ticks, "SLACK", timedelta(seconds=0.8))
    monkeypatch.setattr(Shifted, "by", timedelta(0))
    stop, began = threading.Event(), time.monotonic()
    ran: list[str] = []
    clock = ManualClock()

    def work(run: TaskRun) -> Done:
        ran.append(run.task.name)
        if len(ran) == 2:
            Shifted.by = by
        elif len(ran) == 4:
            Shifted.by = timedelta(0)
        elif len(ran) >= 6:
            stop.set()
        clock.advance(timedelta(hours=1))  # always due: this is about the ticks alone
        return Done()

    executor = Executor(work, clock)
    board = Board([task()], MemoryBook(), clock, launch=executor.launch, progress=lambda _: Figures())
    executor.board = board
    Loop(board, executor, stop, look_seconds=0.05).run()
    assert len(ran) >= 6
    assert time.monotonic() - began < 20
    assert [line for line in caplog.messages if "set back" in line]
