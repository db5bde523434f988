"""Containers stand still while their volumes are read, and run again whatever becomes of the run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from backup.app.base.clock import SystemClock
from backup.inventory.store.database import open_inventory
from tests.containers.engine_server import EngineServer, FakeContainer
from tests.containers.reading import CUTS, OURS, STOP, filled, killed, reading, rows, service
from tests.support.servers import Server, directory_server


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EngineServer]:
    with EngineServer(tmp_path / "engine") as running:
        yield running


@pytest.fixture
def server(tmp_path: Path, engine: EngineServer) -> Server:
    made = directory_server(tmp_path / "server", clock=SystemClock())
    made.init()
    filled(engine.volume("shop"), rows="one")
    reading(made, engine.address)
    return made


def test_it_stands_still_while_its_volume_is_read_and_no_longer(server: Server, engine: EngineServer) -> None:
    engine.container("db", mounts=["shop"], labels=STOP)
    engine.container("web", mounts=["shop"], labels=OURS)
    report = server.backup()
    assert (report["outcome"], report["warnings"]) == ("done", [])
    assert engine.changes() == ["/containers/db/stop", "/containers/db/start"]
    assert engine.running() == {"db", "web"}
    assert rows(server) == []


@pytest.mark.parametrize(
    "label", ["docker-volume-backup.stop-during-backup", "stack-back.volumes.stop-during-backup"]
)
def test_others_words_for_it(server: Server, engine: EngineServer, label: str) -> None:
    engine.container("db", mounts=["shop"], labels=OURS | {label: "true"})
    engine.container("other", labels={label: "another job"})
    server.backup()
    assert engine.changes() == ["/containers/db/stop", "/containers/db/start"]


def test_the_row_is_there_before_it_is_stopped_and_while_it_stands_still(
    server: Server, engine: EngineServer
) -> None:
    engine.container("db", mounts=["shop"], labels=STOP)
    seen: list[tuple[str, list[tuple[str, bool]]]] = []

    def look(line: str) -> None:
        if line.startswith("POST"):
            seen.append((line, [(row.name, row.finished_at is not None) for row in rows(server)]))

    engine.on_request = look
    server.backup()
    assert seen == [
        ("POST /containers/db/stop", [("db", False)]),
        ("POST /containers/db/start", [("db", True)]),
    ]


def test_the_order_of_a_compose_file(server: Server, engine: EngineServer) -> None:
    engine.container("web", labels=service("web", "api:service_healthy:false,cache:service_started:true"))
    engine.container("db", labels=service("db"))
    engine.container("api", labels=service("api", "db:service_healthy:true") | {"nightvault.stop": "no"})
    engine.container("cache", labels=service("cache"))
    engine.container("circle", labels=service("circle", "circle,gone"))
    server.backup()
    changes = [line.split("/")[2:] for line in engine.changes()]
    stopped = [name for name, what in changes if what == "stop"]
    started = [name for name, what in changes if what == "start"]
    assert started == stopped[::-1]
    assert set(stopped) == {"web", "db", "cache", "circle"}
    assert stopped.index("web") < stopped.index("db")  # by way of one that is not stopped
    assert stopped.index("web") < stopped.index("cache")


def test_it_counts_as_started_when_it_is_healthy(server: Server, engine: EngineServer) -> None:
    container = engine.container("db", labels=service("db"))
    engine.container("web", labels=service("web", "db"))

    def begin(line: str) -> None:
        if line == "POST /containers/db/start":
            container.health = ["starting", "starting", "starting", "healthy"]

    engine.on_request = begin
    assert server.backup()["outcome"] == "done"
    lines = [line for line in engine.asked if "json" not in line or "db" in line]
    started = lines.index("POST /containers/db/start")
    assert lines[started : lines.index("POST /containers/web/start")].count("GET /containers/db/json") >= 4


def test_one_that_is_not_healthy_in_time_makes_the_run_partial(server: Server, engine: EngineServer) -> None:
    reading(server, engine.address, "healthy_within = 1")
    engine.container("db", labels=STOP, health=["healthy", "unhealthy"])
    report = server.json("backup", "main", exit_code=3)[0]
    assert report["warnings"] == ["container db runs again, and is not healthy within 1 s: unhealthy"]
    assert (engine.running(), rows(server)) == ({"db"}, [])


def test_one_that_does_not_start_is_told_and_the_next_command_tries_again(
    server: Server, engine: EngineServer
) -> None:
    container = engine.container("db", labels=STOP, does_not_start=True)
    report = server.json("backup", "main", exit_code=3)[0]
    assert "container db, which job main has stopped, is not started again" in report["warnings"][0]
    assert "driver failed programming" in report["warnings"][0]
    assert [row.name for row in rows(server)] == ["db"]
    container.does_not_start = False
    server.done("snapshots")
    assert (engine.running(), rows(server)) == ({"db"}, [])


def test_a_read_only_proxy_is_named_and_no_snapshot_is_made(server: Server, engine: EngineServer) -> None:
    engine.container("db", mounts=["shop"], labels=STOP)
    engine.is_read_only = True
    said = server.fails(1, "backup", "main")
    assert "refuses POST" in said
    assert "a read-only socket proxy cannot stop or start containers" in said
    assert (server.json("snapshots"), rows(server), engine.running()) == ([], [], {"db"})


def test_if_one_cannot_be_stopped_those_before_it_are_started(server: Server, engine: EngineServer) -> None:
    engine.container("a", labels=STOP)
    engine.container("b", labels=STOP, is_removed_at_its_end=True)
    engine.container("c", labels=STOP)
    assert "(--rm)" in server.fails(1, "backup", "main")
    assert engine.changes() == ["/containers/c/stop", "/containers/c/start"]
    assert (rows(server), engine.running()) == ([], {"a", "b", "c"})


def test_one_that_something_else_starts_again_makes_no_snapshot(server: Server, engine: EngineServer) -> None:
    engine.container("db", labels=STOP, starts_itself=True)
    assert "runs again, though it was stopped" in server.fails(1, "backup", "main")
    assert rows(server) == []


def test_commands_of_labels_run_before_it_is_stopped_and_after_it_runs_again(
    server: Server, engine: EngineServer
) -> None:
    place = Path(engine.volumes["shop"]["Mountpoint"])

    def run(name: str, words: object) -> tuple[int, bytes]:
        if words == ["sh", "-c", "dump > /data/a"]:
            (place / "a").write_text("dumped")
        return 0, b"fine"

    engine.run = run
    labels = {
        "docker-volume-backup.archive-pre": "sh -c 'dump > /data/a'",
        "docker-volume-backup.archive-post": "rm /data/a",
    }
    engine.container("db", mounts=["shop"], labels=STOP | labels)
    engine.container("idle", mounts=["shop"], labels=labels, is_running=False)
    engine.container("stranger", labels=labels)
    server.backup()
    assert engine.commands == [
        ("db", ["sh", "-c", "dump > /data/a"], True),
        ("db", ["rm", "/data/a"], True),
    ]
    assert server.done("dump", "latest:/.volumes/shop/a", "--key", server.key_file).stdout == "dumped"


def test_a_command_before_that_fails_makes_no_snapshot_and_one_after_a_partial_one(
    server: Server, engine: EngineServer
) -> None:
    engine.run = lambda _, words: (int(words[0] == "bad"), b"first\nno such database\n")
    made = engine.container("db", mounts=["shop"], labels=STOP | {"nightvault.exec-pre": "bad"})
    said = server.fails(1, "backup", "main")
    assert "in container db failed (1): no such database" in said
    assert (server.json("snapshots"), engine.running()) == ([], {"db"})
    made.labels = STOP | {"nightvault.exec-post": "bad"}
    report = server.json("backup", "main", exit_code=3)[0]
    assert "in container db failed (1): no such database" in report["warnings"][0]


# A run that is killed.


@pytest.mark.slow
@pytest.mark.parametrize("cut", CUTS)
def test_killed_anywhere_any_command_starts_it_again(server: Server, engine: EngineServer, cut: str) -> None:
    engine.container("db", mounts=["shop"], labels=STOP)
    killed(server, cut)
    is_stopped = engine.running() == set()
    assert is_stopped == (cut in CUTS[3:8])
    if is_stopped:
        assert [row.name for row in rows(server)] == ["db"]
    engine.asked.clear()
    server.done("ls", "latest") if server.json("snapshots") else server.done("runs")
    assert (engine.running(), rows(server)) == ({"db"}, [])
    assert engine.changes() == ["/containers/db/start"] * is_stopped
    assert server.backup()["outcome"] == "done"


@pytest.fixture
def left(server: Server, engine: EngineServer) -> FakeContainer:
    """A container that a killed run has left stopped."""
    made = engine.container("db", mounts=["shop"], labels=STOP)
    killed(server, "trees read before")
    engine.asked.clear()
    return made


def test_none_is_started_that_somebody_else_has_stopped_since(
    server: Server, engine: EngineServer, left: FakeContainer, caplog: pytest.LogCaptureFixture
) -> None:
    engine.answer("POST", f"/containers/{left.id}/start", None)
    engine.answer("POST", f"/containers/{left.id}/stop", None)
    engine.asked.clear()
    server.done("runs")
    assert (engine.changes(), engine.running(), rows(server)) == ([], set(), [])
    assert "was started and stopped by somebody else meanwhile: it is left as it is" in caplog.text


def test_one_that_was_about_to_be_stopped_and_ended_much_later_is_not_ours(
    server: Server, engine: EngineServer
) -> None:
    container = engine.container("db", mounts=["shop"], labels=STOP)
    killed(server, "engine stop before")
    container.is_running, container.finished_at = False, "2099-01-01T00:00:00.5Z"
    server.done("runs")
    assert (engine.running(), rows(server)) == (set(), [])


def test_one_that_was_removed_is_told(
    server: Server, engine: EngineServer, left: FakeContainer, caplog: pytest.LogCaptureFixture
) -> None:
    del engine.containers[left.id]
    server.done("runs")
    assert (engine.changes(), rows(server)) == ([], [])
    assert "container db, which was stopped, was removed meanwhile" in caplog.text


def test_while_a_run_is_at_work_no_other_command_starts_anything(
    server: Server, engine: EngineServer, left: FakeContainer
) -> None:
    inventory = open_inventory(f"sqlite:///{server.state}/inventory.sqlite", lock_directory=str(server.state))
    with inventory.locked("backup"):
        server.done("runs")
        assert (engine.changes(), [row.name for row in rows(server)]) == ([], ["db"])
    inventory.close()
    server.done("unlock")
    assert engine.running() == {"db"}


def test_an_engine_that_is_away_keeps_the_row_and_no_command_from_its_work(
    server: Server, engine: EngineServer, left: FakeContainer, caplog: pytest.LogCaptureFixture
) -> None:
    away = engine.socket.with_name("away")
    os.rename(engine.socket, away)
    server.done("runs")
    assert [row.name for row in rows(server)] == ["db"]
    assert "is not started again" in caplog.text
    os.rename(away, engine.socket)
    server.done("runs")
    assert engine.running() == {"db"}
