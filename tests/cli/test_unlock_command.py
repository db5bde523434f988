"""`nightvault unlock`: who holds locks is shown; that of backups is taken away by force alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backup.errors import ExitCode
from backup.inventory.store.locks import hold_lock, share_opening
from tests.support.emulated import REPOSITORY
from tests.support.servers import Server, directory_server

HOLD = """
import sys, time
from backup.inventory.store.locks import hold_lock
with hold_lock(sys.argv[1], sys.argv[2]):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def holding(server: Server, name: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(server.state), name],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = directory_server(tmp_path / "server")
    server.init()
    return server


def test_nobody_holds_a_lock(server: Server) -> None:
    assert "no process holds a lock" in server.done("unlock").stdout
    assert server.json("unlock", "--force") == {"locks": [], "taken": False}


def test_who_holds_which_lock(server: Server) -> None:
    with holding(server, "backup") as process:
        (one,) = server.json("unlock")["locks"]
        assert (one["lock"], one["process"], one["suspended"]) == ("backup", process.pid, False)
        assert "hold_lock" in one["command"]
        os.kill(process.pid, signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        assert "suspended" in server.done("unlock").stdout
        assert server.run("backup", "main").exit_code == ExitCode.LOCKED, "a look takes nothing away"


def test_who_keeps_others_from_writing_to_the_inventory(server: Server) -> None:
    code = (
        "import sqlite3, sys; it = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "it.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.readline()"
    )
    words = [sys.executable, "-c", code, str(server.state / "inventory.sqlite")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        (one,) = server.json("unlock")["locks"]
        process.communicate("end\n")
    assert (one["lock"], one["process"]) == ("inventory", process.pid)
    assert server.json("unlock")["locks"] == []


def test_force_lets_the_next_backup_run(server: Server) -> None:
    with holding(server, "backup") as process:
        result = server.done("unlock", "--force")
        assert str(process.pid) in result.stdout
        assert "records nothing more" in result.stderr + result.stdout
        server.backup()
        assert server.json("unlock")["locks"] == []


def test_other_locks_are_not_taken(server: Server) -> None:
    with holding(server, "check"):
        assert server.json("unlock", "--force")["taken"] is False
        with pytest.raises(Exception, match="another check"), hold_lock(str(server.state), "check"):
            pass


def test_a_rebuild_is_not_robbed(server: Server) -> None:
    """It would put its inventory in the place of another's."""
    with holding(server, "backup"), holding(server, "open") as process:
        result = server.run("unlock", "--force")
        assert result.exit_code == ExitCode.LOCKED
        assert str(process.pid) in result.stderr
        assert server.json("unlock")["locks"][0]["lock"] == "backup"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_an_inventory_that_may_only_be_read(server: Server) -> None:
    with holding(server, "backup"):
        os.chmod(server.state, 0o500)
        try:
            assert server.json("unlock")["locks"][0]["lock"] == "backup"
            assert server.run("unlock", "--force").exit_code == ExitCode.FAILED
        finally:
            os.chmod(server.state, 0o700)
        assert server.run("backup", "main").exit_code == ExitCode.LOCKED


def test_opening_is_shared_meanwhile(server: Server) -> None:
    """A process that has the inventory open, as a restore does, is no hindrance."""
    with holding(server, "backup"), share_opening(str(server.state)):
        assert server.json("unlock", "--force")["taken"] is True
