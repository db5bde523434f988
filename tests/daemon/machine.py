"""A machine with a daemon on it, over as much time as wanted: it is off, sleeps, is cut, as events say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from backup.app.tasks.tasks import Task
from backup.app.tasks.times import LastRun
from backup.daemon.board import Board
from backup.daemon.executor import Executor
from backup.daemon.task_run import Done, TaskRun
from backup.errors import InterruptedRunError, VaultError
from backup.inventory.records.tasks import Pause
from backup.kinds import Outcome
from backup.model import JobName
from tests.support.daemons import Figures, MemoryBook

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
USUAL = 10 * MINUTE
"""How long a run takes, unless it is slow."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Event(Struct, frozen=True):
    """Something that happens to the machine from `begin` to `end`; `unset` is how long its clock is, then."""

    kind: str
    begin: datetime
    end: datetime
    unset: timedelta = timedelta()


@dataclass
class Attempt:
    """One attempt: when it began and ended, and how."""

    began: datetime
    ended: datetime | None = None
    outcome: str = "cut"


@dataclass
class Machine:
    """A machine with a daemon on it, over a year of real time."""

    of: Task
    events: Sequence[Event]
    real: datetime
    book: MemoryBook = field(default_factory=MemoryBook)
    attempts: list[Attempt] = field(default_factory=list)
    awake: float = 0.0  # the monotonic clock
    wrong_by: timedelta = timedelta()
    run: TaskRun | None = None
    ends: datetime | None = None

    def __post_init__(self) -> None:
        self.start()

    def now(self) -> datetime:
        return self.real + self.wrong_by

    def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nobody sleeps here, not {seconds} s")

    def start(self) -> None:
        """Begin a daemon with what the book has."""
        self.executor = Executor(self._work, self, monotonic=lambda: self.awake)
        self.executor.board = self.board = Board(
            [self.of],
            self.book,
            self,
            launch=self._launch,
            progress=lambda _: Figures(),
            monotonic=lambda: self.awake,
        )
        self.run = self.ends = None

    def _launch(self, run: TaskRun) -> None:
        self.board.record_begin(run)
        self.run = run
        slow = self.active("slow")
        self.ends = self.real + (slow.end - slow.begin if slow else USUAL)
        self.attempts.append(Attempt(self.real))
        self.book.ran(self.of, self.now(), Outcome.RUNNING)

    def _work(self, run: TaskRun) -> Done:
        attempt = self.attempts[-1]
        attempt.ended = self.real
        if run.stop.is_set():
            attempt.outcome = "interrupted"
            self._record(Outcome.INTERRUPTED)
            raise InterruptedRunError("asked to stop")
        away = [event for event in self.events if event.kind == "away"]
        if any(event.begin < self.real and event.end > attempt.began for event in away):
            attempt.outcome = "failed"
            self._record(Outcome.FAILED)
            raise VaultError("away")
        attempt.outcome = "done"
        self._record(Outcome.DONE)
        if self.active("cut after the end"):
            raise Cut
        return Done()

    def _record(self, outcome: Outcome) -> None:
        self.book.last[self.of.key] = LastRun(self.book.last[self.of.key].started_at, outcome)

    def active(self, *kinds: str) -> Event | None:
        here = [event for event in self.events if event.begin <= self.real < event.end]
        return next((event for event in here if event.kind in kinds), None)

    def live(self, until: datetime) -> None:
        """Let time pass."""
        done: set[Event] = set()
        while self.real < until:
            event = self.active("off", "kill", "stop", "sleep", "pause")
            if event is not None and event not in done:
                done.add(event)
                self._suffer(event)
                continue
            if self.ends is not None and self.ends <= self.real and self.run is not None:
                self._finish(self.run)
            self.board.look()
            self._pass(until)

    def _suffer(self, event: Event) -> None:
        if event.kind == "pause":
            name = JobName(self.of.name)
            self.book.pauses[name] = Pause(name, event.begin, event.end)
        elif event.kind == "sleep":
            if self.ends is not None:
                self.ends += event.end - self.real
            self.real = event.end
        else:
            if event.kind == "stop":
                self.board.stop()
                if self.run is not None:
                    self.executor.carry_out(self.run)
            self._begin_anew(event)

    def _begin_anew(self, event: Event) -> None:
        self.real = event.end
        self.wrong_by = EPOCH - self.real if event.unset else timedelta()
        self.start()
        while self.wrong_by and self.real < event.end + event.unset:
            self.board.look()
            assert self.run is None, "it ran by a clock that was not set"
            self.real += MINUTE
            self.awake += 60
        self.wrong_by = timedelta()

    def _finish(self, run: TaskRun) -> None:
        self.run = self.ends = None
        try:
            self.executor.carry_out(run)
        except Cut:
            event = self.active("cut after the end")
            assert event is not None
            self._begin_anew(event)

    def _pass(self, until: datetime) -> None:
        """Go to the next moment that matters: all else the board says itself."""
        line = self.board.lines()[0]
        bounds = [edge for event in self.events for edge in (event.begin, event.end) if edge > self.real]
        moments = [until, self.real + 9 * HOUR, *bounds[:1], *([self.ends] if self.ends else [])]
        if line.next_at is not None and self.run is None and not line.paused_until:
            moments.append(line.next_at)
        after = max(min(moments), self.real + MINUTE)
        after = datetime.fromtimestamp(-(-after.timestamp() // 60) * 60, UTC)  # ticks are on the full minute
        self.awake += (after - self.real).total_seconds()
        self.real = after


class Cut(BaseException):
    """The process ends."""


def able(machine: Machine, begin: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """The spans between two moments in which nothing kept the machine from working."""
    kept = [(event.begin, event.end + event.unset) for event in machine.events if event.kind != "slow"]
    kept += [(attempt.began, attempt.ended or attempt.began) for attempt in machine.attempts]
    if machine.run is not None:  # the year ends before it
        kept.append((machine.attempts[-1].began, machine.real))
    spans, since = [], begin
    for from_, to in sorted(kept):
        if from_ > since:
            spans.append((since, min(from_, end)))
        since = max(since, to)
    return [(a, b) for a, b in [*spans, (since, end)] if begin <= a < b <= end]
