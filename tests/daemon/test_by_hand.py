"""What a person asks the board for is done once, whatever else goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from backup.app.task_book import Seen
from backup.app.task_times import Timing
from backup.app.tasks import Task, TaskKind
from backup.daemon.task_run import TaskRun
from backup.daemon.verbs import Verbs
from backup.errors import DaemonAwayError, LockedError, UsageError
from backup.inventory.tasks import Pause, TaskRow, TaskState
from backup.model import JobName
from tests.support.daemons import COLD, Daemon, MemoryBook, minutes, task
from tests.support.doubles import ManualClock

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
NIGHTLY = task(name="nightly", schedule="daily at 02:30")
UNSCHEDULED = Task(TaskKind.BACKUP, "rare", COLD, Timing(None))


def finds_another(daemon: Daemon, times: int) -> None:
    """Another process holds the lock of backups the first so many times."""
    left = [times]

    def act(_: TaskRun) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise LockedError("another backup is running")

    daemon.act = act


def go(daemon: Daemon, ticks: int) -> None:
    assert isinstance(daemon.clock, ManualClock)
    for _ in range(ticks):
        daemon.look()
        daemon.clock.advance(minutes(1))


def state(daemon: Daemon, name: str) -> str:
    """As `status` shows it."""
    config = None  # `status` asks it nothing
    tasks = Verbs(config, daemon.board, daemon.clock).status({})["tasks"]  # type: ignore[arg-type]
    return next(str(one["state"]) for one in tasks if one["name"] == name)


@pytest.mark.parametrize("of", [NIGHTLY, UNSCHEDULED], ids=["with a schedule", "without"])
@pytest.mark.parametrize("is_paused", [False, True])
def test_a_run_by_hand_that_finds_another_backup_waits_and_is_not_lost(of: Task, is_paused: bool) -> None:
    daemon = Daemon([of], ManualClock(NOON), leaves_record=False)
    if is_paused:
        daemon.book.pauses[JobName(of.name)] = Pause(JobName(of.name), NOON, NOON + minutes(200))
    finds_another(daemon, 2)
    daemon.look()
    assert daemon.board.put(of.key)
    assert state(daemon, of.name) == "waiting"
    go(daemon, 60)
    assert len(daemon.ran) == 3, "twice in vain, and then once"
    assert state(daemon, of.name) == ("paused" if is_paused else "idle")


def test_a_run_by_hand_goes_before_others_although_its_schedule_had_queued_it() -> None:
    first, second, third = (task(name=name, number=n) for n, name in enumerate("abc"))
    daemon = Daemon([first, second, third], ManualClock(NOON))
    asked: list[bool] = []

    def act(run: TaskRun) -> None:
        if run.task == first:
            asked.extend(daemon.board.put(third.key) for _ in range(2))

    daemon.act = act
    daemon.look()
    assert daemon.ran == ["a", "c", "b"]
    assert asked == [True, False]


def test_what_waited_for_another_backup_that_did_its_work_waits_no_more() -> None:
    clock = ManualClock(datetime(2026, 11, 24, 2, 30, tzinfo=UTC))
    daemon = Daemon([NIGHTLY], clock, leaves_record=False)
    daemon.book.ran(NIGHTLY, clock.now() - minutes(24 * 60))
    finds_another(daemon, 1)
    daemon.look()
    assert state(daemon, "nightly") == "waiting"
    daemon.book.ran(NIGHTLY, clock.now())  # by hand, in the other process
    go(daemon, 3)
    assert daemon.ran == ["nightly"]
    assert state(daemon, "nightly") == "idle"


def test_a_run_that_was_cancelled_and_hangs_does_not_go_on_after_a_restart() -> None:
    class Cut(BaseException):
        """The end of the process."""

    daemon = Daemon([NIGHTLY], ManualClock(NOON), leaves_record=False)
    daemon.book.ran(NIGHTLY, NOON - minutes(5 * 24 * 60))

    def act(_: TaskRun) -> None:
        Verbs(None, daemon.board, daemon.clock).cancel({"run": "nightly"})  # type: ignore[arg-type]
        raise Cut

    daemon.act = act
    with pytest.raises(Cut):
        daemon.look()
    daemon.start()
    go(daemon, 60)
    assert daemon.ran == ["nightly"]
    assert daemon.book.rows[NIGHTLY.key].state is TaskState.CANCELLED


def test_what_was_asked_for_and_has_not_begun_is_taken_back() -> None:
    daemon = Daemon([NIGHTLY], ManualClock(NOON), leaves_record=False)
    finds_another(daemon, 2)
    daemon.look()
    daemon.board.put(NIGHTLY.key)
    verbs = Verbs(None, daemon.board, daemon.clock)  # type: ignore[arg-type]
    assert verbs.cancel({"run": "nightly"}) == {"run": None, "number": None, "task": "job nightly"}
    assert state(daemon, "nightly") == "idle"
    go(daemon, 10)
    assert daemon.ran == ["nightly"]
    with pytest.raises(UsageError, match="no run is named"):
        verbs.cancel({"run": "nightly"})


def test_what_waits_is_told_to_wait_when_it_is_to_be_cancelled() -> None:
    """It is among what `status` shows; that nothing runs would help nobody."""
    daemon = Daemon([NIGHTLY], ManualClock(NOON), leaves_record=False)
    daemon.book.ran(NIGHTLY, NOON - minutes(5 * 24 * 60))
    finds_another(daemon, 2)
    daemon.look()
    assert state(daemon, "nightly") == "waiting"
    with pytest.raises(UsageError, match="job nightly does not run: it waits: another"):
        Verbs(None, daemon.board, daemon.clock).cancel({"run": "nightly"})  # type: ignore[arg-type]


def test_nothing_is_promised_after_a_stop() -> None:
    daemon = Daemon([NIGHTLY], ManualClock(NOON))
    daemon.look()
    daemon.board.stop()
    with pytest.raises(DaemonAwayError, match="stopping"):
        daemon.board.put(NIGHTLY.key)


@dataclass
class Slow(MemoryBook):
    """A book in which something happens while somebody reads it."""

    meanwhile: list[Callable[[], None]] = field(default_factory=list)

    def read(self, tasks: Sequence[Task]) -> Seen:
        seen = super().read(tasks)
        kept = {one.key for one in tasks}
        seen = Seen(seen.rows, {key: last for key, last in seen.last.items() if key in kept}, seen.pauses)
        if self.meanwhile:
            self.meanwhile.pop()()
        return seen


def test_a_job_that_a_reload_brings_while_the_book_is_read_is_not_taken_for_one_that_never_ran() -> None:
    book, new = Slow(), task(name="new")
    daemon = Daemon([NIGHTLY], ManualClock(NOON), book=book)
    book.ran(new, NOON - minutes(5))  # it is due in 55 minutes
    book.rows[new.key] = TaskRow("backup", "new", NOON - minutes(900))
    book.meanwhile.append(lambda: daemon.board.replace([NIGHTLY, new], MemoryBook(book.rows, book.last)))
    daemon.look()
    assert daemon.ran == []


def test_what_was_asked_for_and_has_not_begun_is_done_after_a_restart() -> None:
    clock = ManualClock(NOON)
    other = task(name="other")
    daemon = Daemon([other, UNSCHEDULED], clock)

    def act(run: TaskRun) -> None:
        if run.task == other and not daemon.book.requests:
            assert daemon.board.put(UNSCHEDULED.key)
            daemon.board.stop()

    daemon.act = act
    daemon.look()
    assert daemon.ran == ["other"]
    assert daemon.book.requests == {UNSCHEDULED.key}
    daemon.start()
    daemon.look()
    assert daemon.ran == ["other", "rare"]
    assert daemon.book.requests == set()
    daemon.start()
    go(daemon, 5)
    assert daemon.ran == ["other", "rare"], "once"


def test_what_was_asked_for_and_finds_another_backup_outlives_a_restart() -> None:
    daemon = Daemon([UNSCHEDULED], ManualClock(NOON), leaves_record=False)
    finds_another(daemon, 1)
    daemon.look()
    assert daemon.board.put(UNSCHEDULED.key)
    assert daemon.book.requests == {UNSCHEDULED.key}
    daemon.start()
    go(daemon, 5)
    assert (len(daemon.ran), daemon.book.requests) == (2, set())


def test_what_was_taken_back_or_has_no_job_any_more_is_not_done_after_a_restart() -> None:
    first = task(name="first")
    daemon = Daemon([first, NIGHTLY, UNSCHEDULED], ManualClock(NOON))

    def act(run: TaskRun) -> None:
        if run.task == first:
            daemon.board.put(UNSCHEDULED.key)
            daemon.board.put(NIGHTLY.key)
            assert daemon.board.withdraw("rare") == UNSCHEDULED
            daemon.board.stop()

    daemon.act = act
    daemon.look()
    assert daemon.book.requests == {NIGHTLY.key}
    daemon.tasks = [first, UNSCHEDULED]
    daemon.start()
    go(daemon, 3)
    assert (daemon.ran, daemon.book.requests) == (["first"], set())


def test_two_that_are_always_due_leave_a_third_its_turn() -> None:
    """Each of their runs takes longer than their interval, and they have the lower numbers."""
    clock = ManualClock(NOON)
    often = [task(name=name, number=n, schedule="every 1m") for n, name in enumerate("ab")]
    last = task(name="c", number=2, schedule="every 10m")
    daemon = Daemon([*often, last], clock)

    def act(_: TaskRun) -> None:
        clock.advance(minutes(3))
        if len(daemon.ran) == 30:
            daemon.board.stop()
        daemon.board.look()

    daemon.act = act
    daemon.look()
    firsts = "".join(daemon.ran)
    assert firsts.startswith("abc"), "at one time by their order"
    assert firsts.count("c") >= 6, firsts
