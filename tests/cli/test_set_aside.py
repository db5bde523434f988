"""`rebuild --set-aside` is alone on the state, moves all of it or nothing, and is in nobody's way after."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from backup.app.base.opened import opened
from backup.app.rebuilds.set_aside import alone_on_state
from backup.config import load_config
from backup.format.keys import RecoveryKey, plain_key_file
from backup.inventory.store.database import Inventory
from backup.model import MIB
from tests.support.doubles import ManualClock
from tests.support.servers import Server
from tests.support.trees import assert_same_tree


def wait_until(seen: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def open_here(server: Server) -> Inventory:
    return opened(load_config(str(server.config)))


def asides(server: Server) -> list[str]:
    return sorted(path.name for path in server.state.rglob("*.aside-*"))


def again(server: Server) -> tuple[object, ...]:
    return "rebuild", "--set-aside", "--key", server.key_file


def test_a_running_backup_keeps_its_inventory(server: Server, tmp_path: Path) -> None:
    """It never reports a snapshot that is nowhere."""
    server.backup()
    (server.source / "large.bin").write_bytes(os.urandom(16 * MIB))
    with server.process("--json", "backup") as first:
        wait_until(lambda: len(server.json("runs")) == 2)
        first.send_signal(signal.SIGSTOP)
        for words in (again(server), ("rebuild", "--key", server.key_file)):
            told = server.fails(11, *words)
            assert "another backup is running" in told
        assert asides(server) == []
        first.send_signal(signal.SIGCONT)
        assert first.wait(60) == 0
    assert len(server.json("snapshots")) == 2
    server.done(*again(server))
    assert len(server.json("snapshots")) == 2
    assert_same_tree(server.restore(tmp_path / "out"), server.source)


def test_a_backup_that_was_killed_locks_nothing(server: Server) -> None:
    """Lock files stay behind, and mean nothing."""
    server.backup()
    (server.source / "large.bin").write_bytes(os.urandom(16 * MIB))
    with server.process("backup") as first:
        wait_until(lambda: len(server.json("runs")) == 2)
        first.kill()
    (server.state / "restore-0123456789abcdef.lock").touch()
    server.done(*again(server))
    assert not list(server.state.glob("restore-*.lock"))
    server.backup()


def test_whoever_has_it_open_is_named(server: Server) -> None:
    """Otherwise restores and checks would record what they did in a file that nobody reads."""
    server.backup()
    with closing(open_here(server)):
        told = server.fails(11, *again(server))
        assert f"open in another process ({os.getpid()})" in told
        assert asides(server) == []
    server.done(*again(server))


def test_an_idle_daemon_is_in_nobody_s_way(server: Server) -> None:
    """It opens the inventory anew for each run."""
    with server.process("--verbose", "daemon") as daemon:
        assert daemon.stderr is not None
        while "done in" not in daemon.stderr.readline():
            assert daemon.poll() is None
        server.done(*again(server))
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(60) == 0
    assert len(server.json("snapshots")) == 1
    server.backup()


def test_what_cannot_be_rebuilt_is_put_back(server: Server, tmp_path: Path) -> None:
    """A mistyped word does not cost a server that is well its inventory."""
    server.backup()
    before = server.json("key", "status")
    other = tmp_path / "other.key"
    other.write_bytes(plain_key_file(RecoveryKey(b"w" * 32)))
    told = server.fails(12, "rebuild", "--set-aside", "--key", other, "--trust-vault")
    assert "is back in its place" in told
    assert asides(server) == []
    assert server.json("key", "status") == before
    assert server.backup()["bytes_new"] == 0
    shutil.move(tmp_path / "vault", tmp_path / "away")
    assert "is back in its place" in server.run(*again(server)).stderr
    shutil.move(tmp_path / "away", tmp_path / "vault")
    server.done(*again(server))
    assert len(server.json("snapshots")) == 2, "no list of before was kept"


def test_what_was_moved_can_be_opened_and_is_never_written_over(server: Server) -> None:
    """The log keeps a name under which SQLite looks for it."""
    snapshot = server.backup()["snapshot"]
    database = server.state / "inventory.sqlite"
    with sqlite3.connect(database) as db:
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("UPDATE snapshots SET host = 'from-the-log'")
        db.commit()
        log, base = Path(f"{database}-wal").read_bytes(), database.read_bytes()
    db.close()
    database.write_bytes(base)
    Path(f"{database}-wal").write_bytes(log)
    for _ in range(3):  # by a clock that stands still
        server.done(*again(server))
    files = [
        path
        for path in server.state.glob("inventory.sqlite.aside-*")
        if path.name[-4:] not in ("-wal", "-shm")
    ]
    assert len(files) == 3
    assert len(list((server.state / "keys").glob("signer.aside-*"))) == 3
    first = min(files, key=lambda path: len(path.name))
    with sqlite3.connect(first) as db:
        assert db.execute("SELECT id, host FROM snapshots").fetchall() == [(snapshot, "from-the-log")]
    db.close()


def test_nobody_begins_anew_while_a_rebuild_is_at_work(server: Server) -> None:
    """If `init` drew other keys, the rebuild would be refused at its end."""
    server.backup()
    shutil.rmtree(server.state)
    with alone_on_state(load_config(str(server.config)), ManualClock()):
        words = ("init", "--non-interactive", "--new-history", "--key-file", server.folder / "new.key")
        assert "or a rebuild" in server.fails(11, *words)
        assert "or a rebuild" in server.fails(11, "rebuild", "--key", server.key_file)
    assert not (server.state / "keys" / "signer").exists()
    server.done("rebuild", "--key", server.key_file)
