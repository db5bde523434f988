"""What a person asks the board for is done once, whatever else goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from backup.app.tasks.book import Seen
from backup.app.tasks.tasks import Task
from backup.app.tasks.times import Timing
from backup.daemon.task_run import TaskRun
from backup.daemon.verbs import Verbs
from backup.errors import DaemonAwayError, InterruptedRunError, LockedError, UsageError, VaultError
from backup.inventory.records.tasks import Pause, TaskRow, TaskState
from backup.kinds import TaskKind
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


class Jobs:
    """A config that has one job."""

    def __init__(self, of: Task) -> None:
        self._of = of

    def job(self, name: str) -> Task:
        assert name == self._of.name
        return self._of


def go(daemon: Daemon, ticks: int) -> None:
    assert isinstance(daemon.clock, ManualClock)
    for _ in range(ticks):
        daemon.look()
        daemon.clock.advance(minutes(1))


def state(daemon: Daemon, name: str) -> str:
    """As `status` shows it."""
    config = None  # `status` asks it nothing
    tasks = Verbs(config, daemon.board, daemon.clock).status({})["tasks"]  # type: ignore[arg-type]
    return next(str(row["state"]) for row in tasks if row["name"] == name)


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


class Cut(BaseException):
    """The end of the process."""


def cut_off(daemon: Daemon, times: int) -> None:
    """The process ends in the middle of the first so many runs."""
    left = [times]

    def act(_: TaskRun) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise Cut

    daemon.act = act


def paused(daemon: Daemon, of: Task) -> None:
    daemon.book.pauses[JobName(of.name)] = Pause(JobName(of.name), NOON, NOON + minutes(9000))


@pytest.mark.parametrize("leaves_record", [True, False])
@pytest.mark.parametrize("of", [NIGHTLY, UNSCHEDULED], ids=["with a schedule", "without"])
def test_a_run_by_hand_that_is_killed_goes_on_although_its_job_is_paused(
    of: Task, leaves_record: bool
) -> None:
    """A pause holds back schedules, and nothing that somebody asked for."""
    daemon = Daemon([of], ManualClock(NOON), leaves_record=leaves_record)
    paused(daemon, of)
    cut_off(daemon, 2)
    daemon.look()
    assert daemon.ran == []
    with pytest.raises(Cut):
        daemon.board.put(of.key)
    daemon.start()
    with pytest.raises(Cut):
        daemon.look()
    daemon.start()
    go(daemon, 60)
    assert (len(daemon.ran), daemon.book.requests) == (3, set())
    assert daemon.book.rows[of.key].state is TaskState.DONE
    daemon.start()
    go(daemon, 60)
    assert len(daemon.ran) == 3, "once"


def test_a_run_by_hand_that_a_stop_ends_goes_on_although_its_job_is_paused() -> None:
    daemon = Daemon([NIGHTLY], ManualClock(NOON), leaves_record=False)
    paused(daemon, NIGHTLY)

    def act(_: TaskRun) -> None:
        if len(daemon.ran) == 1:
            daemon.board.stop()
            raise InterruptedRunError("asked to stop")

    daemon.act = act
    daemon.look()
    daemon.board.put(NIGHTLY.key)
    assert daemon.ran == ["nightly"]
    daemon.start()
    go(daemon, 60)
    assert (len(daemon.ran), daemon.book.requests) == (2, set())


def test_a_run_by_hand_that_kills_the_process_each_time_does_not_go_on_for_ever() -> None:
    daemon = Daemon([NIGHTLY], ManualClock(NOON), leaves_record=False)
    paused(daemon, NIGHTLY)
    cut_off(daemon, 99)
    daemon.look()
    with pytest.raises(Cut):
        daemon.board.put(NIGHTLY.key)
    for _ in range(20):
        daemon.start()
        with suppress(Cut):
            go(daemon, 10)
    assert (len(daemon.ran), daemon.book.requests) == (4, set())
    assert daemon.book.rows[NIGHTLY.key].state is TaskState.FAILED


def test_a_run_by_hand_whose_end_was_not_recorded_any_more_is_not_done_twice() -> None:
    """The process ended between the end of the backup and that of the task."""
    daemon = Daemon([NIGHTLY], ManualClock(NOON), leaves_record=False)
    paused(daemon, NIGHTLY)

    def act(run: TaskRun) -> None:
        daemon.book.ran(run.task, NOON)
        raise Cut

    daemon.act = act
    daemon.look()
    with pytest.raises(Cut):
        daemon.board.put(NIGHTLY.key)
    daemon.start()
    go(daemon, 60)
    assert (daemon.ran, daemon.book.requests) == (["nightly"], set())


@pytest.mark.parametrize("is_by_hand", [True, False])
@pytest.mark.parametrize("is_paused", [True, False])
@pytest.mark.parametrize("ends_as", [InterruptedRunError("asked to stop"), VaultError("away"), None])
def test_what_is_asked_for_while_its_run_is_cancelled_is_done_after_it(
    is_by_hand: bool, is_paused: bool, ends_as: Exception | None
) -> None:
    daemon = Daemon([NIGHTLY], ManualClock(NOON), leaves_record=False)
    daemon.book.ran(NIGHTLY, NOON - minutes(60 if is_by_hand else 5 * 24 * 60))
    verbs, answers = Verbs(Jobs(NIGHTLY), daemon.board, daemon.clock), []  # type: ignore[arg-type]

    def act(run: TaskRun) -> None:
        if len(daemon.ran) > 1:
            return
        if is_paused:
            paused(daemon, NIGHTLY)
        answers.append(verbs.run({"job": "nightly"}))
        verbs.cancel({"run": "nightly"})
        answers.extend(verbs.run({"job": "nightly"}) for _ in range(2))
        assert daemon.book.requests == {NIGHTLY.key}, "also after the end of this process"
        assert daemon.ran == ["nightly"], "one after the other"
        assert run.cancelled.is_set()
        if ends_as is not None:
            raise ends_as

    daemon.act = act
    daemon.look()
    if is_by_hand:
        assert daemon.board.put(NIGHTLY.key)
    assert [(answer["queued"], answer["after"] is not None) for answer in answers] == [
        (False, False),
        (True, True),
        (False, False),
    ]
    go(daemon, 60)
    assert (daemon.ran, daemon.book.requests) == (["nightly"] * 2, set())


def test_what_is_asked_for_while_its_run_is_cancelled_is_taken_back_by_another_cancel() -> None:
    daemon = Daemon([NIGHTLY], ManualClock(NOON), leaves_record=False)
    daemon.book.ran(NIGHTLY, NOON - minutes(5 * 24 * 60))
    verbs, told = Verbs(Jobs(NIGHTLY), daemon.board, daemon.clock), []  # type: ignore[arg-type]

    def act(_: TaskRun) -> None:
        told.append(verbs.cancel({"run": "nightly"})["run"] is None)
        verbs.run({"job": "nightly"})
        told.extend(verbs.cancel({"run": "nightly"})["run"] is None for _ in range(2))

    daemon.act = act
    daemon.look()
    go(daemon, 60)
    assert told == [False, True, False]
    assert (daemon.ran, daemon.book.requests) == (["nightly"], set())


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
        kept = {known.key for known in tasks}
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
