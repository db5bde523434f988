"""A daemon's board without threads, time or inventory: what is due is carried out at each look."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from backup.app.tasks.book import InventoryBook, Seen
from backup.app.tasks.tasks import Task, TaskKey
from backup.app.tasks.times import LastRun, Timing
from backup.config import Config
from backup.daemon.board import Board
from backup.daemon.executor import Executor
from backup.daemon.task_run import Done, TaskEnd, TaskRun, Watcher
from backup.inventory.records.tasks import Pause, TaskRow
from backup.kinds import Outcome, TaskKind
from backup.model import JobName, VaultName
from backup.protocols import Clock
from backup.reports import Report
from backup.schedule import parse_schedule
from tests.support.doubles import Silent

COLD = VaultName("cold")


class Figures(Silent):
    """A progress that has no figures to tell."""

    def document(self) -> Mapping[str, object] | None:
        """Nothing."""
        return None


def task(
    kind: TaskKind = TaskKind.BACKUP,
    name: str = "hourly",
    schedule: str = "every 1h",
    zone: str = "UTC",
    vault: VaultName = COLD,
    number: int = 0,
    **timing: object,
) -> Task:
    """A task with that schedule."""
    times = Timing(parse_schedule(schedule, zone), **timing)  # type: ignore[arg-type]
    return Task(kind, name, vault, times, number)


@dataclass
class MemoryBook:
    """A book in memory: what it holds is what survives a restart."""

    rows: dict[TaskKey, TaskRow] = field(default_factory=dict)
    last: dict[TaskKey, LastRun] = field(default_factory=dict)
    pauses: dict[JobName, Pause] = field(default_factory=dict)
    newest: datetime | None = None
    error: Exception | None = None
    requests: set[TaskKey] = field(default_factory=set)
    rebuilt_since: datetime | None = None

    def read(self, tasks: Sequence[Task]) -> Seen:
        """What it holds."""
        if self.error is not None:
            raise self.error
        return Seen(
            dict(self.rows),
            dict(self.last),
            dict(self.pauses),
            self.newest,
            frozenset(self.requests),
            None if self.rows else self.rebuilt_since,
        )

    def write(
        self, *changed: TaskRow, asked: Collection[TaskKey] = (), answered: Collection[TaskKey] = ()
    ) -> None:
        """Hold these."""
        for row in changed:
            self.rows[row.kind, row.name] = row
        self.requests |= set(asked)
        self.requests -= set(answered)

    def ran(self, of: Task, at: datetime, outcome: Outcome = Outcome.DONE) -> None:
        """Note a run as the inventory has it."""
        self.last[of.key], self.newest = LastRun(at, outcome), at


@dataclass
class Daemon:
    """A board that carries out each run in the call that begins it; every run is remembered with its time.

    `act` is what the work does; the run is noted in the book as the inventory would, unless `leaves_record`
    is false.
    """

    tasks: Sequence[Task]
    clock: Clock
    act: Callable[[TaskRun], object] = lambda _: None
    book: MemoryBook = field(default_factory=MemoryBook)
    watchers: Sequence[Watcher] = ()
    monotonic: Callable[[], float] | None = None
    ran: list[str] = field(default_factory=list)
    leaves_record: bool = True
    report: Report | None = None

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begin anew with the same book, as after a restart."""
        began = self.clock.now()

        def since_begin() -> float:
            return (self.clock.now() - began).total_seconds()

        ticking = self.monotonic or since_begin
        executor = Executor(self._work, self.clock, self.watchers, monotonic=ticking)
        executor.board = self.board = Board(
            self.tasks,
            self.book,
            self.clock,
            launch=executor.carry_out,
            progress=lambda _: Figures(),
            monotonic=ticking,
        )

    def look(self) -> None:
        """Do what is due."""
        self.board.look()

    def _work(self, run: TaskRun) -> Done:
        self.ran.append(run.task.name)
        if self.leaves_record:
            self.book.ran(run.task, self.clock.now(), Outcome.RUNNING)
        waits = str(self.act(run) or "")
        if self.leaves_record and not waits:
            self.book.last[run.task.key] = LastRun(self.book.last[run.task.key].started_at, Outcome.DONE)
        return Done(self.report, waits)


@dataclass
class Ends:
    """A watcher that remembers what it was told."""

    told: list[tuple[str, TaskEnd | None]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def began(self, run: TaskRun) -> None:
        """Remember it."""
        with self.lock:
            self.told.append((str(run.task), None))

    def ended(self, run: TaskRun, end: TaskEnd) -> None:
        """Remember it."""
        with self.lock:
            self.told.append((str(run.task), end))


def last_start(config: Config, kind: TaskKind, name: str) -> datetime | None:
    """When the newest run began that did what such a task does, by the inventory."""
    of = Task(kind, name, COLD, Timing(parse_schedule("daily", "UTC")))
    found = InventoryBook(config).read([of]).last.get(of.key)
    return None if found is None else found.started_at


def minutes(count: float) -> timedelta:
    """A span."""
    return timedelta(minutes=count)
