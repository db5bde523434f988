"""A law of frequent and rare schedules: after any gap a task runs in time, and never twice for one time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from backup.app.tasks.times import NEAR, Timing, begun, due_at, ended
from backup.inventory.records.tasks import TaskRow, TaskState
from backup.schedule import next_due, parse_schedule

MINUTE = timedelta(minutes=1)
BEGIN = datetime(2026, 3, 27, 22, 40, tzinfo=UTC)  # two days before clocks change in Europe
SCHEDULES = [
    "* * * * *", "*/5 * * * *", "*/10 * * * *", "*/15 * * * *", "0,30 * * * *", "0 * * * *", "10,50 * * * *",
    "*/20 8-18 * * 1-5", "0,20 2 * * *", "daily at 02:30", "30 */3 * * *", "0 2,14 * * *",
]  # fmt: skip


class Gap(Struct, frozen=True):
    """From `after` minutes since the last one nobody looks, for `lasts` minutes."""

    after: int
    lasts: int


gaps = st.builds(Gap, st.integers(1, 400), st.one_of(st.integers(1, 120), st.integers(100, 2000)))


class Life:
    """A task that is looked at every `tick` minutes, but for the gaps; each run takes `length` minutes."""

    def __init__(self, timing: Timing, tick: int, length: int) -> None:
        assert timing.schedule is not None
        self.timing, self.schedule, self.tick, self.length = timing, timing.schedule, tick, length
        self.row = TaskRow("backup", "job", BEGIN)
        self.now, self.began = BEGIN, list[datetime]()

    def look_until(self, end: datetime) -> None:
        """Look, and run when it is due."""
        while self.now < end:
            due = due_at(self.timing, self.row, None, self.now)
            if due is not None and due <= self.now:
                self.began.append(self.now)
                self.row = begun(self.timing, self.row, None, self.now)
                self.now += self.length * MINUTE
                self.row = ended(self.row, TaskState.DONE, self.now)
            self.now += self.tick * MINUTE

    def latest_after(self, moment: datetime) -> datetime:
        """When at last it must have run, if a time was missed before that moment."""
        coming = next_due(self.schedule, moment, moment)
        return max(moment + NEAR + MINUTE, coming + self.timing.jitter) + self.tick * MINUTE

    def has_missed(self, moment: datetime) -> bool:
        """Whether a time of the schedule came since it ran last."""
        since = self.began[-1] if self.began else BEGIN
        return next_due(self.schedule, since, moment) <= moment


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(SCHEDULES),
    st.sampled_from(["Europe/Berlin", "Australia/Lord_Howe", "UTC"]),
    st.sampled_from([0, 0, 3, 25, 90]),
    st.integers(1, 10),
    st.sampled_from([0, 1, 10, 45, 200]),
    st.lists(gaps, min_size=1, max_size=4),
)
@example("*/5 * * * *", "UTC", 0, 1, 0, [Gap(60, 45)])
@example("0,30 * * * *", "UTC", 0, 7, 45, [Gap(60, 31)])
@example("*/10 * * * *", "UTC", 25, 1, 1, [Gap(60, 50)])
def test_a_missed_time_is_made_up_for_in_time_and_once(
    words: str, zone: str, jitter: int, tick: int, length: int, happens: Sequence[Gap]
) -> None:
    schedule = parse_schedule(words, zone)
    life = Life(Timing(schedule, jitter * MINUTE, seed="host"), tick, length)
    for gap in happens:
        life.look_until(life.now + gap.after * MINUTE)
        life.now += gap.lasts * MINUTE
        woken, has_missed, before = life.now, life.has_missed(life.now), len(life.began)
        by = life.latest_after(woken)
        life.look_until(by + MINUTE)
        if has_missed:
            made_up = life.began[before:]
            assert made_up, f"did not run, woken at {woken}"
            assert made_up[0] <= by, f"ran at {made_up[0]}, and not by {by}"
    for first, other in pairwise(life.began):
        assert next_due(schedule, first, other) <= other, f"ran at {first} and {other} for one time"
