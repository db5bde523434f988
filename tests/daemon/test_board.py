"""The board: what is due is run, one of a lane at a time; a failed run ends nothing, and is tried again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from backup.app.tasks.tasks import Task, TaskKey, restores_task
from backup.daemon.board import Board
from backup.daemon.executor import Executor
from backup.daemon.task_run import Done, TaskEnd, TaskRun, Work
from backup.errors import InterruptedRunError, LockedError, NoInventoryError, SpoolError, VaultError
from backup.inventory.records.tasks import Pause, TaskRow, TaskState
from backup.kinds import Outcome, TaskKind
from backup.model import JobName, VaultName
from backup.operations.forget import ForgetReport
from backup.reports import Fact
from backup.schedule import CatchUp
from tests.support.daemons import Daemon, Ends, Figures, MemoryBook, minutes, task
from tests.support.doubles import ManualClock

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
MINUTE = minutes(1)
EVERY_HOUR = task()
NIGHTLY = task(name="nightly", schedule="daily at 02:30")


def raises(*errors: Exception | None) -> Callable[[TaskRun], str | None]:
    """Work that fails so, one time after the other, and then no more."""
    left = list(errors)

    def act(_: TaskRun) -> str | None:
        error = left.pop(0) if left else None
        if error is not None:
            raise error
        return None

    return act


def go(daemon: Daemon, ticks: int, step: timedelta = MINUTE) -> None:
    """Look so many times."""
    assert isinstance(daemon.clock, ManualClock)
    for _ in range(ticks):
        daemon.look()
        daemon.clock.advance(step)


def test_an_interval_that_never_ran_is_due_at_once_and_then_after_the_interval() -> None:
    daemon = Daemon([EVERY_HOUR], ManualClock(NOON))
    go(daemon, 121)
    assert daemon.ran == ["hourly"] * 3


@pytest.mark.parametrize(
    ("words", "runs"), [("every 1m", 720), ("every 2m", 360), ("every 7m", 103), ("every 1h", 12)]
)
def test_an_interval_is_as_long_as_it_says(words: str, runs: int) -> None:
    """Looks come some hundredths of a second after each full minute, and a run begins a little later."""
    clock = ManualClock(NOON)
    daemon = Daemon([task(schedule=words)], clock)
    daemon.act = lambda _: clock.advance(timedelta(milliseconds=20))
    for number in range(720):
        clock.advance(NOON + number * MINUTE + timedelta(milliseconds=7 + number % 5) - clock.now())
        daemon.look()
    assert len(daemon.ran) == runs


def test_a_calendar_job_that_never_ran_waits_for_its_time() -> None:
    clock = ManualClock(NOON)
    daemon = Daemon([NIGHTLY], clock)
    daemon.look()
    assert daemon.ran == []
    clock.advance(timedelta(hours=14, minutes=30))  # the very second
    go(daemon, 2)
    assert daemon.ran == ["nightly"]


def test_what_fell_due_while_the_inventory_was_rebuilt_is_made_up_for_once() -> None:
    daemon = Daemon([NIGHTLY, task(name="later", schedule="daily at 13:00")], ManualClock(NOON))
    daemon.book.rebuilt_since = NOON - timedelta(hours=10)  # before 02:30
    go(daemon, 3)
    assert daemon.ran == ["nightly"]


def test_a_job_that_never_ran_makes_up_for_a_night_although_the_machine_was_off() -> None:
    clock = ManualClock(NOON)
    daemon = Daemon([NIGHTLY], clock)
    daemon.look()
    clock.advance(timedelta(days=1))
    daemon.start()
    go(daemon, 2)
    assert daemon.ran == ["nightly"]


@pytest.mark.parametrize(("catch_up", "runs"), [(CatchUp.ONCE, ["nightly"]), (CatchUp.SKIP, [])])
def test_a_missed_time_is_made_up_for_once_or_skipped(catch_up: CatchUp, runs: list[str]) -> None:
    of = task(name="nightly", schedule="daily at 02:30", catch_up=catch_up)
    daemon = Daemon([of], ManualClock(NOON))
    daemon.book.ran(of, NOON - timedelta(days=5))
    go(daemon, 600)
    assert daemon.ran == runs
    go(daemon, 600)
    assert daemon.ran == [*runs, "nightly"]


def test_a_machine_that_wakes_shortly_before_the_next_time_runs_once() -> None:
    daemon = Daemon([NIGHTLY], ManualClock(datetime(2026, 11, 24, 2, 10, tzinfo=UTC)))
    daemon.book.ran(NIGHTLY, NOON - timedelta(days=5))
    go(daemon, 19)
    assert daemon.ran == []
    go(daemon, 60)
    assert daemon.ran == ["nightly"]


def test_a_delay_by_jitter_is_kept_to_and_the_night_is_run_once() -> None:
    of = task(name="nightly", schedule="daily at 02:30", jitter=timedelta(hours=2), seed="web1/nightly")
    clock = ManualClock(NOON)
    daemon = Daemon([of], clock)
    began: list[datetime] = []
    daemon.act = lambda _: began.append(clock.now())
    go(daemon, 20 * 24 * 12, minutes(5))
    assert len(began) == 20
    late = [time - time.replace(hour=2, minute=30) for time in began]
    assert max(late) <= timedelta(hours=2, minutes=5)
    assert len(set(late)) > 10


def test_a_run_that_was_started_by_hand_counts() -> None:
    clock = ManualClock(NOON)
    daemon = Daemon([EVERY_HOUR], clock)
    daemon.look()
    clock.advance(timedelta(minutes=50))
    daemon.book.ran(EVERY_HOUR, clock.now())
    clock.advance(timedelta(minutes=50))
    daemon.look()
    assert daemon.ran == ["hourly"]


def test_a_run_that_left_no_record_is_not_repeated_each_minute() -> None:
    daemon = Daemon([EVERY_HOUR], ManualClock(NOON), leaves_record=False)
    daemon.act = raises(NoInventoryError("there is no inventory"), None)
    go(daemon, 60)
    assert len(daemon.ran) == 1
    daemon.look()
    assert len(daemon.ran) == 2


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (VaultError("no", advice="do so"), ["job hourly: failed: no", "job hourly: do so"]),
        (InterruptedRunError("asked to stop"), ["job hourly: stopped on request; nothing is lost"]),
        (ZeroDivisionError("by zero"), ["job hourly: unexpected ZeroDivisionError: by zero"]),
    ],
)  # fmt: skip
def test_a_failed_run_is_told_and_ends_nothing(
    error: Exception, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock(NOON)
    daemon = Daemon([EVERY_HOUR], clock)
    daemon.act = raises(error)
    with caplog.at_level(logging.INFO, "backup.daemon"):
        daemon.look()
    assert caplog.messages == ["job hourly: begins", *told]
    assert not any(record.exc_info for record in caplog.records)
    clock.advance(timedelta(hours=1))
    daemon.look()
    assert daemon.ran == ["hourly", "hourly"]


@pytest.mark.parametrize("text", ["* * * * *", "*/5 * * * *", "0,40 * * * *", "every 2m", "daily at 02:30"])
def test_what_is_said_of_the_next_attempt_is_true(text: str) -> None:
    """A frequent schedule comes before the retry does."""
    of = task(name="often", schedule=text, retry=(minutes(10), minutes(60)))
    clock, ends = ManualClock(datetime(2026, 11, 24, 2, 0, tzinfo=UTC)), Ends()
    daemon = Daemon([of], clock, watchers=[ends])
    fails = raises(*[VaultError("away")] * 100)
    began: list[datetime] = []

    def act(run: TaskRun) -> str | None:
        began.append(clock.now())
        return fails(run)

    daemon.act = act
    go(daemon, 90)
    said = [end.retry_at for _, end in ends.told if end is not None]
    again = [(at, then) for at, then in zip(said, began[1:], strict=False) if at is not None]
    assert again
    assert [at for at, _ in again] == [then for _, then in again]


def test_a_run_that_failed_is_tried_again_as_the_policy_says_and_counts_anew_the_next_night(
    caplog: pytest.LogCaptureFixture,
) -> None:
    retry = (minutes(10), minutes(60), minutes(180))
    of = task(name="nightly", schedule="daily at 02:30", retry=retry)
    clock, ends = ManualClock(datetime(2026, 11, 24, 2, 0, tzinfo=UTC)), Ends()
    daemon = Daemon([of], clock, watchers=[ends])
    fails = raises(*[VaultError("away")] * 6)
    began: list[datetime] = []

    def act(run: TaskRun) -> str | None:
        began.append(clock.now())
        return fails(run)

    daemon.act = act
    with caplog.at_level(logging.INFO, "backup.daemon"):
        go(daemon, 3 * 24 * 60)
    due = datetime(2026, 11, 24, 2, 30, tzinfo=UTC)
    day = timedelta(days=1)
    first = [timedelta(), minutes(10), minutes(70), minutes(250)]
    second = [day, day + minutes(10), day + minutes(70)]  # which is done
    assert [time - due for time in began] == [*first, *second, 2 * day]
    again = [end.retry_at for _, end in ends.told if end is not None and end.state is TaskState.FAILED]
    assert again[:4] == [due + minutes(10), due + minutes(70), due + minutes(250), None]
    assert caplog.text.count("it is tried again at") == 5


def test_a_run_by_hand_after_a_failure_makes_the_retry_unnecessary() -> None:
    of = task(name="nightly", schedule="daily at 02:30", retry=(minutes(60),))
    clock = ManualClock(datetime(2026, 11, 24, 2, 30, tzinfo=UTC))
    daemon = Daemon([of], clock)
    daemon.book.ran(of, clock.now() - timedelta(days=1))
    daemon.act = raises(VaultError("away"))
    daemon.look()
    clock.advance(minutes(30))
    daemon.book.ran(of, clock.now())
    go(daemon, 120)
    assert daemon.ran == ["nightly"]


def test_a_run_that_finds_another_one_waits_for_it(caplog: pytest.LogCaptureFixture) -> None:
    daemon = Daemon([EVERY_HOUR], ManualClock(NOON), leaves_record=False)
    busy = LockedError("another backup is running")
    daemon.act = raises(busy, busy, None, busy)
    with caplog.at_level(logging.INFO, "backup.daemon"):
        go(daemon, 70)
    assert len(daemon.ran) == 5
    assert caplog.messages.count("job hourly: waits: another backup is running") == 2
    assert caplog.messages.count("job hourly: begins") == 2


def test_an_inventory_that_cannot_be_asked_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    daemon = Daemon([EVERY_HOUR], ManualClock(NOON))
    daemon.book.error = NoInventoryError("there is no inventory")
    go(daemon, 60)
    assert caplog.messages == ["cannot tell what is due: there is no inventory"]
    assert daemon.ran == []
    daemon.book.error = None
    daemon.look()
    assert daemon.ran == ["hourly"]


def test_an_unforeseen_error_of_a_look_is_told_once_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    daemon = Daemon([EVERY_HOUR], ManualClock(NOON))
    daemon.book.error = ZeroDivisionError("by zero")
    go(daemon, 5)
    assert caplog.messages == ["cannot tell what is due: unexpected ZeroDivisionError: by zero"]
    daemon.book.error = None
    daemon.look()
    assert daemon.ran == ["hourly"]


def test_a_book_that_cannot_be_written_to_ends_nothing_and_nothing_is_repeated(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Full(MemoryBook):
        def write(self, *changed: TaskRow, **_: Collection[TaskKey]) -> None:
            raise SpoolError("no space left on the device")

    daemon = Daemon([EVERY_HOUR], ManualClock(NOON), book=Full(), leaves_record=False)
    go(daemon, 61)
    assert daemon.ran == ["hourly"] * 2
    assert "the state of a task cannot be recorded: no space left on the device" in caplog.text


def test_nothing_is_run_after_a_stop() -> None:
    daemon = Daemon([EVERY_HOUR], ManualClock(NOON))
    daemon.board.stop()
    daemon.look()
    assert daemon.ran == []


def test_what_is_due_at_the_same_time_runs_in_order() -> None:
    other = VaultName("other")
    tasks = [
        task(TaskKind.FORGET, "b"),
        task(TaskKind.PRUNE, "cold", number=0),
        task(TaskKind.COMPACT, "cold"),
        task(name="c", number=2, vault=other),
        task(name="a", number=0),
        task(name="b", number=1),
        task(TaskKind.CHECK, "cold"),
    ]
    daemon = Daemon(tasks, ManualClock(NOON))
    daemon.look()
    assert daemon.ran == ["a", "b", "c", "b", "cold", "cold", "cold"]


def test_a_run_that_was_cut_off_goes_on_at_once_after_a_restart_and_not_for_ever() -> None:
    class Cut(BaseException):
        """The end of the process."""

    of = task(name="nightly", schedule="daily at 02:30", retry=(minutes(30),))
    clock = ManualClock(datetime(2026, 11, 24, 2, 30, tzinfo=UTC))
    daemon = Daemon([of], clock)
    daemon.book.ran(of, clock.now() - timedelta(days=1))

    def die(_: TaskRun) -> str | None:
        raise Cut

    daemon.act = die
    for attempt in range(1, 5):
        with pytest.raises(Cut):
            daemon.look()
        assert daemon.book.rows[of.key].state is TaskState.RUNNING
        assert len(daemon.ran) == attempt
        daemon.start()
    daemon.look()
    assert len(daemon.ran) == 4, "three times at once, and then as after a failure"
    daemon.act = lambda _: None
    go(daemon, 40)
    assert len(daemon.ran) == 5
    assert daemon.book.rows[of.key].state is TaskState.DONE


@pytest.mark.parametrize(
    ("outcome", "runs"),
    [(Outcome.DONE, 0), (Outcome.PARTIAL, 0), (Outcome.INTERRUPTED, 1), (Outcome.RUNNING, 1)],
)
def test_a_run_that_had_ended_before_the_process_did_is_not_repeated(outcome: Outcome, runs: int) -> None:
    clock = ManualClock(NOON)
    daemon = Daemon([NIGHTLY], clock)
    began = NOON - timedelta(hours=9)
    daemon.book.write(TaskRow("backup", "nightly", began, TaskState.RUNNING, began))
    daemon.book.ran(NIGHTLY, began + timedelta(seconds=2), outcome)
    go(daemon, 10)
    assert len(daemon.ran) == runs


def test_a_run_that_was_stopped_goes_on_after_a_restart_and_one_that_was_cancelled_does_not() -> None:
    for is_cancelled, runs in ((False, 2), (True, 1)):
        daemon = Daemon([NIGHTLY], ManualClock(NOON))
        daemon.book.ran(NIGHTLY, NOON - timedelta(days=5))

        def stop(run: TaskRun, *, is_cancelled: bool = is_cancelled) -> str | None:
            if is_cancelled:
                run.cancel()
            raise InterruptedRunError("asked to stop")

        daemon.act = stop
        daemon.look()
        daemon.act = lambda _: None
        daemon.start()
        go(daemon, 10)
        assert len(daemon.ran) == runs


@pytest.mark.parametrize(
    "ends_with", [VaultError("no answer"), LockedError("locked"), ZeroDivisionError("by zero"), "a list"]
)
def test_what_was_cancelled_is_cancelled_whatever_it_ends_with(ends_with: Exception | str) -> None:
    again = task(name="nightly", schedule="daily at 02:30", retry=(minutes(10),))
    daemon = Daemon([again], ManualClock(NOON))
    daemon.book.ran(NIGHTLY, NOON - timedelta(days=5))

    def act(run: TaskRun) -> str | None:
        daemon.board.cancel(run)
        if isinstance(ends_with, Exception):
            raise ends_with
        return ends_with

    daemon.act = act
    daemon.look()
    daemon.act = lambda _: None
    go(daemon, 60)
    assert daemon.ran == ["nightly"]
    assert daemon.book.rows[NIGHTLY.key].state is TaskState.CANCELLED
    daemon.start()
    go(daemon, 60)
    assert daemon.ran == ["nightly"]


def test_a_pause_holds_a_job_back_until_it_is_over_and_then_one_run_makes_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock(NOON)
    daemon = Daemon([EVERY_HOUR, task(TaskKind.PRUNE, "cold")], clock)
    daemon.book.pauses[JobName("hourly")] = Pause(JobName("hourly"), NOON, NOON + minutes(200))
    with caplog.at_level(logging.INFO, "backup.daemon"):
        go(daemon, 200)
        assert daemon.ran == ["cold"] * 4
        go(daemon, 10)
    assert daemon.ran == ["cold"] * 4 + ["hourly"]
    assert caplog.messages.count("job hourly: is paused") == 1
    assert caplog.messages.count("job hourly: goes on after its pause") == 1


def test_what_is_asked_for_by_hand_runs_at_once_also_while_it_is_paused() -> None:
    clock = ManualClock(NOON)
    daemon = Daemon([NIGHTLY], clock)
    daemon.book.pauses[JobName("nightly")] = Pause(JobName("nightly"), NOON, NOON + minutes(200))
    daemon.look()
    assert daemon.board.put(NIGHTLY.key)
    assert daemon.ran == ["nightly"]


def test_a_clock_that_is_not_set_yet_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock(datetime(1970, 1, 1, tzinfo=UTC))
    daemon = Daemon([EVERY_HOUR], clock)
    daemon.book.ran(EVERY_HOUR, NOON)
    go(daemon, 10)
    assert daemon.ran == []
    assert daemon.board.gate.is_waiting
    assert len(caplog.messages) == 1
    assert "waiting for it to be set, for 15 minutes at most" in caplog.text
    clock.set(NOON + minutes(10))
    go(daemon, 5)
    assert daemon.ran == []
    clock.set(NOON + minutes(60))
    daemon.look()
    assert daemon.ran == ["hourly"]


def test_a_run_that_was_cut_off_goes_on_although_the_clock_is_not_set_at_the_start() -> None:
    """By a clock that shows 1970 the run that was cut off would be one by hand, after its own end."""
    clock = ManualClock(datetime(1970, 1, 1, tzinfo=UTC))
    daemon = Daemon([NIGHTLY, task(name="new", schedule="daily at 02:30", number=1)], clock)
    began = NOON - timedelta(hours=9)
    daemon.book.write(TaskRow("backup", "nightly", began, TaskState.RUNNING, began))
    daemon.book.ran(NIGHTLY, began + timedelta(seconds=2), Outcome.RUNNING)
    go(daemon, 3)
    assert daemon.ran == []
    clock.set(NOON)
    go(daemon, 3)
    assert daemon.ran == ["nightly"], "and not what is known since 1970"


def test_a_clock_that_stays_as_it_is_is_gone_by_after_a_while(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock(NOON)
    daemon = Daemon([EVERY_HOUR], clock)
    daemon.book.ran(EVERY_HOUR, NOON + timedelta(days=400))
    go(daemon, 15)
    assert daemon.ran == []
    go(daemon, 62)
    assert daemon.ran == ["hourly", "hourly"]
    assert "was not set: it is used as it is" in caplog.text


def test_a_watcher_that_fails_ends_nothing_and_others_are_told(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Ends):
        def began(self, run: TaskRun) -> None:
            raise RuntimeError("oops")

        def ended(self, run: TaskRun, end: TaskEnd) -> None:
            raise RuntimeError("oops")

    ends = Ends()
    daemon = Daemon([EVERY_HOUR], ManualClock(NOON), watchers=[Broken(), ends])
    daemon.look()
    assert [(name, None if end is None else end.state) for name, end in ends.told] == [
        ("job hourly", None),
        ("job hourly", TaskState.DONE),
    ]
    assert caplog.text.count("a watcher failed: RuntimeError: oops") == 2


def test_a_report_that_cannot_be_told_ends_nothing_and_watchers_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Untellable(ForgetReport, frozen=True):
        def facts(self, currency: str = "USD") -> Iterator[Fact]:
            raise RuntimeError("oops")

    ends = Ends()
    daemon = Daemon([EVERY_HOUR], ManualClock(NOON), watchers=[ends])
    daemon.report = Untellable(JobName("hourly"))
    daemon.look()
    assert [None if end is None else end.state for _, end in ends.told] == [None, TaskState.DONE]
    assert daemon.book.rows[EVERY_HOUR.key].state is TaskState.DONE
    assert "a watcher failed: RuntimeError: oops" in caplog.text


def test_open_restores_are_looked_at_every_five_minutes_and_leave_no_row() -> None:
    daemon = Daemon([restores_task()], ManualClock(NOON), leaves_record=False)
    daemon.act = raises(None, VaultError("away"))
    go(daemon, 16)
    assert len(daemon.ran) == 4
    assert daemon.book.rows == {}


def test_what_is_queued_and_done_by_hand_meanwhile_is_not_done_again() -> None:
    first, second = task(name="long", number=0), task(name="short", number=1)
    clock = ManualClock(NOON)
    daemon = Daemon([first, second], clock)

    def act(run: TaskRun) -> None:
        if run.task == first:  # the other one is queued
            clock.advance(minutes(5))
            daemon.book.ran(second, clock.now())
            daemon.board.look()

    daemon.act = act
    daemon.look()
    assert daemon.ran == ["long"]


# With threads.


def threaded(tasks: Sequence[Task], work: Work) -> tuple[Board, Executor]:
    clock = ManualClock(NOON)
    executor = Executor(work, clock)
    executor.board = Board(tasks, MemoryBook(), clock, launch=executor.launch, progress=lambda _: Figures())
    return executor.board, executor


def test_one_of_a_vault_runs_at_a_time_and_of_those_that_store_catalogs_one_of_all() -> None:
    other = VaultName("other")
    tasks = [
        *(task(name=name, number=n) for n, name in enumerate("abc")),
        *(task(name=name, number=n, vault=other) for n, name in enumerate("de")),
        task(TaskKind.CHECK, "other", vault=other),
        task(TaskKind.CHECK, "cold"),
        restores_task(),
    ]
    lock = threading.Lock()
    running: list[TaskRun] = []
    most, done = [0], []
    pause = threading.Event()

    def work(run: TaskRun) -> Done:
        with lock:
            running.append(run)
            most[0] = max(most[0], len(running))
            assert len({other_run.task.lane for other_run in running}) == len(running)
            assert sum(other_run.task.is_exclusive for other_run in running) <= 1
        pause.wait(0.02)
        with lock:
            running.remove(run)
            done.append(run.task.key)
        return Done()

    board, executor = threaded(tasks, work)
    board.look()
    while board.runs():
        assert executor.wait(5) or board.runs()
    assert sorted(done) == sorted(known.key for known in tasks)
    assert most[0] >= 2


def test_a_stop_asks_all_that_runs_and_waits_no_longer_than_it_may() -> None:
    stopped, free = threading.Event(), threading.Event()

    def work(run: TaskRun) -> Done:
        run.stop.wait(5)
        stopped.set()
        if run.task.kind is TaskKind.CHECK:
            free.wait(20)  # it does not heed the stop
        raise InterruptedRunError("asked to stop")

    hung = task(TaskKind.CHECK, "other", vault=VaultName("other"))
    board, executor = threaded([EVERY_HOUR, hung], work)
    board.look()
    assert len(board.runs()) == 2
    board.stop()
    assert not executor.wait(0.5)
    assert stopped.is_set()
    assert [str(run.task) for run in board.runs()] == ["check of vault other"]
    free.set()
    assert executor.wait(5)


def test_a_system_without_threads_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    clock, now = ManualClock(NOON), [0.0]
    executor = Executor(lambda _: Done(), clock)
    executor.board = board = Board(
        [EVERY_HOUR], MemoryBook(), clock, launch=executor.launch, progress=lambda _: Figures(),
        monotonic=lambda: now[0],
    )  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        board.look()
    assert board.runs() == []
    assert "job hourly: cannot begin: can't start new thread" in caplog.text
    now[0] += 61
    board.look()
    assert executor.wait(5)
    assert board.lines()[0].row.state is TaskState.DONE
