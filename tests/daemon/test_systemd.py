"""What systemd is told, as it reads it: ready, reloading with a monotonic time, signs of life, stopping."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backup.daemon.systemd import Systemd
from tests.support.command_line import run
from tests.support.real_daemons import running

pytestmark = pytest.mark.usefixtures("heeding_hangups")


@pytest.fixture
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[socket.socket]:
    """The socket of a service manager, in a directory with a short path."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as made:
        made.bind(str(tmp_path_factory.mktemp("n") / "notify"))
        made.settimeout(20)
        yield made


def told(manager: socket.socket) -> dict[str, str]:
    """The fields of one message."""
    lines = manager.recv(4096).decode().splitlines()
    return dict(line.split("=", 1) for line in lines)


def told_of(manager: socket.socket, key: str) -> dict[str, str]:
    """The next message that has this field."""
    while key not in (found := told(manager)):
        pass
    return found


def what_is_next(manager: socket.socket) -> str:
    """The status of a daemon that has no restores to look at, as it does each five minutes for a moment."""
    statuses = (told_of(manager, "WATCHDOG")["STATUS"] for _ in range(10))
    return next(status for status in statuses if status != "runs restores")


def test_it_is_told_all_over_the_life_of_a_daemon(tmp_path: Path, manager: socket.socket) -> None:
    source = tmp_path / "source"
    source.mkdir()
    config = tmp_path / "config.toml"
    config.write_text(
        '[state]\ndir = "state"\n[[vault]]\nname = "disk"\nkind = "directory"\npath = "vault"\n'
        f'[[job]]\nname = "nightly"\nvault = "disk"\nsources = ["{source}"]\nschedule = "0 0 29 2 *"\n'
    )
    made = run("--config", config, "init", "--non-interactive", "--key-file", tmp_path / "recovery.key")
    assert made.exit_code == 0, made.output
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "1000000"}
    with running(config, environ=environ) as daemon:
        ready = told(manager)
        assert ready["READY"] == "1"
        assert what_is_next(manager).startswith("next: job nightly, 2028-02-29")
        began = time.monotonic()
        assert told_of(manager, "WATCHDOG")["WATCHDOG"] == "1"
        assert told_of(manager, "WATCHDOG")["WATCHDOG"] == "1"
        assert time.monotonic() - began < 3
        before = time.monotonic_ns() // 1000
        daemon.process.send_signal(signal.SIGHUP)
        reloading = told_of(manager, "RELOADING")
        assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        assert told_of(manager, "READY")["READY"] == "1"
        daemon.process.terminate()
        assert told_of(manager, "STOPPING")["STOPPING"] == "1"
        assert daemon.process.wait(20) == 0


def test_an_abstract_socket_is_one_too() -> None:
    name = f"nightvault-test-{os.getpid()}"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as made:
        made.bind(f"\0{name}")
        made.settimeout(5)
        Systemd.of({"NOTIFY_SOCKET": f"@{name}"}).tell("READY=1", "STATUS=ä")
        assert told(made) == {"READY": "1", "STATUS": "ä"}


@pytest.mark.parametrize("address", [None, "", "relative", "/nowhere/notify", "vsock:2:1"])
def test_without_a_manager_nothing_happens(address: str | None) -> None:
    Systemd(address).tell("READY=1")
    Systemd(address).reloading()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "300000000"}, 150.0),
        ({"WATCHDOG_USEC": "300000000", "WATCHDOG_PID": str(os.getpid())}, 150.0),
        ({"WATCHDOG_USEC": "300000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_how_often_a_sign_of_life_is_wanted(environ: dict[str, str], seconds: float | None) -> None:
    assert Systemd.of(environ).watchdog_seconds == seconds
