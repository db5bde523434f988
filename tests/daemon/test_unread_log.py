"""A daemon whose standard error nobody reads goes on, and ends in time; what was dropped is counted."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from backup.cli.support.error_stream import Outlet, unread_stream
from tests.support.command_line import run, run_json
from tests.support.real_daemons import SCRIPT

SMALLEST = 4096  # bytes that a pipe holds


@pytest.fixture
def config(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("content")
    path = tmp_path / "config.toml"
    path.write_text(
        '[state]\ndir = "state"\n[[vault]]\nname = "disk"\nkind = "directory"\npath = "vault"\n'
        f'[[job]]\nname = "quick"\nvault = "disk"\nsources = ["{source}"]\nschedule = "every 1h"\n'
        f'[[job]]\nname = "long"\nvault = "disk"\nsources = ["{source}"]\n'
        '[job.hooks]\nbefore = ["sh", "-c", "yes | head -c 9000; exec sleep 600"]\n'
    )
    path.chmod(0o600)
    made = run("--config", path, "init", "--non-interactive", "--key-file", tmp_path / "recovery.key")
    assert made.exit_code == 0, made.output
    return path


def full_pipe() -> tuple[int, int]:
    """A pipe that takes nothing more: its reading and its writing end."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, SMALLEST)
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"x")
    os.set_blocking(writing, True)
    return reading, writing


@contextmanager
def unread(config: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A daemon that logs into a full pipe; and the pipe's reading end."""
    reading, writing = full_pipe()
    words = [SCRIPT, "--config", str(config), "daemon"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=writing) as process:
        os.close(writing)
        try:
            yield process, reading
        finally:
            process.kill()
            os.close(reading)


def within(seconds: float, is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.2)


def outcomes(config: Path) -> list[str]:
    return [run["outcome"] for run in run_json("--config", config, "runs")]


@pytest.mark.slow
def test_runs_go_on_cancel_is_heeded_and_a_stop_ends_it(config: Path) -> None:
    with unread(config) as (process, _):
        within(60, lambda: outcomes(config) == ["done"])
        assert run("--config", config, "run", "long").exit_code == 0
        within(60, lambda: "running" in outcomes(config))
        process.send_signal(signal.SIGHUP)
        assert run("--config", config, "cancel", "long").exit_code == 0
        within(60, lambda: outcomes(config) == ["interrupted", "done"])
        assert run("--config", config, "run", "quick").exit_code == 0
        within(60, lambda: outcomes(config) == ["done", "interrupted", "done"])
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert time.monotonic() - began < 5, "the last lines are waited for"


@pytest.mark.slow
def test_a_stop_in_the_midst_of_a_run_ends_it_in_time(config: Path) -> None:
    with unread(config) as (process, _):
        within(60, lambda: run("--config", config, "run", "long").exit_code == 0)
        within(60, lambda: "running" in outcomes(config))
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert time.monotonic() - began < 10


def test_what_is_dropped_is_counted_once_there_is_room(caplog: pytest.LogCaptureFixture) -> None:
    reading, writing = full_pipe()
    outlet = Outlet(most=100)
    stream = unread_stream(writing, outlet)
    for number in range(50):
        print(f"line {number:04}", file=stream)  # 10 bytes
    assert not outlet.drain(0.1)
    assert os.read(reading, SMALLEST) == b"x" * SMALLEST
    assert outlet.drain(10)
    assert os.read(reading, SMALLEST) == b"".join(b"line %04d\n" % number for number in range(10))
    within(10, lambda: caplog.messages == ["40 lines of this log were dropped, as nobody read them"])
    print("grün \udcff", file=stream)
    assert outlet.drain(10)
    assert os.read(reading, SMALLEST) == "grün \\udcff\n".encode()
    assert len(caplog.messages) == 1
    os.close(reading)
    os.close(writing)


def test_a_reader_that_went_away_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    outlet = Outlet()
    stream = unread_stream(ours.fileno(), outlet)
    for _ in range(3):
        print("line", file=stream)
    assert outlet.drain(10)
    assert caplog.messages == []
    ours.close()
