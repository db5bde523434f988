"""The daemon: what is due is run, one job at a time; a failed run ends nothing; a stop is clean."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from apscheduler.triggers.interval import IntervalTrigger

from backup.daemon import Chore, Run, ScheduledJob, Watch, run_daemon
from backup.errors import InterruptedRunError, LockedError, NoInventoryError, VaultError
from backup.model import JobName
from backup.schedule import parse_schedule
from tests.support.doubles import ManualClock

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
EVERY_HOUR = ScheduledJob(JobName("hourly"), parse_schedule("every 1h", "UTC"))
NIGHTLY = ScheduledJob(JobName("nightly"), parse_schedule("daily at 02:30", "UTC"))


class Records:
    """Remembers runs as an inventory would: by the start of each job's last one."""

    def __init__(self, clock: ManualClock, action: Callable[[JobName], None] = lambda _: None) -> None:
        self.clock = clock
        self.action = action
        self.runs: list[JobName] = []
        self.last: dict[JobName, datetime] = {}

    def run(self, name: JobName) -> None:
        self.runs.append(name)
        self.last[name] = self.clock.now()
        self.action(name)


def watch(records: Records, run: Run | None = None, stop: threading.Event | None = None) -> Watch:
    return Watch(
        run=run or records.run, clock=records.clock, last_run=records.last.get, stop=stop or threading.Event()
    )


def test_an_interval_that_never_ran_is_due_at_once_and_then_after_the_interval() -> None:
    clock = ManualClock(NOON)
    records = Records(clock)
    watching = watch(records)
    for _ in range(121):
        watching.tick(EVERY_HOUR)
        clock.advance(timedelta(minutes=1))
    assert records.runs == ["hourly"] * 3


def test_a_calendar_job_that_never_ran_waits_for_its_time() -> None:
    clock = ManualClock(NOON)
    records = Records(clock)
    watching = watch(records)
    watching.tick(NIGHTLY)
    assert records.runs == []
    clock.advance(timedelta(hours=14, minutes=30))  # the very second
    watching.tick(NIGHTLY)
    watching.tick(NIGHTLY)
    assert records.runs == ["nightly"]


def test_a_missed_time_is_made_up_for_once() -> None:
    clock = ManualClock(NOON)
    records = Records(clock)
    records.last[NIGHTLY.name] = NOON - timedelta(days=5)
    watching = watch(records)
    watching.tick(NIGHTLY)
    clock.advance(timedelta(minutes=1))
    watching.tick(NIGHTLY)
    assert records.runs == ["nightly"]


def test_a_run_that_was_started_by_hand_counts() -> None:
    clock = ManualClock(NOON)
    records = Records(clock)
    watching = watch(records)
    watching.tick(EVERY_HOUR)
    clock.advance(timedelta(minutes=50))
    records.last[EVERY_HOUR.name] = clock.now()
    clock.advance(timedelta(minutes=50))
    watching.tick(EVERY_HOUR)
    assert records.runs == ["hourly"]


def test_a_run_that_left_no_record_is_not_repeated_each_minute() -> None:
    clock, attempts = ManualClock(NOON), []

    def run(name: JobName) -> None:
        attempts.append(name)
        raise NoInventoryError("there is no inventory")

    watching = watch(Records(clock), run=run)
    for _ in range(60):
        watching.tick(EVERY_HOUR)
        clock.advance(timedelta(minutes=1))
    assert len(attempts) == 1
    watching.tick(EVERY_HOUR)
    assert len(attempts) == 2


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            VaultError("the vault refused", advice="look at the policy"),
            "job hourly: failed: the vault refused",
        ),
        (VaultError("no", advice="look at the policy"), "job hourly: look at the policy"),
        (InterruptedRunError("asked to stop"), "job hourly: stopped on request; nothing is lost"),
        (ZeroDivisionError("by zero"), "job hourly: unexpected ZeroDivisionError: by zero"),
    ],
)
def test_a_failed_run_is_told_and_ends_nothing(
    error: Exception, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: JobName) -> None:
        raise error

    records = Records(ManualClock(NOON), fail)
    watching = watch(records)
    with caplog.at_level(logging.INFO, "backup.daemon"):
        watching.tick(EVERY_HOUR)
    assert told in caplog.messages
    assert not any(record.exc_info for record in caplog.records)
    records.clock.advance(timedelta(hours=1))
    watching.tick(EVERY_HOUR)
    assert records.runs == ["hourly", "hourly"]


def test_a_run_that_finds_another_one_waits_for_it(caplog: pytest.LogCaptureFixture) -> None:
    clock, attempts = ManualClock(NOON), []

    def run(name: JobName) -> None:
        attempts.append(name)
        if len(attempts) in {1, 2, 4}:
            raise LockedError("another backup is running")

    watching = watch(Records(clock), run=run)
    with caplog.at_level(logging.INFO, "backup.daemon"):
        for _ in range(70):
            watching.tick(EVERY_HOUR)
            clock.advance(timedelta(minutes=1))
    assert len(attempts) == 5
    assert caplog.messages.count("job hourly: waits: another backup is running") == 3


def test_an_inventory_that_cannot_be_asked_is_told(caplog: pytest.LogCaptureFixture) -> None:
    def no_inventory(_: JobName) -> datetime | None:
        raise NoInventoryError("there is no inventory")

    records = Records(ManualClock(NOON))
    watching = Watch(run=records.run, clock=records.clock, last_run=no_inventory, stop=threading.Event())
    watching.tick(EVERY_HOUR)
    assert caplog.messages == ["job hourly: cannot tell when it is due: there is no inventory"]
    assert records.runs == []


def test_nothing_is_run_after_a_stop() -> None:
    stop = threading.Event()
    records = Records(ManualClock(NOON))
    watching = watch(records, stop=stop)
    stop.set()
    watching.tick(EVERY_HOUR)
    assert records.runs == []


def test_jobs_run_one_at_a_time_and_the_daemon_waits_for_the_last_of_them() -> None:
    clock, stop = ManualClock(NOON), threading.Event()
    running = threading.Lock()
    overlaps: list[JobName] = []
    pause = threading.Event()

    def work(name: JobName) -> None:
        if not running.acquire(blocking=False):
            overlaps.append(name)
            return
        pause.wait(0.05)
        if len(records.runs) == 3:
            stop.set()
            pause.wait(0.05)
            finished.append(name)
        running.release()

    finished: list[JobName] = []
    records = Records(clock, work)
    jobs = [ScheduledJob(JobName(name), EVERY_HOUR.schedule) for name in ("a", "b", "c", "d")]
    run_daemon(jobs, run=records.run, clock=clock, last_run=records.last.get, stop=stop)
    assert records.runs == ["a", "b", "c"]
    assert (overlaps, finished) == ([], ["c"])


def test_each_tick_looks_again() -> None:
    clock, stop = ManualClock(NOON), threading.Event()

    def work(_: JobName) -> None:
        clock.advance(timedelta(hours=1))
        if len(records.runs) == 3:
            stop.set()

    records = Records(clock, work)
    tick = IntervalTrigger(seconds=0.02, timezone=UTC)
    run_daemon([EVERY_HOUR], run=records.run, clock=clock, last_run=records.last.get, stop=stop, tick=tick)
    assert records.runs == ["hourly"] * 3


def test_forgetting_by_a_schedule_comes_after_a_backup_of_the_same_time() -> None:
    clock, stop = ManualClock(NOON), threading.Event()
    done: list[str] = []

    def work(doing: str) -> Callable[[JobName], None]:
        def note(name: JobName) -> None:
            done.append(f"{doing} {name}")
            if len(done) == 3:
                stop.set()

        return note

    last = dict.fromkeys(["hourly", "other"], NOON - timedelta(hours=2))
    run_daemon(
        [EVERY_HOUR, ScheduledJob(JobName("other"), EVERY_HOUR.schedule)],
        run=work("back up"),
        clock=clock,
        last_run=last.get,
        stop=stop,
        forgetting=[EVERY_HOUR],
        forget=work("forget"),
        last_forget=last.get,
    )
    assert done == ["back up hourly", "back up other", "forget hourly"]


def test_what_fails_to_forget_is_logged_as_that(caplog: pytest.LogCaptureFixture) -> None:
    def fails(_: JobName) -> None:
        raise VaultError("the vault is away")

    clock = ManualClock(NOON)
    ago = NOON - timedelta(hours=2)
    watching = Watch(run=fails, clock=clock, last_run=lambda _: ago, stop=threading.Event(), doing="forget")
    with caplog.at_level(logging.INFO, logger="backup"):
        watching.tick(EVERY_HOUR)
    assert "job hourly: forget: failed: the vault is away" in caplog.text


DAEMON = """
import logging, sys, threading
import click
from backup.cli import main
from backup.cli.support.grouping import LazyCommand
from backup.daemon import ScheduledJob, run_daemon
from backup.errors import InterruptedRunError
from backup.model import JobName
from backup.schedule import parse_schedule
from tests.support.doubles import ManualClock

def body():
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    stop = threading.Event()

    def run(name):
        print("running", flush=True)
        assert stop.wait(20)
        if "stubborn" in sys.argv:
            print("going on", flush=True)
            threading.Event().wait(60)
        raise InterruptedRunError("asked to stop")

    job = ScheduledJob(JobName("hourly"), parse_schedule("every 1h", "UTC"))
    run_daemon([job], run=run, clock=ManualClock(), last_run=lambda name: None, stop=stop)

main.resolve_command = lambda ctx, args: ("x", click.Command("x", callback=body), args[1:])
main(["x"])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_clean_stop(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", DAEMON], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said: list[str] = []
        while "running" not in said:
            said.append(process.stdout.readline().strip())
        process.send_signal(number)
        said += process.stdout.read().splitlines()
        assert process.wait(30) == 0
    assert "started with 1 job" in said
    assert said[-3:] == ["asked to stop", "job hourly: stopped on request; nothing is lost", "stopped"]


def test_a_second_signal_ends_it_at_once() -> None:
    words = [sys.executable, "-c", DAEMON, "stubborn"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for waited_for in ("running\n", "going on\n"):
            while process.stdout.readline() != waited_for:
                assert process.poll() is None
            process.terminate()
        assert process.wait(30) == -signal.SIGTERM


def test_a_chore_that_fails_is_done_again(caplog: pytest.LogCaptureFixture) -> None:
    errors = iter([VaultError("away"), ZeroDivisionError("by zero"), InterruptedRunError("stop")])

    def run() -> None:
        for error in errors:
            raise error

    chore = Chore("restores", run, 300)
    with caplog.at_level(logging.INFO, "backup.daemon"):
        for _ in range(4):
            chore.tick()
    assert caplog.messages == [
        "restores: away",
        "restores: unexpected ZeroDivisionError: by zero",
        "restores: stopped on request; nothing is lost",
    ]
