"""The main thread: signals end it cleanly, in time whatever runs; systemd is told."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from backup.daemon.ticks import Ticks

DAEMON = """
import logging, signal, sys, threading
import backup.daemon.loop
from backup.daemon.board import Board
from backup.daemon.executor import Executor
from backup.daemon.loop import Loop
from backup.daemon.task_run import Done
from backup.errors import InterruptedRunError
from tests.support.daemons import Figures, MemoryBook, task
from tests.support.doubles import ManualClock

logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)

say = logging.info  # whole lines: what two threads print may be mixed

def work(run):
    say("running")
    if "brief" in sys.argv:
        sys.stdin.readline()
        return Done()
    assert run.stop.wait(20)
    if "stubborn" in sys.argv:
        say("going on")
        threading.Event().wait(60)
    raise InterruptedRunError("asked to stop")

executor = Executor(work, ManualClock())
executor.board = Board(
    [task()], MemoryBook(), ManualClock(), launch=executor.launch, progress=lambda _: Figures()
)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored below nohup

def reload():
    say("reading")
    if "dead" in sys.argv:
        threading.Event().wait(60)
    if "wrong" in sys.argv:
        raise ZeroDivisionError("by zero")
    say("read")

loop = Loop(executor.board, executor, threading.Event(), stop_seconds=float(sys.argv[1]), reload=reload)
loop.read_seconds = 0.5
if "impatient" in sys.argv:
    backup.daemon.loop.RENEW_SECONDS = 0.2
ended = loop.run()
if loop.begins_anew:
    say("begins anew")
say(f"ended: {ended}")
"""


@contextmanager
def daemon(*words: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", DAEMON, *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()  # or a test that fails would wait for it


def read_until(process: subprocess.Popen[str], wanted: str) -> list[str]:
    assert process.stdout is not None
    said: list[str] = []
    while wanted not in said:
        line = process.stdout.readline()
        assert line, said
        said.append(line.strip())
    return said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_clean_stop(number: signal.Signals) -> None:
    with daemon("8") as process:
        said = read_until(process, "running")
        process.send_signal(number)
        said += read_until(process, "ended: True")
        assert process.wait(30) == 0
    assert "started with 1 task" in said
    end = ["asked to stop", "job hourly: stopped on request; nothing is lost", "stopped", "ended: True"]
    assert said[-4:] == end


def test_who_is_to_begin_anew_waits_for_what_runs() -> None:
    with daemon("8", "brief") as process:
        read_until(process, "running")
        process.send_signal(signal.SIGUSR1)
        read_until(process, "asked to begin anew: as soon as nothing runs")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        said = read_until(process, "ended: True")
        assert process.wait(30) == 0
    assert said[-3:] == ["stopped", "begins anew", "ended: True"]
    assert not any("stopped on request" in line for line in said)


def test_a_run_without_an_end_holds_up_the_next_daemon_for_a_day_alone() -> None:
    with daemon("8", "impatient") as process:
        read_until(process, "running")
        process.send_signal(signal.SIGUSR1)
        said = read_until(process, "ended: True")
        assert process.wait(30) == 0
    assert "job hourly: stopped on request; nothing is lost" in said
    assert "begins anew" in said


def test_a_config_that_cannot_be_read_holds_up_nobody() -> None:
    with daemon("8", "dead") as process:
        read_until(process, "running")
        process.send_signal(signal.SIGHUP)
        told = "the config cannot be read: no answer from its disk in 0.5 s; the old one stays"
        said = read_until(process, told)
        assert "reading" in said
        process.send_signal(signal.SIGHUP)
        process.terminate()
        said = read_until(process, "ended: True")
        assert process.wait(30) == 0
    assert "asked to stop" in said


@pytest.mark.parametrize(
    ("word", "told"),
    [("", "read"), ("wrong", "the config was not reloaded: unexpected ZeroDivisionError: by zero")],
)
def test_each_hangup_is_answered_also_after_a_mistake(word: str, told: str) -> None:
    with daemon("8", word) as process:
        read_until(process, "running")
        for _ in range(2):
            process.send_signal(signal.SIGHUP)
            assert "reading" in read_until(process, told)
        process.terminate()
        read_until(process, "ended: True")
        assert process.wait(30) == 0


def test_what_does_not_end_in_time_is_dropped() -> None:
    with daemon("0.5", "stubborn") as process:
        read_until(process, "running")
        process.terminate()
        began = time.monotonic()
        said = read_until(process, "ended: False")
        assert time.monotonic() - began < 10
        assert process.wait(30) == 0
    assert "job hourly: dropped, as it did not end in 0.5 s; it goes on after the next start" in said


def test_a_second_signal_ends_it_at_once() -> None:
    with daemon("8", "stubborn") as process:
        read_until(process, "running")
        process.terminate()
        read_until(process, "going on")
        process.terminate()
        assert process.wait(30) == -signal.SIGTERM


def test_a_tick_that_comes_after_the_stop_does_nothing_and_holds_up_nobody() -> None:
    called: list[int] = []
    ticks = Ticks(lambda: called.append(1))
    ticks.start()
    assert ticks.stop(5)
    called.clear()
    late = threading.Thread(target=ticks._tick, daemon=True)
    late.start()
    late.join(5)
    assert not late.is_alive()
    assert called == []
