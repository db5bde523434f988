"""As many parts at once as make it faster: by simulated lines, and by threads at the gate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from backup.model import MIB
from backup.transfer.concurrency import LONGEST_WAIT, Concurrency, Gate, Throughput

LOOKS = st.builds(
    Throughput,
    sent=st.integers(0, 2**40),
    seconds=st.floats(1e-6, 1e6),
    troubles=st.sampled_from([0, 0, 0, 1, 7]),
)


class Link(Struct, frozen=True):
    """Each lane brings `lane` MiB a second, all together at most `line`; from `crowd` on requests fail."""

    lane: float
    line: float
    crowd: int = 1000

    def look(self, lanes: int) -> Throughput:
        """What a second with that many brings."""
        return Throughput(int(min(self.lane * lanes, self.line) * MIB), 1.0, int(lanes >= self.crowd))


def walked(lanes: Concurrency, link: Link, looks: int = 200) -> list[int]:
    seen = []
    for _ in range(looks):
        lanes = lanes.after(link.look(lanes.now))
        seen.append(lanes.now)
    return seen


@given(st.integers(1, 8), st.integers(0, 24), st.lists(LOOKS, max_size=60))
def test_they_stay_within_their_bounds(least: int, more: int, looks: list[Throughput]) -> None:
    lanes = Concurrency(now=least, most=least + more, least=least)
    for look in looks:
        before, lanes = lanes, lanes.after(look)
        assert least <= lanes.now <= least + more
        assert lanes.now <= before.now + 1
        assert 0 <= lanes.wait <= LONGEST_WAIT


@given(st.integers(1, 12), st.integers(1, 12), st.floats(0.5, 100))
def test_they_find_what_fills_the_line(begin: int, needed: int, lane: float) -> None:
    link = Link(lane, lane * needed)
    seen = walked(Concurrency(now=min(begin, 12), most=12), link)
    if begin <= needed:
        assert max(seen) <= needed + 1
        assert sorted(seen)[len(seen) // 2] == needed  # most of the time exactly
    else:
        assert max(seen) <= begin + 1  # too many to begin with do no harm: nothing pressed


@given(st.integers(2, 12))
def test_they_give_way_where_requests_fail(crowd: int) -> None:
    seen = walked(Concurrency(now=1, most=16), Link(1.0, 1000.0, crowd))
    assert max(seen) <= crowd
    above = sum(lanes >= crowd for lanes in seen[50:])
    assert above <= len(seen[50:]) / 4


def test_one_failure_halves_them_and_the_way_back_is_slow() -> None:
    lanes = Concurrency(now=8, most=8).after(Throughput(MIB, 1.0, troubles=1))
    assert lanes.now == 4
    assert walked(lanes, Link(1.0, 100.0), looks=3) == [4, 4, 4]
    assert max(walked(lanes, Link(1.0, 100.0), looks=30)) == 8


@given(st.integers(1, 20), st.lists(LOOKS, max_size=30))
def test_a_number_of_one_s_own_is_kept(number: int, looks: list[Throughput]) -> None:
    lanes = Concurrency.fixed(number)
    for look in looks:
        lanes = lanes.after(look)
        assert lanes.now == number


class Watch:
    """A clock that steps when it is told."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        """So many seconds after an hour."""
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def sleep(self, seconds: float) -> None:
        """Step."""
        self.seconds += seconds


class Crowd:
    """Threads that go through a gate, one step of the watch each; how many were inside at once."""

    def __init__(self, gate: Gate, threads: int, each: Callable[[int], None]) -> None:
        self.most = 0
        self._inside = 0
        self._lock = threading.Lock()
        self._gate = gate
        self._each = each
        workers = [threading.Thread(target=self._work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
            assert not worker.is_alive()

    def _work(self) -> None:
        for turn in range(20):
            with self._gate.passing(MIB):
                with self._lock:
                    self._inside += 1
                    self.most = max(self.most, self._inside)
                self._each(turn)
                with self._lock:
                    self._inside -= 1


def test_the_gate_lets_no_more_in() -> None:
    gate = Gate(Concurrency.fixed(3), Watch())
    crowd = Crowd(gate, 8, lambda _: time.sleep(0.001))
    assert crowd.most == 3


def test_the_gate_opens_wider_where_it_helps() -> None:
    watch = Watch()
    gate = Gate(Concurrency(now=1, most=4), watch)

    def pass_through(_turn: int) -> None:
        time.sleep(0.002)  # so that the others stand at the gate
        watch.sleep(1 / gate.lanes.now**2)  # more bring ever more

    crowd = Crowd(gate, 8, pass_through)
    assert crowd.most == 4
    assert gate.lanes.now == 4


def test_the_gate_closes_on_trouble() -> None:
    gate = Gate(Concurrency(now=4, most=4), Watch())
    with gate.passing(MIB):
        gate.trouble()
    assert gate.lanes.now == 2


def test_what_fails_leaves_the_gate() -> None:
    gate = Gate(Concurrency.fixed(1), Watch())
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), gate.passing(MIB):
            raise ZeroDivisionError
    with gate.passing(MIB):
        pass


def test_a_closed_gate_sends_away_those_who_wait() -> None:
    gate = Gate(Concurrency.fixed(1), Watch())

    def enter() -> None:
        with gate.passing(MIB):
            raise AssertionError("it is closed")

    with ThreadPoolExecutor(4) as threads, gate.passing(MIB):
        waiting = [threads.submit(enter) for _ in range(4)]
        gate.close()
        assert all(isinstance(future.exception(60), CancelledError) for future in waiting)


def test_a_clock_that_stands_still_decides_nothing() -> None:
    gate = Gate(Concurrency(now=2, most=4), Watch())
    Crowd(gate, 6, lambda _: None)
    assert gate.lanes.now == 2
