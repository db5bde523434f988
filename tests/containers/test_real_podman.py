"""Podman for real: volumes by name, containers that stand still and run again, after kill -9 anywhere."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from ctypes.util import find_library
from pathlib import Path

import pytest

from backup.app.base.clock import SystemClock
from tests.containers.reading import CUTS, OURS, STOP, filled, killed, names, reading, rows, service
from tests.support.database_servers import newest_postgresql
from tests.support.emulated import REPOSITORY
from tests.support.podman import Podman, needs_podman, podman_service
from tests.support.servers import SCRIPT, Server, directory_server
from tests.support.without_coverage import unmeasured

pytestmark = [pytest.mark.real, pytest.mark.slow, needs_podman]
PROGRAMS = newest_postgresql()


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    with podman_service(tmp_path_factory.mktemp("podman")) as running:
        yield running


@pytest.fixture
def server(tmp_path: Path, podman: Podman) -> Iterator[Server]:
    made = directory_server(tmp_path / "server", clock=SystemClock())
    made.init()
    reading(made, podman.address)
    yield made
    podman.done("rm", "--all", "--force", "--time", "0")
    podman.done("volume", "prune", "--force")


def test_volumes_by_name_commands_order_and_back_into_the_volume(server: Server, podman: Podman) -> None:
    place = filled(podman.volume("shop"), rows="one")
    filled(podman.volume("wiki", **OURS), page="two")
    dump = {"docker-volume-backup.archive-pre": "sh -c 'cat /data/rows >/data/dump'"}
    podman.run("db", "shop:/data", labels=OURS | service("db") | dump)
    podman.run("web", labels=service("web", "db:service_started:false"))
    podman.run("other")
    before = {name: podman.started_at(name) for name in ("db", "web", "other")}
    report = server.backup()
    assert (report["outcome"], report["problems"], report["warnings"]) == ("done", [], [])
    files = [
        "/.volumes/shop",
        "/.volumes/shop/dump",
        "/.volumes/shop/rows",
        "/.volumes/wiki",
        "/.volumes/wiki/page",
    ]
    assert sorted(names(server)) == files
    after = {name: podman.started_at(name) for name in before}
    assert after["other"] == before["other"]
    assert before["web"] < after["db"] < after["web"]
    assert (podman.running(), rows(server)) == ({"db", "web", "other"}, [])

    filled(place, rows="broken")
    words = (
        "restore",
        "latest",
        "--target",
        "volume:shop",
        "--key",
        server.key_file,
        "--overwrite",
        "always",
    )
    assert "is used by what runs: db" in server.fails(2, *words)
    podman.done("stop", "db")
    server.done(*words)
    assert (place / "rows").read_text() == "one"
    assert server.run("doctor", "--offline").exit_code in {0, 1}


@pytest.mark.parametrize("cut", CUTS)
def test_killed_anywhere_it_runs_again(server: Server, podman: Podman, cut: str) -> None:
    podman.volume("shop")
    podman.run("db", "shop:/data", labels=STOP)
    killed(server, cut)
    assert (podman.running() == set()) == (cut in CUTS[3:8])
    server.done("unlock")
    assert (podman.running(), rows(server)) == ({"db"}, [])
    assert server.backup()["outcome"] == "done"
    assert podman.running() == {"db"}


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None or find_library("seccomp") is None,
    reason="needs systemd-analyze and libseccomp",
)
def test_with_no_more_rights_than_the_unit_has(server: Server, podman: Podman) -> None:
    """Its filter of system calls, and its capabilities: it reaches the socket, and volumes of other users."""
    place = filled(podman.volume("shop"), rows="one")
    os.chown(place, 999, 999)
    place.chmod(0o700)
    podman.run("db", "shop:/data", labels=STOP)
    rights = ["setpriv", "--bounding-set", "-all,+dac_read_search,+fowner"]
    confined = [
        sys.executable,
        str(REPOSITORY / "tests" / "deploy" / "confined.py"),
        str(REPOSITORY / "deploy" / "systemd" / "nightvault.service"),
        "--",
    ]
    words = [*rights, *confined, SCRIPT, "--config", str(server.config), "--json", "backup", "main"]
    ended = subprocess.run(words, env=unmeasured(), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert names(server) == ["/.volumes/shop", "/.volumes/shop/rows"]
    assert (podman.running(), rows(server)) == ({"db"}, [])


@pytest.mark.skipif(PROGRAMS is None, reason="PostgreSQL is not installed")
def test_a_server_with_postgresql_in_a_container(
    server: Server, podman: Podman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its dump is made while it runs, then its files are read while it stands still; both come back."""
    client = tmp_path / "bin" / "podman"  # as on a machine with one store
    client.parent.mkdir()
    client.write_text(f'#!/bin/sh\nexec {shutil.which("podman")} {shlex.join(podman.words[1:])} "$@"\n')
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PODMAN_IGNORE_CGROUPSV1_WARNING", "1")
    podman.volume("data")
    labels = {"nightvault.volumes": "true", "nightvault.volumes.include": "data", "nightvault.stop": "true"}
    podman.run_postgresql("db", "data", PROGRAMS, labels)
    sql = [
        *("exec", "db", f"{PROGRAMS}/psql"),
        *("-h", "/tmp", "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-Atc"),
    ]
    podman.done(*sql, "CREATE TABLE orders AS SELECT g AS number FROM generate_series(1, 1000) g")
    database = [
        *('kind = "postgresql"', 'name = "postgres"', 'container = "db"', 'host = "/tmp"'),
        'user = "postgres"',
    ]
    text = server.config.read_text()
    lines = "\n".join(["[[job.database]]", *database, f'programs = "{PROGRAMS}"', "", "[job.containers]"])
    server.config.write_text(text.replace("[job.containers]", lines))
    report = server.backup()
    assert (report["outcome"], report["problems"], report["warnings"]) == ("done", [], [])
    assert podman.running() == {"db"}
    podman.wait_for(sql)
    podman.done(*sql, "DROP TABLE orders")
    words = ("restore", "--database", "postgres", "--as", "again", "--key", server.key_file)
    server.done(*words)
    count = "SELECT count(*), sum(number) FROM orders"
    assert podman.done(*sql[:-1], "-d", "again", sql[-1], count) == "1000|500500"

    podman.done("stop", "db")
    files = (
        "--target",
        "volume:data",
        "--delete",
        "--yes",
        "--overwrite",
        "always",
        "--key",
        server.key_file,
    )
    server.done("restore", "latest", *files)
    podman.done("start", "db")
    podman.wait_for(sql)
    assert podman.done(*sql, count) == "1000|500500"


def test_nothing_is_started_that_somebody_stopped_or_removed(server: Server, podman: Podman) -> None:
    for name in ("db", "gone"):
        podman.run(name, labels=STOP)
    killed(server, "trees read before")
    assert podman.running() == set()
    podman.done("start", "db")
    podman.done("stop", "db")
    podman.done("rm", "gone")
    server.done("runs")
    assert (podman.running(), rows(server)) == (set(), [])


def test_one_counts_as_started_when_it_is_healthy(server: Server, podman: Podman) -> None:
    """Without systemd nobody runs Podman's health checks: the test does."""
    podman.volume("shop")
    check = ("--health-cmd", "test -e /data/ready", "--health-interval", "disable")
    podman.run("db", "shop:/data", labels=STOP, more=check)
    reading(server, podman.address, "healthy_within = 2")
    report = server.json("backup", "main", exit_code=3)[0]
    assert report["warnings"] == ["container db runs again, and is not healthy within 2 s: starting"]
    ended = threading.Event()

    def check_for_ever() -> None:
        words = [*podman.words, "healthcheck", "run", "db"]
        while not ended.wait(0.2):
            subprocess.run(words, env=podman.environment, capture_output=True, check=False)

    checking = threading.Thread(target=check_for_ever)
    checking.start()
    try:
        podman.done("exec", "db", "touch", "/data/ready")
        reading(server, podman.address, "healthy_within = 60")
        report = server.backup()
    finally:
        ended.set()
        checking.join()
    assert (report["outcome"], report["warnings"]) == ("done", [])


def test_a_socket_that_is_not_there(server: Server, podman: Podman) -> None:
    os.rename(podman.socket, podman.socket.with_name("away"))
    try:
        assert "does not answer" in server.fails(1, "backup", "main")
    finally:
        os.rename(podman.socket.with_name("away"), podman.socket)
