"""Drills load dumps into servers that they start, as ordinary users, and leave nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from backup.databases.throwaway import folder_of
from tests.databases.real_clients import (
    HOSTILE,
    SETUP,
    mariadb_client,
    needs_mariadb,
    needs_postgresql,
    needs_redis,
    postgresql_client,
    saving,
)
from tests.support import database_servers
from tests.support.database_servers import PASSWORD
from tests.support.processes import environments_and_words
from tests.support.servers import SCRIPT, Server, directory_server

pytestmark = [pytest.mark.real, pytest.mark.slow]

ROW = "a row of a customer"
NO_SERVER = "no server could be started"
NO_ROOM = "the server that was started for it has no room"
DRILL = '\n[[drill]]\nname = "databases"\nvault = "cold"\nload = true\n'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = directory_server(tmp_path / "server")
    made.init()
    made.config.write_text(made.config.read_text() + DRILL)
    yield made
    assert left_over(made) == []


def left_over(server: Server) -> list[str]:
    """Processes of servers that its drills started, and their folder."""
    folder = folder_of(str(server.state / "drills"))
    processes = [words for words, _ in environments_and_words() if any(folder in word for word in words)]
    return [str(words) for words in processes] + [folder] * Path(folder).exists()


def drill(server: Server, exit_code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = server.json("drill", "run", "--key", server.key_file, exit_code=exit_code)
    return found


@needs_postgresql
@needs_mariadb
@needs_redis
def test_all_three_load_and_are_counted(server: Server) -> None:
    with postgresql_client() as postgresql, mariadb_client() as mariadb, database_servers.redis() as redis:
        for client in (postgresql, mariadb):
            for name in ("shop", HOSTILE):
                client.make(name)
                client.sql(SETUP[client.kind], name)
        postgresql.sql(
            "CREATE ROLE app; ALTER TABLE orders OWNER TO app; GRANT SELECT ON log_1 TO app", "shop"
        )
        environment = {"REDISCLI_AUTH": PASSWORD, "PATH": os.environ["PATH"]}
        typed = b"".join(b"set key%d %d\n" % (number, number) for number in range(100))
        subprocess.run(
            ["redis-cli", "-s", redis.host], input=typed, env=environment, check=True, capture_output=True
        )
        saving(
            server,
            *(*postgresql.lines, 'name = "all"', "[[job.database]]", *mariadb.lines, 'name = "all"'),
            *("[[job.database]]", 'kind = "redis"', 'name = "cache"', f'host = "{redis.host}"'),
            f'password_file = "{redis.password_file}"',
        )
        assert server.backup()["outcome"] == "done"
    report = drill(server)
    assert (report["outcome"], report["findings"]) == ("done", [])
    loaded = {(dump["kind"], dump["database"]): dump["rows"] for dump in report["loaded"]}
    assert loaded == {
        **{(kind, name): 2000 for kind in ("postgresql", "mariadb") for name in ("shop", HOSTILE)},
        ("postgresql", "postgres"): 0,
        ("redis", "cache"): 100,
    }


@needs_postgresql
def test_what_does_not_load_is_told_in_the_server_s_words(server: Server) -> None:
    with postgresql_client() as client:
        client.make("shop")
        client.sql(
            "CREATE ROLE app; CREATE TABLE t (a int); ALTER TABLE t ENABLE ROW LEVEL SECURITY;", "shop"
        )
        client.sql("CREATE POLICY p ON t TO app USING (true)", "shop")
        saving(server, *client.lines, 'name = "shop"')
        server.backup()
    report = drill(server, exit_code=1)
    (finding,) = report["findings"]
    assert finding["kind"] == "not-loaded"
    assert 'role "app" does not exist' in finding["detail"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
@pytest.mark.parametrize(
    ("kind", "size", "words"),
    [
        pytest.param("postgresql", "10m", NO_SERVER, marks=needs_postgresql),
        pytest.param("postgresql", "60m", NO_ROOM, marks=needs_postgresql),
        pytest.param("mariadb", "100m", NO_SERVER, marks=needs_mariadb),
        pytest.param("mariadb", "200m", NO_ROOM, marks=needs_mariadb),
        pytest.param("redis", "1m", NO_ROOM, marks=needs_redis),
    ],
)
def test_a_scratch_that_is_full_says_nothing_against_a_dump(
    server: Server, kind: str, size: str, words: str
) -> None:
    with LARGE[kind]() as lines:
        saving(server, *lines)
        server.backup()
    small = f'mount -t tmpfs -o size={size},mode=1777 tmpfs /var/tmp && exec "$0" "$@"'
    program = ("unshare", "--mount", "--propagation", "private", "sh", "-c", small, SCRIPT)
    with server.process("--json", "drill", "run", "--key", server.key_file, program=program) as process:
        printed, said = process.communicate(timeout=120)
    report = json.loads(printed)
    (finding,) = report["findings"]
    assert (process.returncode, report["outcome"], finding["kind"]) == (3, "partial", "unread")
    assert f"{words} in /var/tmp/nightvault-load-" in finding["detail"]
    assert ROW not in printed + said


@contextmanager
def large_postgresql() -> Iterator[list[str]]:
    with postgresql_client() as client:
        client.make("shop")
        client.sql(f"CREATE TABLE t AS SELECT repeat('{ROW}', 30) FROM generate_series(1, 60000)", "shop")
        yield [*client.lines, 'name = "shop"']


@contextmanager
def large_mariadb() -> Iterator[list[str]]:
    with mariadb_client() as client:
        client.make("shop")
        client.sql(f"CREATE TABLE t AS SELECT repeat('{ROW}', 30) AS a FROM seq_1_to_60000", "shop")
        yield [*client.lines, 'name = "shop"']


@contextmanager
def large_redis() -> Iterator[list[str]]:
    with database_servers.redis() as running:
        environment = {"REDISCLI_AUTH": PASSWORD, "PATH": os.environ["PATH"]}
        words = ["redis-cli", "-s", running.host, "-x", "set", "key"]
        value = ROW + os.urandom(2_000_000).hex()
        subprocess.run(words, input=value.encode(), env=environment, check=True, capture_output=True)
        place = [f'host = "{running.host}"', f'password_file = "{running.password_file}"']
        yield ['kind = "redis"', 'name = "cache"', *place]


LARGE = {"postgresql": large_postgresql, "mariadb": large_mariadb, "redis": large_redis}


@needs_mariadb
def test_a_drill_that_is_killed_leaves_no_server_and_the_next_one_no_folder(server: Server) -> None:
    with mariadb_client() as client:
        client.make("shop")
        client.sql(SETUP["mariadb"], "shop")
        saving(server, *client.lines, 'name = "shop"')
        server.backup()
    with server.process("drill", "run", "--key", server.key_file) as process:
        deadline = time.monotonic() + 30
        while not any("mariadbd" in found for found in left_over(server)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    while any("process_guard" in found or "mariadbd" in found for found in left_over(server)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert drill(server)["outcome"] == "done"
