"""The main thread: signals end it cleanly, in time whatever runs; systemd is told."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from backup.daemon.ticks import Ticks

DAEMON = """
import logging, sys, threading
from backup.daemon.board import Board
from backup.daemon.executor import Executor
from backup.daemon.loop import Loop
from backup.errors import InterruptedRunError
from tests.support.daemons import Figures, MemoryBook, task
from tests.support.doubles import ManualClock

logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)

say = logging.info  # whole lines: what two threads print may be mixed

def work(run):
    say("running")
    assert run.stop.wait(20)
    if "stubborn" in sys.argv:
        say("going on")
        threading.Event().wait(60)
    raise InterruptedRunError("asked to stop")

executor = Executor(work, ManualClock())
executor.board = Board(
    [task()], MemoryBook(), ManualClock(), launch=executor.launch, progress=lambda _: Figures()
)
ended = Loop(executor.board, executor, threading.Event(), stop_seconds=float(sys.argv[1])).run()
say(f"ended: {ended}")
"""


def daemon(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", DAEMON, *words], stdout=subprocess.PIPE, text=True)


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
    late = threading.Thread(target=ticks._look, daemon=True)
    late.start()
    late.join(5)
    assert not late.is_alive()
    assert called == []
