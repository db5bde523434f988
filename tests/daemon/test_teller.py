"""The daemon tells of a run that fails, and of what a dead one left; no receiver that hangs holds it up."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backup.app.clock import SystemClock
from tests.support.receivers import Request
from tests.support.servers import SCRIPT
from tests.support.told import Told, telling_server

pytestmark = pytest.mark.slow
PATIENCE = 60.0


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    """A server that tells, in real time."""
    with telling_server(tmp_path, SystemClock()) as made:
        yield made


@contextmanager
def daemon(told: Told) -> Iterator[subprocess.Popen[bytes]]:
    words = [SCRIPT, "--config", str(told.server.config), "daemon"]
    with open(told.server.folder / "log", "ab") as log, subprocess.Popen(words, stderr=log) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(told: Told, count: int) -> None:
    until = time.monotonic() + PATIENCE
    while len(told.hook.taken) < count:
        assert time.monotonic() < until, (told.server.folder / "log").read_text()
        time.sleep(0.05)


def test_a_run_that_fails_is_told_and_the_next_that_works(told: Told) -> None:
    told.break_vault()
    with daemon(told) as process:
        wait_for(told, 1)
        told.mend_vault()
        while not told.server.json("run", "main")["queued"]:
            time.sleep(0.1)  # its message went out before its end was noted
        wait_for(told, 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert told.kinds() == ["failed", "recovered"]
    assert told.pings()[:3] == ["/start", "/1", "/start"]


def test_what_a_dead_process_left_is_told_at_the_start(told: Told) -> None:
    told.break_vault()
    told.server.run("backup")
    told.mend_vault()
    told.back_up_and_die()
    assert told.kinds() == ["failed"]
    with daemon(told):
        wait_for(told, 2)
    assert told.kinds() == ["failed", "recovered"]


def test_a_receiver_that_hangs_does_not_hold_up_the_end(told: Told) -> None:
    told.break_vault()
    hanging: list[str] = []

    def hang(request: Request) -> tuple[int, str]:
        hanging.append(request.path)
        time.sleep(15)
        return 200, ""

    told.hook.judge = hang
    with daemon(told) as process:
        until = time.monotonic() + PATIENCE
        while not hanging:
            assert time.monotonic() < until, (told.server.folder / "log").read_text()
            time.sleep(0.05)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert time.monotonic() - began < 9
