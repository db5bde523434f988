"""Real servers that refuse or die in the middle: yesterday's dump stays, and their words are told."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.databases.real_clients import KINDS, OPENED, PROGRAMS, SERVERS, SETUP, Client, dumped, saving
from tests.support.database_servers import PASSWORD
from tests.support.servers import Server, directory_server

pytestmark = [pytest.mark.real, pytest.mark.slow]
MIB = 1024 * 1024
WITH_PASSWORDS = KINDS[:-1]
LARGE = {
    "postgresql": "CREATE TABLE large AS SELECT repeat(md5(n::text), 30) FROM generate_series(1, 20000) n",
    "mariadb": "CREATE TABLE large AS SELECT repeat(md5(seq), 30) AS t FROM seq_1_to_20000",
    "redis": """EVAL "for n = 1, 20000 do local words = {} \
for i = 1, 60 do words[i] = math.random(1e9) end redis.call('set', n, table.concat(words)) end" 0\n""",
}
LARGE["mysql"] = LARGE["mariadb"]
"""What makes a dump of some ten megabytes."""
DUMPERS = {"postgresql": "pg_dump", "mariadb": "mariadb-dump", "mysql": "mysqldump", "redis": "redis-cli"}
LOADERS = {"postgresql": "pg_restore", "mariadb": "mariadb", "mysql": "mysql"}


@pytest.fixture
def server(tmp_path: Path) -> Server:
    made = directory_server(tmp_path / "server")
    made.init()
    return made


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A server of its own, which may be killed."""
    with OPENED[request.param]() as opened:
        yield opened


def saves(server: Server, lines: list[str]) -> None:
    """Have the job save its database."""
    saving(server, *lines, 'name = "shop"')


def dump_of(server: Server, client: Client, target: Path) -> bytes:
    """The newest good dump."""
    return dumped(server, client.kind, "shop.dump", target).read_bytes()


def own_clients(folder: Path, client: Client, **texts: str) -> list[str]:
    """Lines of the config by which the client's programs are those of a folder; some are scripts."""
    place = Path(PROGRAMS or "") if client.kind == "postgresql" else Path("/usr/bin")
    folder.mkdir()
    for program in ("psql", *DUMPERS.values(), *LOADERS.values()):
        real, ours = place / program, folder / program
        if program in texts:
            ours.write_text(f"#!{sys.executable} -IS\nREAL = {str(real)!r}\n{texts[program]}")
            ours.chmod(0o755)
        else:
            ours.symlink_to(real)
    return [re.sub("programs = .*", "", line) for line in client.lines] + [f'programs = "{folder}"']


KILLS = """
import os, subprocess, sys
def kill():
    children = open("/proc/{pid}/task/{pid}/children").read().split()
    for pid in [{pid}, *map(int, children)]:
        os.kill(pid, 9)
"""
DUMPS = (
    KILLS
    + """
if REAL.endswith("redis-cli") and "--rdb" not in sys.argv:
    os.execv(REAL, [REAL, *sys.argv[1:]])
real = subprocess.Popen([REAL, *sys.argv[1:]], stdout=subprocess.PIPE)
sys.stdout.buffer.write(real.stdout.read(1 << 20))
kill()
while data := real.stdout.read(1 << 16):
    sys.stdout.buffer.write(data)
sys.exit(real.wait())
"""
)
LOADS = (
    KILLS
    + """
data = sys.stdin.buffer.read(1 << 20)
real = subprocess.Popen([REAL, *sys.argv[1:]], stdin=subprocess.PIPE)
is_load = len(data) == 1 << 20
try:
    real.stdin.write(data)
    if is_load:
        kill()
    while data := sys.stdin.buffer.read(1 << 16):
        real.stdin.write(data)
    real.stdin.close()
except BrokenPipeError:
    pass
sys.exit(real.wait())
"""
)
DEATH = {
    "postgresql": "server closed the connection unexpectedly|connection to server was lost",
    "mariadb": "Lost connection|gone away",
    "mysql": "Lost connection|gone away",
    "redis": "I/O Error reading RDB payload",
}


@pytest.mark.parametrize("client", WITH_PASSWORDS, indirect=True)
def test_a_server_that_dies_while_it_is_dumped(server: Server, client: Client, tmp_path: Path) -> None:
    client.make("shop")
    client.sql(SETUP[client.kind], "shop")
    saves(server, client.lines)
    server.backup()
    before = dump_of(server, client, tmp_path / "before")
    client.sql(LARGE[client.kind], "shop")
    script = DUMPS.format(pid=client.running.process.pid)
    saves(server, own_clients(tmp_path / "own", client, **{DUMPERS[client.kind]: script}))
    (report,) = server.json("backup", "main", exit_code=3)
    (problem,) = report["problems"]
    assert re.search(DEATH[client.kind], problem["detail"]), problem
    assert problem["path"] == f"/.streams/databases/{client.kind}/shop.dump"
    assert dump_of(server, client, tmp_path / "after") == before


@pytest.mark.parametrize("client", SERVERS, indirect=True)
def test_a_server_that_dies_while_a_dump_is_loaded(server: Server, client: Client, tmp_path: Path) -> None:
    client.make("shop")
    client.sql(LARGE[client.kind], "shop")
    saves(server, client.lines)
    server.backup()
    script = LOADS.format(pid=client.running.process.pid)
    saves(server, own_clients(tmp_path / "own", client, **{LOADERS[client.kind]: script}))
    told = server.fails(1, "restore", "--database", "shop", "--as", "back", "--key", server.key_file)
    assert re.search(DEATH[client.kind], told), told
    (run, *_) = server.json("runs")
    assert (run["kind"], run["outcome"]) == ("restore", "failed")


REFUSAL = {
    "postgresql": "password authentication failed",
    "mariadb": "Access denied",
    "mysql": "Access denied",
    "redis": "WRONGPASS|AUTH failed",
}


@pytest.mark.parametrize("client", WITH_PASSWORDS, indirect=True)
def test_a_wrong_password_or_a_missing_client_leaves_yesterday_s(
    server: Server, client: Client, tmp_path: Path
) -> None:
    client.make("shop")
    client.sql(SETUP[client.kind], "shop")
    saves(server, client.lines)
    server.backup()
    before = dump_of(server, client, tmp_path / "before")

    def fails(words: str) -> None:
        (report,) = server.json("backup", "main", exit_code=3)
        (problem,) = report["problems"]
        assert re.search(words, problem["detail"]), problem
        assert dump_of(server, client, tmp_path / "after") == before
        if client.kind in LOADERS:
            again = ("restore", "--database", "shop", "--as", "back", "--key", server.key_file)
            assert re.search(words, server.fails(1, *again))

    client.running.password_file.write_text("wrong-one")
    fails(REFUSAL[client.kind])
    assert not [text for text in server.printed if PASSWORD in text or "wrong-one" in text]
    client.running.password_file.write_text(PASSWORD)
    (tmp_path / "none").mkdir()
    lines = [re.sub("programs = .*", "", line) for line in client.lines]
    saves(server, [*lines, f'programs = "{tmp_path}/none"'])
    fails(f"{tmp_path}/none/.*: No such file or directory")
    assert f"there is no program {tmp_path}/none/" in server.done("config", "check").stderr


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_writer_of_sqlite_that_dies_in_a_transaction(server: Server, tmp_path: Path, mode: str) -> None:
    """What it had not committed is in no dump, though it lies in the file already."""
    file = tmp_path / "shop.db"
    with closing(sqlite3.connect(file)) as database, database:
        database.execute(f"PRAGMA journal_mode = {mode}")
        database.execute("CREATE TABLE t (a TEXT)")
        database.execute("INSERT INTO t VALUES ('a row')")
    writer = """import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("PRAGMA cache_size = 1")
for n in range(2000): database.execute("INSERT INTO t VALUES (?)", ("x" * 5000,))
os.kill(os.getpid(), 9)"""
    assert subprocess.run([sys.executable, "-c", writer, file], check=False).returncode == -signal.SIGKILL
    assert os.path.getsize(f"{file}{'-wal' if mode == 'wal' else '-journal'}")
    saving(server, 'kind = "sqlite"', 'name = "shop"', f'path = "{file}"')
    (report,) = server.json("backup", "main", exit_code=0 if mode == "wal" else 3)
    if mode == "delete":
        (problem,) = report["problems"]
        assert "a writer has died in a transaction" in problem["detail"]
        with closing(sqlite3.connect(file)) as database:
            database.execute("SELECT * FROM t").fetchall()
        server.backup()
    back = dumped(server, "sqlite", "shop.dump", tmp_path / "back.db")
    with closing(sqlite3.connect(back)) as database:
        assert database.execute("SELECT a FROM t").fetchall() == [("a row",)]
