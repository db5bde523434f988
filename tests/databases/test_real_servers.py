"""Dumps of real servers, as an ordinary user runs them: whole, equal, and any night of twenty."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.databases.real_clients import (
    CHANGE,
    HOSTILE,
    PROGRAMS,
    SETUP,
    MariaDBClient,
    PostgreSQLClient,
    dumped,
    mariadb_client,
    needs_mariadb,
    needs_postgresql,
    needs_redis,
    postgresql_client,
    rows_known,
    saving,
)
from tests.support import database_servers
from tests.support.database_servers import PASSWORD
from tests.support.processes import environments_and_words
from tests.support.servers import Server, directory_server

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture
def server(tmp_path: Path) -> Server:
    made = directory_server(tmp_path / "server")
    made.init()
    return made


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQLClient]:
    with postgresql_client() as client:
        yield client


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariaDBClient]:
    with mariadb_client() as client:
        yield client


def load(client: PostgreSQLClient | MariaDBClient, dump: Path, name: str) -> None:
    """Load a dump into a new database, by the clients alone."""
    client.make(name)
    if isinstance(client, PostgreSQLClient):
        client.run("pg_restore", "--exit-on-error", "-d", name, dump)
    else:
        client.run("mariadb", f"--database={name}", typed=dump.read_bytes())


@pytest.mark.parametrize(
    "kind", [pytest.param("postgresql", marks=needs_postgresql), pytest.param("mariadb", marks=needs_mariadb)]
)
def test_any_of_twenty_nights_is_equal(
    kind: str, server: Server, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    client: PostgreSQLClient | MariaDBClient = request.getfixturevalue(kind)
    client.make("shop")
    client.sql(SETUP[kind], "shop")
    saving(server, *client.lines, 'name = "shop"')
    states = []
    for night in range(20):
        client.sql(CHANGE[kind].format(night=night), "shop")
        states.append(client.state("shop"))
        assert server.backup()["outcome"] == "done"
    assert next(iter(rows_known(server)["shop"].values())) == (0, 0)
    for night in (0, 7, 19):
        dump = dumped(server, kind, "shop.dump", tmp_path / "dump", f"latest~{19 - night}")
        load(client, dump, f"back_{night}")
        assert client.state(f"back_{night}") == states[night], night


@pytest.mark.parametrize(
    "kind", [pytest.param("postgresql", marks=needs_postgresql), pytest.param("mariadb", marks=needs_mariadb)]
)
def test_all_databases_and_one_with_a_hostile_name(
    kind: str, server: Server, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    client: PostgreSQLClient | MariaDBClient = request.getfixturevalue(kind)
    client.make(HOSTILE)
    client.make("other")
    client.sql(
        "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2); CREATE TABLE left_out (a int)", "other"
    )
    saving(server, *client.lines, 'name = "all"', 'exclude_tables = ["left_*"]')
    report = server.backup()
    assert (report["outcome"], report["problems"]) == ("done", [])
    known = rows_known(server)
    assert {"", HOSTILE, "other"} <= known.keys()
    (table,) = known["other"].items()
    assert table in {("public.t", (2, 2)), ("t", (2, 2))}
    load(client, dumped(server, kind, "other.dump", tmp_path / "dump"), "other_back")
    with pytest.raises(subprocess.CalledProcessError):
        client.sql("SELECT * FROM left_out", "other_back")
    assert client.sql("SELECT count(*) FROM t", "other_back") == b"2\n"


@needs_postgresql
def test_a_server_that_dies_or_a_wrong_password_leaves_yesterday_s(server: Server, tmp_path: Path) -> None:
    assert PROGRAMS is not None
    with database_servers.postgresql(PROGRAMS) as running:
        client = PostgreSQLClient(running)
        client.make("shop")
        client.sql(
            "CREATE TABLE orders AS SELECT g AS id, repeat('x', 1000) AS t FROM generate_series(1, 50000) g",
            "shop",
        )
        saving(server, *client.lines, 'name = "shop"')
        server.backup()
        before = dumped(server, "postgresql", "shop.dump", tmp_path / "before").read_bytes()
        running.password_file.write_text("wrong-one")
        result = server.run("--json", "backup", "main")
        assert (result.exit_code, "password authentication failed" in result.stdout) == (3, True)
        running.password_file.write_text(PASSWORD)
        killer = threading.Timer(0.4, running.kill)
        client.sql("INSERT INTO orders SELECT g, md5(g::text) FROM generate_series(1, 3000000) g", "shop")
        killer.start()
        result = server.run("--json", "backup", "main")
        killer.join()
        assert result.exit_code == 3, result.stdout
        assert dumped(server, "postgresql", "shop.dump", tmp_path / "after").read_bytes() == before


@needs_postgresql
def test_rows_are_those_of_the_moment_of_the_dump_whoever_writes(
    server: Server, postgresql: PostgreSQLClient, tmp_path: Path
) -> None:
    postgresql.make("busy")
    postgresql.sql(
        "CREATE TABLE orders (id int); INSERT INTO orders SELECT generate_series(1, 100000)", "busy"
    )
    saving(server, *postgresql.lines, 'name = "busy"')
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            postgresql.sql("INSERT INTO orders SELECT generate_series(1, 500)", "busy")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        server.backup()
    finally:
        over.set()
        writer.join()
    ((_, (fewest, most)),) = rows_known(server)["busy"].items()
    load(postgresql, dumped(server, "postgresql", "busy.dump", tmp_path / "dump"), "busy_back")
    assert fewest == most == int(postgresql.sql("SELECT count(*) FROM orders", "busy_back"))


@needs_redis
def test_redis_is_whole(server: Server, tmp_path: Path) -> None:
    with database_servers.redis() as running:
        environment = {"REDISCLI_AUTH": PASSWORD, "PATH": os.environ["PATH"]}
        client = ["redis-cli", "-s", running.host]
        typed = b"".join(b"set key%d %d\n" % (number, number) for number in range(1000))
        subprocess.run(client, input=typed, env=environment, check=True, capture_output=True)
        lines = ['kind = "redis"', 'name = "cache"', f'host = "{running.host}"']
        saving(server, *lines, f'password_file = "{running.password_file}"')
        assert server.backup()["outcome"] == "done"
        assert rows_known(server)["cache"] == {"db0": (1000, 1000)}
        running.password_file.write_text("wrong-one")
        result = server.run("--json", "backup", "main")
        assert (result.exit_code, "AUTH failed" in result.stdout or "NOAUTH" in result.stdout) == (3, True)
    dump = dumped(server, "redis", "cache.dump", tmp_path / "cache.rdb")
    assert subprocess.run(["redis-check-rdb", dump], check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_sqlite_is_whole_though_a_writer_never_stops(server: Server, tmp_path: Path, mode: str) -> None:
    file = tmp_path / "app.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute(f"PRAGMA journal_mode={mode}")
        database.execute("CREATE TABLE pairs (a INTEGER PRIMARY KEY, b INTEGER, pad TEXT)")
        database.executemany("INSERT INTO pairs VALUES (?, ?, ?)", ((n, n, "x" * 500) for n in range(20_000)))
        database.commit()
    saving(server, 'kind = "sqlite"', 'name = "app"', f'path = "{file}"')
    with subprocess.Popen([sys.executable, "-c", WRITER, str(file)], stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout is not None
            writer.stdout.readline()
            for _ in range(3):
                assert server.backup()["outcome"] == "done"
        finally:
            writer.kill()
    back = dumped(server, "sqlite", "app.dump", tmp_path / "back.db")
    with closing(sqlite3.connect(back)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("SELECT count(*) FROM pairs WHERE a <> b").fetchone() == (0,)
        (count,) = database.execute("SELECT count(*) FROM pairs").fetchone()
    assert rows_known(server)["app"] == {"pairs": (count, count)}
    assert not list((server.state / "spool").glob("sqlite-*"))


WRITER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=60)
n = 100000
while True:
    with database:
        database.executemany("INSERT INTO pairs VALUES (?, ?, 'y')", [(n + i, n + i) for i in range(10)])
    n += 10
    if n == 100050: print("begun", flush=True)
"""


@needs_postgresql
@needs_mariadb
def test_no_process_but_the_client_has_a_password(
    server: Server, postgresql: PostgreSQLClient, mariadb: MariaDBClient
) -> None:
    postgresql.make("large")
    postgresql.sql(
        "CREATE TABLE orders AS SELECT g AS id, repeat('x', 500) AS t FROM generate_series(1, 200000) g",
        "large",
    )
    mariadb.make("large")
    mariadb.sql(
        "CREATE TABLE orders AS SELECT seq AS id, repeat('x', 500) AS t FROM seq_1_to_200000", "large"
    )
    saving(server, *postgresql.lines, 'name = "large"', "[[job.database]]", *mariadb.lines, 'name = "large"')
    seen: set[str] = set()
    over = threading.Event()

    def watch(look: Callable[[], Iterator[tuple[list[str], str]]] = environments_and_words) -> None:
        while not over.wait(0.02):
            for words, environment in look():
                seen.update(["a command line"] if any(PASSWORD in word for word in words) else ())
                seen.update([Path(words[0]).name] if PASSWORD in environment else ())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        assert server.backup()["outcome"] == "done"
    finally:
        over.set()
        watcher.join()
    assert {"pg_dump", "mariadb-dump"} <= seen <= {"pg_dump", "psql", "mariadb-dump", "mariadb"}
    assert not [text for text in server.printed if PASSWORD in text]
    files = [path for path in server.folder.rglob("*") if path.is_file()]
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]
