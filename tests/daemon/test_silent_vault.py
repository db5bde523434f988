"""A vault that takes connections and never answers: the daemon ends in time whatever it asked of it."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from backup.app.base.clock import SystemClock
from tests.support.command_line import run
from tests.support.doubles import ManualClock
from tests.support.emulated import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, RunningEmulator
from tests.support.forgets import three_nights
from tests.support.real_daemons import following, running
from tests.support.rigs import s3_client
from tests.support.servers import directory_server, replace

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "none", "AWS_MAX_ATTEMPTS": "1"}
TASKS = {
    "job main": ("", 'schedule = "every 1h"'),
    "check of vault cold": ('check = "every 1h"', ""),
    "prune of vault cold": ('prune = "every 1h"', ""),
}


@pytest.fixture
def silent() -> Iterator[tuple[int, threading.Event]]:
    """The port of a server that never answers, and whether somebody has asked it."""
    asked = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    taken: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                taken.append(connection)
                connection.recv(1)
                asked.set()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listening.getsockname()[1], asked
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    for connection in taken:
        connection.close()
    thread.join(10)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_it_ends_in_time_although_the_vault_does_not_answer(
    tmp_path: Path, silent: tuple[int, threading.Event], task: str
) -> None:
    port, asked = silent
    of_vault, of_job = TASKS[task]
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("content")
    config = tmp_path / "config.toml"
    text = (
        '[state]\ndir = "state"\n[[vault]]\nname = "cold"\nkind = "directory"\npath = "vault"\n'
        f'[[job]]\nname = "main"\nvault = "cold"\nsources = ["{source}"]\n{of_job}\n'
    )
    config.write_text(text)
    made = run("--config", config, "init", "--non-interactive", "--key-file", tmp_path / "recovery.key")
    assert made.exit_code == 0, made.output
    away = (
        f'kind = "s3"\nregion = "eu-central-1"\nbucket = "frozen"\nendpoint = "http://127.0.0.1:{port}"\n'
        f"path_style = true\n{of_vault}\n"
    )
    config.write_text(text.replace('kind = "directory"\npath = "vault"\n', away))
    with running(config, environ=KEYS) as daemon:
        daemon.wait_for(f"{task}: begins")
        assert asked.wait(30)
        assert daemon.stop() < 10
        assert f"{task}: dropped, as it did not end in 8 s" in "\n".join(daemon.lines)


@pytest.mark.slow
def test_it_ends_in_time_although_a_restore_waits_for_such_a_vault(
    tmp_path: Path,
    silent: tuple[int, threading.Event],
    emulator: RunningEmulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port, asked = silent
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
    s3_client(emulator.s3_url).create_bucket(
        Bucket="falls-silent", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    server = directory_server(tmp_path, clock=SystemClock())
    bucket = f'kind = "s3"\nregion = "{REGION}"\nbucket = "falls-silent"\npath_style = true\n'
    server.write_config(f'[[vault]]\nname = "cold"\n{bucket}endpoint = "{emulator.s3_url}"\n')
    server.init()
    server.backup()
    server.waits("restore", "latest", "--target", tmp_path / "back", "--key", server.key_file)
    replace(server, emulator.s3_url, f"http://127.0.0.1:{port}")
    with running(server.config) as daemon:
        daemon.wait_for("started with")
        assert asked.wait(30)
        assert daemon.stop() < 10
        assert "restores: dropped, as it did not end in 8 s" in "\n".join(daemon.lines)
    assert [restore["state"] for restore in server.json("restores")] == ["open"]


DELETING = """
import os, sys, threading
from backup.cli import main
from backup.vault.directory import DirectoryVault

def never_ends(*_):
    os.write(2, b"deleting\\n")  # at once: other threads write, too
    threading.Event().wait(600)

DirectoryVault.delete_archives = never_ends
main(["--config", sys.argv[1], "daemon"])
"""


@pytest.mark.slow
def test_it_ends_in_time_although_a_prune_deletes(tmp_path: Path) -> None:
    """A disk that hangs in the midst of it: nothing in this process can end that, but its end."""
    clock = ManualClock(SystemClock().now() - timedelta(days=30))
    server = directory_server(tmp_path, clock=clock)
    server.init()
    three_nights(server)
    server.done("prune")
    replace(server, 'kind = "directory"', 'kind = "directory"\nprune = "every 1h"')
    replace(server, 'schedule = "every 6h"\n', "")
    command = [sys.executable, "-c", DELETING, str(server.config)]
    with following(command) as daemon:
        daemon.wait_for("prune of vault cold: begins")
        daemon.wait_for("deleting")
        assert daemon.stop() < 10
        assert "prune of vault cold: dropped, as it did not end in 8 s" in "\n".join(daemon.lines)
    with running(server.config) as daemon:
        daemon.wait_for("prune of vault cold: done in")
        daemon.stop()
    assert server.json("runs")[0]["report"]["deleted"]["archives"] == 1
