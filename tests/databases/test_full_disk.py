"""A full disk in the way of a dump, of a restore, of a drill: yesterday's stays, and what is full is told."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.databases.fake_clients import Clients
from tests.support.servers import Server, directory_server

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
MIB = 1024 * 1024
APP = "/.streams/databases/sqlite/app.dump"
SHOP = "/.streams/databases/postgresql/shop.dump"
DRILL = '\n[[drill]]\nname = "databases"\nvault = "cold"\nload = true\n'


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of that size in place of a folder."""
    folder.mkdir(exist_ok=True)
    if os.system(f"mount -t tmpfs -o size={size},mode=0700 tmpfs {folder} 2>/dev/null"):
        pytest.skip("no small disk can be mounted here")
    try:
        yield folder
    finally:
        assert os.system(f"umount {folder}") == 0


@pytest.fixture
def clients(tmp_path: Path) -> Clients:
    return Clients(tmp_path / "clients")


@pytest.fixture
def server(tmp_path: Path, clients: Clients) -> Server:
    """A server that has saved a file of SQLite, and a database of PostgreSQL, each of one row."""
    made = directory_server(tmp_path / "server")
    made.init()
    with closing(sqlite3.connect(tmp_path / "app.db")) as database, database:
        database.execute("CREATE TABLE t (a)")
        database.execute("INSERT INTO t VALUES ('a row')")
    file = f'[[job.database]]\nkind = "sqlite"\nname = "app"\npath = "{tmp_path}/app.db"\n'
    made.config.write_text(made.config.read_text() + clients.section('name = "shop"') + file + DRILL)
    assert made.backup()["outcome"] == "done"
    return made


def rows_of_app(server: Server) -> int:
    """The rows of the newest good dump of SQLite."""
    back = server.folder / "back.db"
    words = ("--to-file", back, "--overwrite", "always", "--key", server.key_file)
    server.done("restore", "--database", "app", *words)
    with closing(sqlite3.connect(back)) as database:
        (count,) = database.execute("SELECT count(*) FROM t").fetchone()
    return int(count)


def shop(server: Server) -> str:
    """The newest good dump of PostgreSQL."""
    return server.done("dump", f"latest:{SHOP}", "--key", server.key_file).stdout


def grow(tmp_path: Path) -> None:
    """Another row of SQLite, of eight megabytes that do not compress."""
    with closing(sqlite3.connect(tmp_path / "app.db")) as database, database:
        database.execute("INSERT INTO t VALUES (?)", (os.urandom(8 * MIB),))


def test_the_spool_has_no_room_for_the_copy_of_sqlite(
    server: Server, clients: Clients, tmp_path: Path
) -> None:
    grow(tmp_path)
    clients.holds("another row\n")
    with small_disk(server.state / "spool", "4m") as spool:
        (report,) = server.json("backup", "main", exit_code=3)
        assert not list(spool.glob("sqlite-*"))
    (problem,) = report["problems"]
    told = f"its copy has no room in {server.state}/spool: database or disk is full"
    assert (report["outcome"], problem["path"], problem["detail"]) == ("partial", APP, told)
    assert (rows_of_app(server), shop(server)) == (1, "PGDMP of shop\nanother row\n")
    assert server.backup()["outcome"] == "done"
    assert rows_of_app(server) == 2


def test_the_state_folder_is_full_while_a_dump_is_read(
    server: Server, clients: Clients, tmp_path: Path
) -> None:
    """Then nothing can be kept of the run, and it has failed; all that was good stays so."""
    much = "sys.stdout.write('PGDMP'); sys.stdout.flush()\n"
    clients.dumps(f"{much}for n in range(64): sys.stdout.buffer.write(os.urandom({MIB}))")
    away = tmp_path / "away"
    server.state.rename(away)
    with small_disk(server.state, "24m"):
        assert os.system(f"cp -a {away}/. {server.state}/") == 0
        told = server.fails(1, "backup", "main")
        assert f"the spool file {server.state}/spool/" in told
        assert "No space left on device" in told
        assert [run["outcome"] for run in server.json("runs")] == ["failed", "done"]
        assert (rows_of_app(server), shop(server)) == (1, "PGDMP of shop\na row\n")
        clients.dumps("")
        assert server.backup()["outcome"] == "done"


@pytest.mark.parametrize("words", [("shop", "--to-file"), ("app", "--as")])
def test_the_target_of_a_restore_is_full(
    server: Server, clients: Clients, tmp_path: Path, words: tuple[str, str]
) -> None:
    grow(tmp_path)
    clients.holds("a row\n" * MIB)
    server.backup()
    name, option = words
    with small_disk(tmp_path / "target", "2m") as target:
        again = ("restore", "--database", name, option, target / "file", "--key", server.key_file)
        told = server.fails(1, *again)
        assert not list(target.iterdir())
        (run, *_) = server.json("runs")
        (row, *_) = server.run("runs").stdout.rpartition("\nrun ")[2:]
        why = f"{target}/file cannot be written: No space left on device"
        assert (run["outcome"], why in told, why in row) == ("failed", True, True)
        assert os.system(f"mount -o remount,size=16m {target}") == 0
        server.done(*again)
        assert (target / "file").stat().st_size > 6 * MIB


def test_the_scratch_of_a_drill_is_full(server: Server, tmp_path: Path) -> None:
    grow(tmp_path)
    server.backup()
    with small_disk(server.state / "drills", "2m") as scratch:
        told = server.fails(16, "drill", "run", "--key", server.key_file)
        assert f"{scratch}/3/0 has room for 2.0 MiB, but 8.0 MiB would be written" in told
    report = server.json("drill", "run", "--key", server.key_file, exit_code=3)
    assert [(dump["database"], dump["rows"]) for dump in report["loaded"]] == [("app", 2)]
    assert not (server.state / "drills").exists()
