"""Limits: never more than allowed, all that is allowed, nobody starves; a body is paced only when sent."""

from __future__ import annotations

import heapq
import io
import itertools
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from backup.app.base.clock import SystemClock
from backup.errors import InterruptedRunError
from backup.model import KIB, MIB
from backup.vault.partbody import PartBody
from backup.vault.rate_limit import (
    LATE,
    SLICE,
    UNLIMITED,
    RateLimit,
    Timetable,
    Turns,
    Window,
    read_all,
    slices,
)
from tests.support.doubles import ManualClock

ALL_DAY = 24 * 60
LIMITS = st.integers(16 * KIB, 40 * MIB)
TOP = datetime(2026, 3, 4, 7, 59, 50, tzinfo=UTC)
"""Ten seconds before the windows of these tests change."""


class Passed(Struct, frozen=True):
    """So many bytes of a thread passed at this moment."""

    at: datetime
    thread: int
    size: int


def simulated(turns: Turns, idle: Sequence[float], seconds: float) -> list[Passed]:
    """Threads that ask for a megabyte again and again, each after its `idle` seconds, from TOP on.

    A discrete simulation: whoever was told to wait passes then, and asks again later.
    """
    asking = [(TOP, thread) for thread in range(len(idle))]
    passed, end = [], TOP + timedelta(seconds=seconds)
    while asking[0][0] < end:
        now, thread = heapq.heappop(asking)
        size, wait = turns.next(MIB, now)
        at = now + timedelta(seconds=wait)
        passed.append(Passed(at, thread, size))
        heapq.heappush(asking, (at + timedelta(seconds=idle[thread] + 1e-6), thread))
        if len(passed) > 600:  # enough seen of high limits
            break
    return sorted(passed, key=lambda piece: piece.at)


def allowed(before: int, after: int, start: datetime, end: datetime) -> float:
    """Bytes between two moments, when one limit follows another at eight o'clock."""
    eight = TOP + timedelta(seconds=10)
    early = max((min(end, eight) - start).total_seconds(), 0)
    late = max((end - max(start, eight)).total_seconds(), 0)
    return early * before + late * after


def slice_of(limit: int) -> int:
    """What passes at once: one begun before a limit changes may end after."""
    return min(SLICE, limit // 4)


def at_eight(before: int, after: int) -> Timetable:
    return Timetable([Window(7 * 60, 8 * 60, before), Window(8 * 60, 9 * 60, after)], UTC)


IDLE = st.lists(st.floats(0, 2), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(LIMITS, LIMITS, IDLE)
def test_no_stretch_of_time_sees_more_than_its_limits_allow(
    before: int, after: int, idle: list[float]
) -> None:
    passed = simulated(Turns(at_eight(before, after)), idle, 20)
    extra = slice_of(before) + slice_of(after) + LATE.total_seconds() * max(before, after)
    sums = [0, *itertools.accumulate(piece.size for piece in passed)]
    for first in range(0, len(passed), max(1, len(passed) // 20)):
        for last in range(first, len(passed)):
            size = sums[last + 1] - sums[first]
            assert size <= allowed(before, after, passed[first].at, passed[last].at) + extra + 1


@settings(max_examples=60, deadline=None)
@given(LIMITS, LIMITS, st.integers(1, 6))
def test_threads_that_are_always_ready_get_all_that_is_allowed(before: int, after: int, threads: int) -> None:
    passed = simulated(Turns(at_eight(before, after)), [0.0] * threads, 20)
    size = sum(piece.size for piece in passed)
    possible = allowed(before, after, passed[0].at, passed[-1].at)
    assert size >= possible - threads * SLICE - 0.3 * max(before, after)  # a slice of the slower limit is due


@settings(max_examples=40, deadline=None)
@given(LIMITS, st.integers(2, 6))
def test_nobody_starves(limit: int, threads: int) -> None:
    passed = simulated(Turns(Timetable([Window(0, 0, limit)], UTC)), [0.0] * threads, 5)
    got = [0] * threads
    for piece in passed:
        got[piece.thread] += piece.size
        assert max(got) - min(got) <= 2 * SLICE


@given(LIMITS, st.integers(1, 100 * MIB))
def test_a_pause_is_shorter_than_any_server_waits(limit: int, most: int) -> None:
    turns = Turns(Timetable([Window(0, 0, limit)], UTC))
    waits = [turns.next(most, TOP + timedelta(days=1)) for _ in range(5)]
    assert all(later[1] - sooner[1] <= 0.25 for sooner, later in itertools.pairwise(waits))
    assert all(1 <= size <= most for size, _ in waits)


def test_real_threads_share_a_limit() -> None:
    pace, got, lock = RateLimit(Timetable([Window(0, 0, MIB)]), SystemClock()), [0] * 4, threading.Lock()
    at_first_end: list[list[int]] = []

    def send(thread: int) -> None:
        while got[thread] < 4 * SLICE:
            size = pace.take(SLICE)
            with lock:
                got[thread] += size
        with lock:
            at_first_end.append(list(got))

    began = SystemClock().now()
    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = (SystemClock().now() - began).total_seconds()
    assert min(at_first_end[0]) >= SLICE  # nobody had all before another had some
    assert took >= (sum(got) - SLICE) / MIB - 2 * LATE.total_seconds()


def test_a_limit_that_begins_within_a_part_holds_for_the_rest() -> None:
    clock = ManualClock(TOP)
    pace = RateLimit(Timetable([Window(7 * 60, 8 * 60, MIB), Window(8 * 60, 9 * 60, 64 * KIB)], UTC), clock)
    at_change, sent = 0, 0
    for start, end in slices(11 * MIB, pace):
        if clock.now() <= TOP + timedelta(seconds=10):
            at_change = end
        sent += end - start
    assert sent == 11 * MIB
    assert at_change == pytest.approx(10 * MIB, abs=2 * SLICE + MIB * LATE.total_seconds())
    seconds = (clock.now() - TOP).total_seconds()
    assert seconds == pytest.approx(10 + (11 * MIB - at_change) / (64 * KIB), abs=1.5)


def test_a_limit_that_ends_within_a_part_ends_at_once() -> None:
    clock = ManualClock(TOP)
    pace = RateLimit(Timetable([Window(0, 8 * 60, 64 * KIB)], UTC), clock)
    assert sum(end - start for start, end in slices(100 * MIB, pace)) == 100 * MIB
    assert (clock.now() - TOP).total_seconds() == pytest.approx(10, abs=0.5)


def test_a_clock_set_back_stops_nobody() -> None:
    clock = ManualClock(TOP)
    pace = RateLimit(Timetable([Window(0, 0, 64 * KIB)], UTC), clock)
    pace.take(SLICE)
    clock.advance(-timedelta(hours=3))
    clock.slept.clear()
    for _ in range(4):
        pace.take(SLICE)
    assert sum(clock.slept) <= 1.0


# The timetable.


@given(
    st.integers(0, ALL_DAY - 1), st.integers(0, ALL_DAY - 1), st.integers(0, ALL_DAY - 1), st.integers(1, 9)
)
def test_a_window_holds_from_its_first_minute_until_before_its_last(
    start: int, end: int, minute: int, limit: int
) -> None:
    moment = datetime(2026, 3, 4, minute // 60, minute % 60, 59, tzinfo=UTC)
    length = (end - start) % ALL_DAY or ALL_DAY
    holds = (minute - start) % ALL_DAY < length
    assert Timetable([Window(start, end, limit)], UTC).limit_at(moment) == (limit if holds else None)


def test_the_lowest_of_two_limits_holds() -> None:
    both = Timetable([Window(0, 0, 5), Window(60, 120, 3), Window(60, 180, 9)], UTC)
    hour = timedelta(hours=1)
    midnight = datetime(2026, 3, 4, tzinfo=UTC)
    assert [both.limit_at(midnight + n * hour) for n in range(4)] == [5, 3, 5, 5]


def test_it_goes_by_the_clock_on_the_wall() -> None:
    office = Timetable([Window(8 * 60, 18 * 60, 1)], ZoneInfo("Europe/Berlin"))
    winter, summer = datetime(2026, 1, 5, 7, tzinfo=UTC), datetime(2026, 7, 6, 6, tzinfo=UTC)
    second = timedelta(seconds=1)
    assert [office.limit_at(winter - second), office.limit_at(winter)] == [None, 1]
    assert [office.limit_at(summer - second), office.limit_at(summer)] == [None, 1]


# Bodies.


def test_a_body_is_paced_once_it_is_sent_and_not_while_it_is_hashed() -> None:
    clock = ManualClock(TOP)
    body = PartBody(
        memoryview(bytes(range(256)) * KIB), b"", RateLimit(Timetable([Window(0, 0, 64 * KIB)]), clock)
    )
    assert len(body.read()) == 256 * KIB
    assert clock.slept == []
    body.seek(0)
    body.begin_sending()
    read = b"".join(bytes(piece) for piece in iter(lambda: body.read(16 * KIB), b""))
    assert read == bytes(range(256)) * KIB
    assert sum(clock.slept) == pytest.approx(4, abs=0.5)


@given(st.binary(max_size=300), st.integers(0, 400))
def test_an_answer_is_read_whole_whatever_its_length_was_thought_to_be(data: bytes, thought: int) -> None:
    pace = RateLimit(Timetable([Window(0, 0, 16 * KIB)]), ManualClock())
    assert read_all(io.BytesIO(data), pace, thought) == data
    assert read_all(io.BytesIO(data), UNLIMITED, thought) == data


def test_whoever_waits_can_be_stopped() -> None:
    stop = threading.Event()
    pace = RateLimit(Timetable([Window(0, 0, 64 * KIB)]), ManualClock(), stop.is_set)
    assert pace.take(SLICE) == 16 * KIB
    stop.set()
    with pytest.raises(InterruptedRunError):
        pace.take(SLICE)
