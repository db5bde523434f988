"""`restore --database`: asked of the vault as any restore, into a server that is empty, in its words."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from backup.databases.loading import OnlyTables
from tests.databases.fake_clients import Clients
from tests.support.servers import PRICES, Server, directory_server, running_cloud


@pytest.fixture
def clients(tmp_path: Path) -> Clients:
    return Clients(tmp_path / "clients")


@pytest.fixture
def server(tmp_path: Path, clients: Clients) -> Server:
    """A server that has saved the database `shop`."""
    made = directory_server(tmp_path / "server")
    made.init()
    made.config.write_text(made.config.read_text() + clients.section('name = "all"'))
    made.backup()
    return made


def words(server: Server, *more: str) -> tuple[object, ...]:
    return ("restore", "--database", "shop", *more, "--key", server.key_file)


RESTORE = ["--no-password", "--exit-on-error", "--single-transaction"]


def test_a_dump_goes_into_a_database_that_is_empty_or_new(server: Server, clients: Clients) -> None:
    report = server.json(*words(server))
    assert (report["database"], report["outcome"]) == ("shop", "done")
    assert clients.loaded == f"{[*RESTORE, '--dbname=shop']}PGDMP of shop\na row\n"
    (clients.folder / "loaded").unlink()
    server.done(*words(server, "--as", 'n"ew'))
    made = 'CREATE DATABASE "n""ew" TEMPLATE template0 ENCODING \'UTF8\';'
    named = "--dbname=dbname='n\"ew'"
    assert clients.loaded == f"{made}{[*RESTORE, named]}PGDMP of shop\na row\n"


def test_what_is_there_is_only_replaced_where_that_is_said(server: Server, clients: Clients) -> None:
    (clients.folder / "holds").write_text("3")
    told = server.fails(2, *words(server))
    assert "database shop of postgresql is not empty: it has 3 tables, views or functions" in told
    assert clients.loaded == ""
    server.done(*words(server, "--overwrite", "always"))
    assert clients.loaded.startswith('DROP DATABASE "shop";CREATE DATABASE "shop"')
    (clients.folder / "loaded").unlink()
    server.done(*words(server, "--overwrite", "always", "--table", "public.orders"))
    table = ["--clean", "--if-exists", "--table=orders", "--schema=public"]
    assert clients.loaded.startswith(f"{[*RESTORE, *table, '--dbname=shop']}")


def test_a_client_that_fails_is_told_and_the_run_has_failed(server: Server, clients: Clients) -> None:
    clients.dumps("sys.exit('pg_restore: error: role \"app\" does not exist')")
    told = server.fails(1, *words(server))
    assert 'pg_restore ended with status 1: pg_restore: error: role "app" does not exist' in told
    assert server.json("runs")[0]["outcome"] == "failed"
    (clients.folder / "pg_restore").unlink()
    assert "No such file or directory" in server.fails(1, *words(server))


def test_where_it_goes_and_what_it_is_must_be_known(server: Server, clients: Clients, tmp_path: Path) -> None:
    assert "has no database other: job main saves shop" in server.fails(2, "restore", "--database", "other")
    assert "--as goes with --database" in server.fails(2, "restore", "latest", "--as", "x")
    assert "goes without a PATH" in server.fails(2, *words(server, "--target", "x"))
    assert "goes without --as" in server.fails(2, *words(server, "--to-file", "x", "--as", "y"))
    assert server.run("restore").exit_code == 2
    section = clients.section('name = "test"').replace("[[job.database]]", "[[connection]]")
    text = server.config.read_text().partition("\n[[job.database]]")[0]
    server.config.write_text(text + section + section.replace("postgresql", "redis").replace("test", "cache"))
    assert "does not save database shop any more" in server.fails(2, *words(server))
    assert "of kind redis, the dump of postgresql" in server.fails(2, *words(server, "--on", "cache"))
    assert "no connection named tset" in server.fails(2, *words(server, "--on", "tset"))
    server.done("restore", "--database", "postgresql/shop", "--on", "test", "--key", server.key_file)
    assert clients.loaded.endswith("a row\n")
    server.done(*words(server, "--to-file", str(tmp_path / "file")))
    assert (tmp_path / "file").read_text() == "PGDMP of shop\na row\n"
    assert "is there already" in server.fails(2, *words(server, "--to-file", str(tmp_path / "file")))
    assert "shop.dump" in server.done(*words(server, "--on", "test", "--dry-run")).stdout


def test_a_cold_vault_is_asked_as_by_every_restore(tmp_path: Path) -> None:
    """Held to the limit of cost, waited for, and continued by the same command."""
    with closing(sqlite3.connect(tmp_path / "app.db")) as database, database:
        database.execute("CREATE TABLE t (a)")
        database.execute("INSERT INTO t VALUES (1)")
    (tmp_path / "prices.toml").write_text(PRICES)
    with running_cloud(tmp_path) as cloud:
        server = cloud.server(tmp_path / "server", vault="dumps")
        server.init()
        section = f'[[job.database]]\nkind = "sqlite"\nname = "app"\npath = "{tmp_path}/app.db"\n'
        prices = f'[prices]\nfile = "{tmp_path}/prices.toml"\n'
        server.config.write_text(server.config.read_text() + section + prices)
        server.backup()
        again = ("restore", "--database", "app", "--as", tmp_path / "back.db", "--key", server.key_file)
        assert "would cost" in server.fails(16, *again, "--max-cost", "0.01")
        assert server.json("restores") == []
        server.waits(*again)
        server.waits(*again)
        assert len(server.json("restores")) == 1
        cloud.emulator.advance(6 * 3600)
        server.done(*again)
        assert server.json("restores") == []
    with closing(sqlite3.connect(tmp_path / "back.db")) as database:
        assert database.execute("SELECT a FROM t").fetchall() == [(1,)]


DUMP = b"""-- header
SET x;

--
-- Table structure for table `a`
--
CREATE TABLE `a`;
-- Dumping data for table `a`
INSERT INTO `a` VALUES ('-- Table structure for table `b`');
--
-- Table structure for table `b`
--
CREATE TABLE `b`;
--
-- Dumping routines for database 'shop'
--
CREATE FUNCTION f;
/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;
-- Dump completed"""


class Sink:
    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes | memoryview) -> None:
        self.data += bytes(data)

    def finish(self) -> None:
        self.data += b" (end)"


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_tables_alone_are_taken_out_of_a_dump_of_mariadb(size: int) -> None:
    sink = Sink()
    only = OnlyTables(["`a`"], sink)
    for start in range(0, len(DUMP), size):
        only.write(DUMP[start : start + size])
    only.finish()
    lines = sink.data.splitlines()
    assert [line for line in lines if line.startswith((b"SET", b"CREATE", b"INSERT", b"/*"))] == [
        b"SET x;",
        b"CREATE TABLE `a`;",
        b"INSERT INTO `a` VALUES ('-- Table structure for table `b`');",
        b"/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;",
    ]
    assert lines[-1] == b"-- Dump completed (end)"
