"""Dumps of real servers, as an ordinary user runs them: whole, equal, and any night of twenty."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.databases.real_clients import (
    CHANGE,
    HOSTILE,
    KINDS,
    OPENED,
    SERVERS,
    SETUP,
    Client,
    dumped,
    needs_mariadb,
    needs_postgresql,
    needs_redis,
    redis_client,
    rows_known,
    saving,
)
from tests.support.database_servers import PASSWORD
from tests.support.processes import watching
from tests.support.servers import Server, directory_server

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture
def server(tmp_path: Path) -> Server:
    made = directory_server(tmp_path / "server")
    made.init()
    return made


@pytest.fixture(scope="module")
def clients() -> Iterator[Callable[[str], Client]]:
    """Clients by kind; their servers are started when they are asked for first."""
    with ExitStack() as stack:
        yield cache(lambda kind: stack.enter_context(OPENED[kind]()))


@pytest.fixture
def client(request: pytest.FixtureRequest, clients: Callable[[str], Client]) -> Client:
    """That of the kind that the test is asked for."""
    return clients(request.param)


@pytest.mark.parametrize("client", KINDS, indirect=True)
def test_any_of_twenty_nights_is_equal(client: Client, server: Server, tmp_path: Path) -> None:
    client.make("shop")
    client.sql(SETUP[client.kind], "shop")
    saving(server, *client.lines, 'name = "shop"')
    states = []
    for night in range(20):
        client.sql(CHANGE[client.kind].format(night=night), "shop")
        states.append(client.state("shop"))
        assert server.backup()["outcome"] == "done"
    assert len(set(states)) == 20
    assert (2000, 2000) in rows_known(server)["shop"].values()
    for night in (0, 7, 19):
        dump = dumped(server, client.kind, "shop.dump", tmp_path / "dump", f"latest~{19 - night}")
        client.load(dump, f"back_{night}")
        assert client.state(f"back_{night}") == states[night], night


@pytest.mark.parametrize("client", SERVERS, indirect=True)
def test_all_databases_and_one_with_a_hostile_name(client: Client, server: Server, tmp_path: Path) -> None:
    client.make(HOSTILE)
    client.make("other")
    client.sql(
        "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2); CREATE TABLE left_out (a int)", "other"
    )
    saving(server, *client.lines, 'name = "all"', 'exclude_tables = ["left_*"]')
    report = server.backup()
    assert (report["outcome"], report["problems"]) == ("done", [])
    known = rows_known(server)
    assert {HOSTILE, "other"} <= known.keys()
    assert ("" in known) == (client.kind != "mysql"), "roles or accounts"
    (table,) = known["other"].items()
    assert table in {("public.t", (2, 2)), ("t", (2, 2))}
    client.load(dumped(server, client.kind, "other.dump", tmp_path / "dump"), "other_back")
    with pytest.raises(subprocess.CalledProcessError):
        client.sql("SELECT * FROM left_out", "other_back")
    assert client.sql("SELECT count(*) FROM t", "other_back") == b"2\n"


@needs_postgresql
def test_rows_are_those_of_the_moment_of_the_dump_whoever_writes(
    server: Server, clients: Callable[[str], Client], tmp_path: Path
) -> None:
    postgresql = clients("postgresql")
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
    postgresql.load(dumped(server, "postgresql", "busy.dump", tmp_path / "dump"), "busy_back")
    assert fewest == most == int(postgresql.sql("SELECT count(*) FROM orders", "busy_back"))


@needs_redis
def test_redis_is_whole(server: Server, tmp_path: Path) -> None:
    with redis_client() as client:
        client.sql(SETUP["redis"])
        saving(server, *client.lines, f"name = {json.dumps(HOSTILE)}")
        assert server.backup()["outcome"] == "done"
        assert rows_known(server)[HOSTILE] == {"db0": (2000, 2000)}
    name = quote(HOSTILE, safe="")
    dump = dumped(server, "redis", f"{name}.dump", tmp_path / "cache.rdb")
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
@needs_redis
def test_no_process_but_the_client_has_a_password(server: Server, clients: Callable[[str], Client]) -> None:
    """While dumps are made and loaded; nor does what was printed or kept have it."""
    sections = []
    for kind, row in (("postgresql", "generate_series(1, 200000)"), ("mariadb", "seq_1_to_200000")):
        clients(kind).make("large")
        clients(kind).sql(f"CREATE TABLE orders AS SELECT repeat('x', 500) AS t FROM {row} AS s", "large")
        sections += [*clients(kind).lines, 'name = "large"', "[[job.database]]"]
    saving(server, *sections, *clients("redis").lines, 'name = "cache"')
    with watching(PASSWORD) as seen:
        assert server.backup()["outcome"] == "done"
        for kind in ("postgresql", "mariadb"):
            again = ("restore", "--database", f"{kind}/large", "--as", "large_back")
            server.done(*again, "--key", server.key_file)
    loading = {"environ: psql", "environ: pg_restore", "environ: mariadb"}
    dumping = {"environ: pg_dump", "environ: mariadb-dump"}
    assert loading | dumping <= seen <= loading | dumping | {"environ: redis-cli"}
    assert not [text for text in server.printed if PASSWORD in text]
    files = [path for path in server.folder.rglob("*") if path.is_file()]
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]
