"""`nightvault inventory`: copies while a backup runs, checks of it and of copies, a smaller file."""

from __future__ import annotations

import signal
import sqlite3
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.doubles import ManualClock
from tests.support.servers import Server, directory_server

STALLS = '[[job.command]]\nname = "slow"\nrun = ["/bin/sleep", "60"]\n'


@pytest.fixture
def server(tmp_path: Path) -> Server:
    made = directory_server(tmp_path)
    made.init()
    made.backup()
    return made


def test_a_copy_is_made_while_a_backup_runs_and_a_vacuum_is_not(server: Server, tmp_path: Path) -> None:
    (server.source / "new").write_bytes(b"new" * 10_000)
    server.config.write_text(server.config.read_text() + STALLS)
    copy = tmp_path / "copy.sqlite"
    with server.process("backup", "main") as process:
        deadline = time.monotonic() + 60
        while not (running := server.json("status", exit_code=1)["running"]):
            assert time.monotonic() < deadline
            assert process.poll() is None
        assert server.json("inventory", "backup", copy) == {
            "file": str(copy), "bytes": copy.stat().st_size, "removed": [],
        }  # fmt: skip
        server.fails(11, "inventory", "vacuum")
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    server.done("inventory", "verify", copy)
    with closing(sqlite3.connect(copy)) as found:
        query = "SELECT outcome FROM runs WHERE number = ?"
        assert found.execute(query, [running[0]["run"]]).fetchone() == ("running",)


def test_of_copies_in_the_state_directory_the_newest_stay(server: Server) -> None:
    clock = server.clock
    assert isinstance(clock, ManualClock)
    made = []
    for _ in range(4):
        made.append(Path(server.json("inventory", "backup", "--keep", "2")["file"]))
        clock.advance(timedelta(days=1))
    mine = made[0].parent / "mine.sqlite"
    server.done("inventory", "backup", mine)
    last = server.json("inventory", "backup", "--keep", "1")
    assert last["removed"] == [str(path) for path in made[2:]]
    assert sorted(made[0].parent.iterdir()) == sorted([Path(last["file"]), mine])


def test_verify_says_what_is_wrong(server: Server, tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite"
    server.done("inventory", "backup", copy)
    with closing(sqlite3.connect(copy)) as found, found:
        found.execute("UPDATE entries SET size = size + 1 WHERE size > 1000")
    document = server.json("inventory", "verify", copy, exit_code=1)
    assert document["outcome"] == "failed"
    assert document["findings"]
    well = server.json("inventory", "verify")
    assert (well["outcome"], well["findings"]) == ("done", [])
    assert server.json("runs")[0]["kind"] == "check"
    copy.write_bytes(copy.read_bytes()[:8192])
    told = server.run("inventory", "verify", copy)
    assert told.exit_code == 1
    assert "Traceback" not in told.output
    advice = server.fails(10, "inventory", "verify", tmp_path / "none")
    assert "nightvault inventory backup" in advice
    assert "nightvault init" not in advice


def test_a_copy_of_other_keys_or_another_time_is_checked_as_a_file(server: Server, tmp_path: Path) -> None:
    other = directory_server(tmp_path / "other")
    other.init()
    theirs, old = tmp_path / "theirs.sqlite", tmp_path / "old.sqlite"
    other.done("inventory", "backup", theirs)
    assert "an inventory with other keys: its file" in server.done("inventory", "verify", theirs).stderr
    server.done("inventory", "backup", old)
    with closing(sqlite3.connect(old)) as found, found:
        found.execute("UPDATE alembic_version SET version_num = '0003'")
    assert "an older nightvault: its file" in server.done("inventory", "verify", old).stderr
    with closing(sqlite3.connect(old)) as found, found:
        found.execute("UPDATE alembic_version SET version_num = '9999'")
    assert server.json("inventory", "verify", old, exit_code=1)["error"]["kind"] == "inventory-newer"


def test_a_vacuum_tells_before_and_after(server: Server) -> None:
    sizes = server.json("inventory", "vacuum")
    assert sizes["before"] >= sizes["after"] == (server.state / "inventory.sqlite").stat().st_size
    assert server.json("inventory", "verify")["outcome"] == "done"
    assert server.backup()["outcome"] == "done"
