"""Dumps go back into real servers: equal, refused where something is, and never half."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.databases.real_clients import (
    HOSTILE,
    SETUP,
    Client,
    mariadb_client,
    needs_mariadb,
    needs_postgresql,
    postgresql_client,
    saving,
)
from tests.support.servers import Server, directory_server

pytestmark = [pytest.mark.real, pytest.mark.slow]

BOTH = pytest.mark.parametrize(
    "client",
    [pytest.param("postgresql", marks=needs_postgresql), pytest.param("mariadb", marks=needs_mariadb)],
    indirect=True,
)


@pytest.fixture(scope="module")
def clients() -> Iterator[dict[str, Client]]:
    """Servers that are started when they are asked for first."""
    with postgresql_client() as postgresql, mariadb_client() as mariadb:
        yield {"postgresql": postgresql, "mariadb": mariadb}


@pytest.fixture
def client(request: pytest.FixtureRequest, clients: dict[str, Client]) -> Client:
    return clients[request.param]


@pytest.fixture
def server(tmp_path: Path) -> Server:
    made = directory_server(tmp_path / "server")
    made.init()
    return made


def restored(server: Server, *words: object) -> None:
    """Load a dump; it must be done."""
    server.done("restore", "--database", *words, "--key", server.key_file)


@BOTH
def test_a_database_comes_back_beside_itself_and_in_its_place(client: Client, server: Server) -> None:
    client.make("shop")
    client.sql(SETUP[client.kind], "shop")
    saving(server, *client.lines, 'name = "all"')
    before = client.state("shop")
    assert server.backup()["outcome"] == "done"
    restored(server, "shop", "--as", "shop_back")
    assert client.state("shop_back") == before
    client.sql("DELETE FROM orders; DROP VIEW v; CREATE TABLE later (a int)", "shop")
    told = server.fails(2, "restore", "--database", "shop", "--key", server.key_file)
    assert "shop" in told
    assert "is not empty: it has" in told
    assert "--overwrite always" in told
    restored(server, "shop", "--overwrite", "always")
    assert client.state("shop") == before


@BOTH
def test_one_table_comes_back_alone(client: Client, server: Server) -> None:
    client.make("tables")
    client.sql(SETUP[client.kind] + "CREATE TABLE other (a int); INSERT INTO other VALUES (1);", "tables")
    saving(server, *client.lines, 'name = "tables"')
    server.backup()
    client.sql("DROP VIEW v; DELETE FROM orders; INSERT INTO other VALUES (2)", "tables")
    restored(server, "tables", "--table", "orders", "--overwrite", "always")
    assert client.sql("SELECT count(*) FROM orders", "tables") == b"2000\n"
    assert client.sql("SELECT count(*) FROM other", "tables") == b"2\n"
    restored(server, "tables", "--table", "other", "--as", "other_alone")
    assert client.sql("SELECT count(*) FROM other", "other_alone") == b"1\n"


@BOTH
def test_a_hostile_name_goes_out_and_in(client: Client, server: Server) -> None:
    client.make(HOSTILE)
    client.sql("CREATE TABLE t (a int); INSERT INTO t VALUES (7)", HOSTILE)
    saving(server, *client.lines, 'name = "all"')
    server.backup()
    other = f"--{HOSTILE}"
    restored(server, HOSTILE, f"--as={other}", "--globals")
    assert client.sql("SELECT a FROM t", other) == b"7\n"


@BOTH
def test_what_a_server_refuses_is_told_in_its_words(client: Client, server: Server, tmp_path: Path) -> None:
    client.make("refused")
    client.sql("CREATE TABLE orders (a int); INSERT INTO orders VALUES (1)", "refused")
    saving(server, *client.lines, 'name = "refused"')
    server.backup()
    wrong = tmp_path / "wrong"
    wrong.write_text("not the password")
    wrong.chmod(0o600)
    lines = [line.replace(str(client.running.password_file), str(wrong)) for line in client.lines]
    with server.config.open("a") as config:
        config.write("\n".join(["[[connection]]", 'name = "elsewhere"', *lines, ""]))
    told = server.fails(1, "restore", "--database", "refused", "--on", "elsewhere", "--key", server.key_file)
    assert "password" in told.lower()
    assert "not the password" not in told
    result = server.run(
        *("restore", "--database", "refused", "--table", "nothing", "--as", "n"), "--key", server.key_file
    )
    assert result.exit_code == (1 if client.kind == "mariadb" else result.exit_code)


@needs_postgresql
def test_a_load_that_fails_leaves_an_empty_database(clients: dict[str, Client], server: Server) -> None:
    client = clients["postgresql"]
    client.make("owned")
    client.sql("CREATE ROLE app; CREATE TABLE orders (a int); ALTER TABLE orders OWNER TO app;", "owned")
    saving(server, *client.lines, 'name = "owned"')
    server.backup()
    client.sql("DROP TABLE orders; DROP ROLE app", "owned")
    told = server.fails(1, "restore", "--database", "owned", "--as", "owned_back", "--key", server.key_file)
    assert "pg_restore ended with status 1" in told
    assert 'role "app" does not exist' in told
    assert client.sql("SELECT count(*) FROM pg_class WHERE relname = 'orders'", "owned_back") == b"0\n"
    (run, *_) = server.json("runs")
    assert run["outcome"] == "failed"


def test_sqlite_comes_back_as_a_new_file(server: Server, tmp_path: Path) -> None:
    file = tmp_path / f"{HOSTILE}.db"
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("PRAGMA journal_mode = wal")
        database.execute("CREATE TABLE t (a)")
        database.execute("INSERT INTO t VALUES (1)")
    saving(server, 'kind = "sqlite"', f"name = {json.dumps(HOSTILE)}", f"path = {json.dumps(str(file))}")
    server.backup()
    restored(server, HOSTILE, "--as", tmp_path / f"new {HOSTILE}")
    assert "is not empty" in server.fails(2, "restore", "--database", HOSTILE, "--key", server.key_file)
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("INSERT INTO t VALUES (2)")
    Path(f"{file}-wal").write_bytes(b"left by a writer that died")
    restored(server, HOSTILE, "--overwrite", "always")
    for path in (file, tmp_path / f"new {HOSTILE}"):
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("SELECT a FROM t").fetchall() == [(1,)], path
    restored(server, HOSTILE, "--to-file", tmp_path / "as-it-is")
    assert (tmp_path / "as-it-is").read_bytes().startswith(b"SQLite format 3")
