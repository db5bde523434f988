"""Real servers, with SQL for them, for the tests of databases."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Protocol

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
needs_mysql = pytest.mark.skipif(
    not database_servers.has("mariadbd", "mysql", "mysqldump"), reason="MariaDB or MySQL's words are missing"
)
needs_redis = pytest.mark.skipif(
    not database_servers.has("redis-server", "redis-cli"), reason="Redis is not installed"
)
SERVERS = [
    pytest.param("postgresql", marks=needs_postgresql),
    pytest.param("mariadb", marks=needs_mariadb),
    pytest.param("mysql", marks=[needs_mariadb, needs_mysql]),
]
KINDS = [*SERVERS, pytest.param("redis", marks=needs_redis), "sqlite"]


class Client(Protocol):
    """What holds databases of one kind, and is asked and changed by its own clients, not by ours."""

    kind: str
    lines: list[str]
    running: RunningServer

    def make(self, name: str) -> None:
        """Make a database of that name."""
        ...

    def sql(self, text: str, database: str = ...) -> bytes:
        """Run statements."""
        ...

    def state(self, database: str) -> tuple[bytes, bytes]:
        """The schema, and a hash of all rows of the table that changes."""
        ...

    def load(self, dump: Path, name: str) -> None:
        """Load a dump into a new database."""
        ...


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

    def load(self, dump: Path, name: str) -> None:
        """Load a dump into a new database."""
        self.make(name)
        self.run("pg_restore", "--exit-on-error", "-d", name, dump)


@contextmanager
def postgresql_client() -> Iterator[PostgreSQLClient]:
    """A running server of PostgreSQL, and SQL for it."""
    assert PROGRAMS is not None
    with database_servers.postgresql(PROGRAMS) as running:
        yield PostgreSQLClient(running)


class MariaDBClient:
    """A running server, and SQL for it; of the kind `mysql` it is saved by that client's words."""

    def __init__(self, running: RunningServer, kind: str = "mariadb") -> None:
        self.kind = kind
        self.running = running
        self.lines = [f'kind = "{kind}"\nhost = "{running.host}"\nuser = "root"']
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

    def load(self, dump: Path, name: str) -> None:
        """Load a dump into a new database."""
        self.make(name)
        self.run("mariadb", f"--database={name}", typed=dump.read_bytes())


@contextmanager
def mariadb_client(kind: str = "mariadb") -> Iterator[MariaDBClient]:
    """A running server of MariaDB, and SQL for it."""
    with database_servers.mariadb() as running:
        yield MariaDBClient(running, kind)


class RedisClient:
    """A running server, whose one database has each name; a dump gets a server when it is asked for."""

    kind = "redis"

    def __init__(self, running: RunningServer) -> None:
        self.running = running
        self.lines = [f'kind = "redis"\nhost = "{running.host}"\npassword_file = "{running.password_file}"']
        self._loaded: dict[str, Path] = {}

    def make(self, name: str) -> None:
        """It has one."""

    def sql(self, text: str, database: str = "") -> bytes:
        """Run commands of Redis."""
        return _of_redis(self.running, text)

    def state(self, database: str) -> tuple[bytes, bytes]:
        """A hash of all keys with their values."""
        if database not in self._loaded:
            return b"", _of_redis(self.running, _HASH)
        with database_servers.redis(self._loaded[database]) as running:
            return b"", _of_redis(running, _HASH)

    def load(self, dump: Path, name: str) -> None:
        """Keep a dump, for a server that begins with it."""
        self._loaded[name] = Path(shutil.copy(dump, dump.with_name(f"{name}.rdb")))


_HASH = """EVAL "local found, keys = '', redis.call('keys', '*') table.sort(keys) \
for _, key in ipairs(keys) do found = found .. key .. '=' .. redis.call('get', key) .. ';' end \
return redis.sha1hex(found)" 0
"""


def _of_redis(running: RunningServer, text: str) -> bytes:
    environment = {"REDISCLI_AUTH": PASSWORD, "PATH": os.environ["PATH"]}
    words = ["redis-cli", "-e", "-s", running.host]
    done = subprocess.run(words, input=text.encode(), env=environment, check=True, capture_output=True)
    assert b"ERR" not in done.stdout, done.stdout
    return done.stdout


@contextmanager
def redis_client() -> Iterator[RedisClient]:
    """A running server of Redis, and its client."""
    with database_servers.redis() as running:
        yield RedisClient(running)


class SQLiteClient:
    """A folder of files; that of the database `shop` is saved."""

    kind = "sqlite"
    running: RunningServer

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines = [f'kind = "sqlite"\npath = "{folder}/shop.db"']

    def make(self, name: str) -> None:
        """A file that holds nothing yet is made by who writes to it first."""

    def sql(self, text: str, database: str = "shop") -> bytes:
        """Run statements."""
        with closing(sqlite3.connect(self.folder / f"{database}.db")) as connection:
            connection.executescript(text)
        return b""

    def state(self, database: str) -> tuple[bytes, bytes]:
        """All statements that would make it, hashed."""
        with closing(sqlite3.connect(self.folder / f"{database}.db")) as connection:
            found = "\n".join(connection.iterdump())
        return b"", hashlib.sha256(found.encode()).digest()

    def load(self, dump: Path, name: str) -> None:
        """Put a dump in its place."""
        shutil.copy(dump, self.folder / f"{name}.db")


@contextmanager
def sqlite_client() -> Iterator[SQLiteClient]:
    """A folder of files of SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        yield SQLiteClient(Path(folder))


OPENED: dict[str, Callable[[], AbstractContextManager[Client]]] = {
    "postgresql": postgresql_client,
    "mariadb": mariadb_client,
    "mysql": lambda: mariadb_client("mysql"),
    "redis": redis_client,
    "sqlite": sqlite_client,
}
"""What to enter for a client of each kind."""
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
    "redis": """EVAL "for n = 1, 2000 do redis.call('set', 'key' .. n, n) end" 0\n""",
    "sqlite": """CREATE TABLE orders (id INTEGER PRIMARY KEY, t TEXT);
        WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s LIMIT 2000)
        INSERT INTO orders SELECT n, hex(n) FROM s;
        CREATE TABLE log_1 (a int); CREATE VIEW v AS SELECT count(*) FROM orders;""",
}
CHANGE = {
    "postgresql": "UPDATE orders SET t = md5(t || '{night}') WHERE id % 20 = {night};"
    "DELETE FROM orders WHERE id = 1000 + {night}; INSERT INTO orders VALUES (5000 + {night}, 'new');",
    "mariadb": "UPDATE orders SET t = md5(concat(t, '{night}')) WHERE id % 20 = {night};"
    "DELETE FROM orders WHERE id = 1000 + {night}; INSERT INTO orders VALUES (5000 + {night}, 'new');",
    "redis": """EVAL "for n = 20 + {night}, 2000, 20 do redis.call('set', 'key' .. n, n .. '-{night}') end \
redis.call('del', 'key' .. (1000 + {night})) redis.call('set', 'key' .. (5000 + {night}), 'new')" 0\n""",
    "sqlite": "UPDATE orders SET t = t || '-{night}' WHERE id % 20 = {night};"
    "DELETE FROM orders WHERE id = 1000 + {night}; INSERT INTO orders VALUES (5000 + {night}, 'new');",
}
for _texts in (SETUP, CHANGE):
    _texts["mysql"] = _texts["mariadb"]
