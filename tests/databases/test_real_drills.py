"""Drills load dumps into servers that they start, as ordinary users, and leave nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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
from tests.support.servers import Server, directory_server

pytestmark = [pytest.mark.real, pytest.mark.slow]

DRILL = '\n[[drill]]\nname = "databases"\nvault = "cold"\nload = true\n'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = directory_server(tmp_path / "server")
    made.init()
    made.config.write_text(made.config.read_text() + DRILL)
    yield made
    assert left_over() == []


def left_over() -> list[str]:
    """Processes of servers that drills start, and their folders, but for those of other tests."""
    words = [
        words for words, _ in environments_and_words() if any("nightvault-load-" in word for word in words)
    ]
    return [str(found) for found in words] + [
        name for name in os.listdir("/var/tmp") if name.startswith("nightvault-load-")
    ]


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


@needs_mariadb
def test_a_drill_that_is_killed_leaves_no_server_and_the_next_one_no_folder(server: Server) -> None:
    with mariadb_client() as client:
        client.make("shop")
        client.sql(SETUP["mariadb"], "shop")
        saving(server, *client.lines, 'name = "shop"')
        server.backup()
    with server.process("drill", "run", "--key", server.key_file) as process:
        deadline = time.monotonic() + 30
        while not any("mariadbd" in found for found in left_over()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    while any("process_guard" in found or "mariadbd" in found for found in left_over()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert drill(server)["outcome"] == "done"
