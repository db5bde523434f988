"""The daemon tells of a run that fails, and of what a dead one left; no receiver that hangs holds it up."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backup.app.base.clock import SystemClock
from backup.config import load_config
from backup.daemon.teller import Teller
from tests.support.notified_servers import NotifiedServer, notified_server
from tests.support.receivers import Request
from tests.support.servers import SCRIPT

pytestmark = pytest.mark.slow
PATIENCE = 60.0


@pytest.fixture
def told(tmp_path: Path) -> Iterator[NotifiedServer]:
    """A server that tells, in real time."""
    with notified_server(tmp_path, SystemClock()) as made:
        yield made


@contextmanager
def daemon(told: NotifiedServer) -> Iterator[subprocess.Popen[bytes]]:
    words = [SCRIPT, "--config", str(told.server.config), "daemon"]
    with open(told.server.folder / "log", "ab") as log, subprocess.Popen(words, stderr=log) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(told: NotifiedServer, count: int) -> None:
    wait_until(told, lambda: len(told.hook.taken) >= count)


def wait_until(told: NotifiedServer, is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < until, (told.server.folder / "log").read_text()
        time.sleep(0.05)


def test_a_run_that_fails_is_told_and_the_next_that_works(told: NotifiedServer) -> None:
    told.break_vault()
    with daemon(told) as process:
        wait_for(told, 1)
        wait_until(told, lambda: len(told.pings()) >= 2)
        told.mend_vault()
        while not told.server.json("run", "main")["queued"]:
            time.sleep(0.1)  # its message went out before its end was noted
        wait_for(told, 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert told.kinds() == ["failed", "recovered"]
    assert told.pings()[:3] == ["/start", "/1", "/start"]


def test_what_a_dead_process_left_is_told_at_the_start(told: NotifiedServer) -> None:
    told.break_vault()
    told.server.run("backup")
    told.mend_vault()
    told.back_up_and_die()
    assert told.kinds() == ["failed"]
    with daemon(told):
        wait_for(told, 2)
    assert told.kinds() == ["failed", "recovered"]


def test_an_inventory_that_cannot_be_used_any_more_is_told_once(
    told: NotifiedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No task begins then, so no run says so."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    told.server.backup()
    told.hook.taken.clear()
    config = load_config(str(told.server.config))
    inventory, whole = told.server.state / "inventory.sqlite", tmp_path / "whole"
    teller = Teller(lambda: config, told.server.clock, look_seconds=0.05)
    with teller.sending():
        inventory.rename(whole)
        inventory.write_bytes(b"not a database " * 1000)
        wait_for(told, 1)
        time.sleep(0.5)
    assert told.titles() == ["nightvault can record nothing"]
    assert told.kinds() == ["failed"]


def test_a_look_that_failed_by_chance_is_not_told(
    told: NotifiedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(told.server.folder))
    told.server.backup()
    told.hook.taken.clear()
    config = load_config(str(told.server.config))
    inventory, away = told.server.state / "inventory.sqlite", told.server.folder / "away"
    teller = Teller(lambda: config, told.server.clock, look_seconds=0.5)
    with teller.sending():
        for _ in range(2):  # one that is long over is no sign that the next one lasts
            time.sleep(0.25)
            inventory.rename(away)
            time.sleep(0.5)  # one look, and its half of the pause after it
            away.rename(inventory)
            time.sleep(1.25)
    assert told.kinds() == []


def test_a_receiver_that_hangs_does_not_hold_up_the_end(told: NotifiedServer) -> None:
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
