"""Real servers, with SQL for them, for the tests of databases."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backup.inventory.content.dumps import dump_records
from backup.inventory.store.database import open_inventory
from tests.support import database_servers
from tests.support.database_servers import PASSWORD, RunningServer
from tests.support.servers import Server

HOSTILE = "a'b;$(x)\n\"\\ -c`"
PROGRAMS = database_servers.newest_postgresql()
needs_postgresql = pytest.mark.skipif(PROGRAMS is None, reason="PostgreSQL is not installed")
needs_mariadb = pytest.mark.skipif(
    not database_servers.has("mariadbd", "mariadb-install-db", "mariadb-dump"),
    reason="MariaDB is not installed",
)
needs_redis = pytest.mark.skipif(
    not database_servers.has("redis-server", "redis-cli"), reason="Redis is not installed"
)


def saving(server: Server, *lines: str) -> None:
    """Have the job save databases: the lines of one `[[job.database]]`."""
    text, _, drill = server.config.read_text().partition("\n[[drill]]")
    text = text.partition("\n[[job.database]]")[0]
    drill = f"[[drill]]{drill}" if drill else ""
    server.config.write_text("\n".join([text, "[[job.database]]", *lines, drill]))


def dumped(server: Server, kind: str, name: str, target: Path, snapshot: str = "latest") -> Path:
    """The dump of a database, in a file."""
    path = f"{snapshot}:/.streams/databases/{kind}/{name}"
    server.done("dump", path, "--key", server.key_file, "-o", target, "--force")
    return target


def rows_known(server: Server) -> dict[str, dict[str, tuple[int, int]]]:
    """What the newest dumps noted of tables, by database."""
    inventory = open_inventory(f"sqlite:///{server.state}/inventory.sqlite", lock_directory=str(server.state))
    with inventory.reading() as tx:
        found = dump_records(tx, 1)
    inventory.close()
    return {
        record.database: {table: (fewest, most) for table, fewest, most in record.tables} for record in found
    }


class PostgreSQLClient:
    """A running server, and SQL for it."""

    kind = "postgresql"

    def __init__(self, running: RunningServer) -> None:
        self.running = running
        self.lines = [
            f'kind = "postgresql"\nhost = "{running.host}"\nuser = "postgres"\nprograms = "{PROGRAMS}"'
        ]
        self.lines += [f'password_file = "{running.password_file}"']

    def run(self, program: str, *words: object, typed: bytes = b"") -> bytes:
        """Run a client."""
        environment = {"PGPASSWORD": PASSWORD, "PATH": os.environ["PATH"]}
        given = [
            f"{PROGRAMS}/{program}",
            f"--host={self.running.host}",
            "--username=postgres",
            *map(str, words),
        ]
        return subprocess.run(given, input=typed, env=environment, check=True, capture_output=True).stdout

    def sql(self, text: str, database: str = "postgres") -> bytes:
        """Run statements."""
        return self.run("psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", database, typed=text.encode())

    def make(self, name: str) -> None:
        """Make a database of that name."""
        quoted = name.replace('"', '""')
        self.sql(f'CREATE DATABASE "{quoted}"')

    def state(self, database: str) -> tuple[bytes, bytes]:
        """The schema, and a hash of all rows of the table that changes."""
        schema = b"\n".join(
            line
            for line in self.run("pg_dump", "--schema-only", database).splitlines()
            if b"restrict" not in line  # a word of chance in each dump
        )
        return schema, self.sql("SELECT md5(string_agg(o::text, '|' ORDER BY id)) FROM orders o", database)


@contextmanager
def postgresql_client() -> Iterator[PostgreSQLClient]:
    """A running server of PostgreSQL, and SQL for it."""
    assert PROGRAMS is not None
    with database_servers.postgresql(PROGRAMS) as running:
        yield PostgreSQLClient(running)


class MariaDBClient:
    """A running server, and SQL for it."""

    kind = "mariadb"

    def __init__(self, running: RunningServer) -> None:
        self.running = running
        self.lines = [f'kind = "mariadb"\nhost = "{running.host}"\nuser = "root"']
        self.lines += [f'password_file = "{running.password_file}"']

    def run(self, program: str, *words: object, typed: bytes = b"") -> bytes:
        """Run a client."""
        environment = {"MYSQL_PWD": PASSWORD, "PATH": os.environ["PATH"]}
        given = [program, "--no-defaults", f"--socket={self.running.host}", "--user=root", *map(str, words)]
        return subprocess.run(given, input=typed, env=environment, check=True, capture_output=True).stdout

    def sql(self, text: str, database: str = "") -> bytes:
        """Run statements."""
        return self.run(
            "mariadb", "-BN", *([f"--database={database}"] if database else []), typed=text.encode()
        )

    def make(self, name: str) -> None:
        """Make a database of that name."""
        quoted = name.replace("`", "``")
        self.sql(f"CREATE DATABASE `{quoted}`")

    def state(self, database: str) -> tuple[bytes, bytes]:
        """The schema, and a hash of all rows of the table that changes."""
        schema = self.run(
            "mariadb-dump", "--no-data", "--routines", "--skip-dump-date", "--skip-comments", database
        )
        return schema, self.sql("SELECT md5(group_concat(id, t ORDER BY id)) FROM orders", database)


@contextmanager
def mariadb_client() -> Iterator[MariaDBClient]:
    """A running server of MariaDB, and SQL for it."""
    with database_servers.mariadb() as running:
        yield MariaDBClient(running)


SETUP = {
    "postgresql": """CREATE TABLE orders (id int PRIMARY KEY, t text);
        INSERT INTO orders SELECT g, md5(g::text) FROM generate_series(1, 2000) g;
        CREATE TABLE log_1 (a int); CREATE VIEW v AS SELECT count(*) FROM orders;
        CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';""",
    "mariadb": """SET SESSION group_concat_max_len = 100000000;
        CREATE TABLE orders (id int PRIMARY KEY, t text) ENGINE=InnoDB;
        INSERT INTO orders SELECT seq, md5(seq) FROM seq_1_to_2000;
        CREATE TABLE log_1 (a int); CREATE VIEW v AS SELECT count(*) FROM orders;
        CREATE FUNCTION f() RETURNS int RETURN 1;""",
}
CHANGE = {
    "postgresql": "UPDATE orders SET t = md5(t || '{night}') WHERE id % 20 = {night};"
    "DELETE FROM orders WHERE id = 1000 + {night}; INSERT INTO orders VALUES (5000 + {night}, 'new');",
    "mariadb": "UPDATE orders SET t = md5(concat(t, '{night}')) WHERE id % 20 = {night};"
    "DELETE FROM orders WHERE id = 1000 + {night}; INSERT INTO orders VALUES (5000 + {night}, 'new');",
}
