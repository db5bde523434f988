"""Forgetting after a backup and by a schedule: nothing else comes of a failure than that it is told."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import pytest

from backup.app import forgetting
from backup.app.regular_forgetting import forget_job
from backup.app.tasks import TaskKind, scheduled_tasks
from backup.config import load_config
from backup.errors import UnreachableError
from backup.model import JobName
from tests.support.daemons import last_start
from tests.support.doubles import ManualClock, Silent
from tests.support.servers import Server, directory_server

MAIN = JobName("main")


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A job that keeps two, after three nights without a policy."""
    made = directory_server(tmp_path)
    made.init()
    for _ in range(3):
        made.backup()
        advance(made)
    with_policy(made)
    return made


def advance(server: Server) -> None:
    assert isinstance(server.clock, ManualClock)
    server.clock.advance(timedelta(days=1))


def with_policy(server: Server, forget: str = "") -> None:
    plain = server.config.read_text().partition("\n[job.retention]")[0].partition("\nforget = ")[0]
    server.config.write_text(f"{plain}\n{forget}\n[job.retention]\nkeep_last = 2\n")


def ids(server: Server) -> list[str]:
    return [one["id"] for one in server.json("snapshots")]


def test_after_a_backup(server: Server) -> None:
    before = ids(server)
    report = server.backup()
    assert report["forgotten"] == before[:2]
    assert report["outcome"] == "done"
    assert ids(server) == [before[2], report["snapshot"]]
    newest, backup = server.json("runs", "--limit", "2")
    assert (newest["kind"], newest["report"]["forgotten"]) == ("forget", before[:2])
    assert backup["kind"] == "backup"
    assert report["recovery_line"] in (server.state / "recovery-lines.txt").read_text()
    advance(server)
    assert "forgot    1 older snapshot, by the policy" in server.done("backup").stdout


def test_never(server: Server) -> None:
    with_policy(server, 'forget = "never"')
    assert server.backup()["forgotten"] is None
    assert len(ids(server)) == 4


def test_a_failure_is_told_and_the_backup_stays_one(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise UnreachableError("the vault is away")

    monkeypatch.setattr(forgetting, "forget_in", fails)
    report = server.json("backup", exit_code=3)[0]
    assert report["forgotten"] is None
    assert report["outcome"] == "done"
    assert "the policy could not be applied: the vault is away" in report["warnings"]
    assert ids(server)[-1] == report["snapshot"]
    newest, backup = server.json("runs", "--limit", "2")
    assert (newest["kind"], newest["outcome"], newest["report"]["error"]) == (
        "forget", "failed", "the vault is away"
    )  # fmt: skip
    assert (backup["kind"], backup["outcome"]) == ("backup", "done")


def test_not_after_a_failed_backup(server: Server) -> None:
    (server.folder / "source").rename(server.folder / "gone")
    assert "not one of the sources" in server.fails(1, "backup")
    assert len(ids(server)) == 3


def test_by_a_schedule_it_is_known_when_it_ran(server: Server) -> None:
    with_policy(server, 'forget = "daily at 04:00"')
    config = load_config(str(server.config))
    found = [one for one in scheduled_tasks(config) if one.kind is TaskKind.FORGET]
    (when,) = [one.timing.schedule for one in found if one.name == MAIN]
    assert when is not None
    assert when.text == "daily at 04:00"
    assert server.backup()["forgotten"] is None
    assert last_start(config, TaskKind.FORGET, MAIN) is None
    for expected in (2, 0):
        advance(server)
        stop = threading.Event()
        forgot = forget_job(
            config, MAIN, clock=server.clock, progress=Silent(), stop=stop, always_record=True
        )
        assert len(forgot.snapshots) == expected
        assert last_start(config, TaskKind.FORGET, MAIN) == server.clock.now()
    assert len(ids(server)) == 2
    before = server.clock.now()
    advance(server)
    gone = server.json("snapshots", "--forgotten")[0]["id"]
    server.done("forget", "--undo", gone)
    server.done("forget", gone)
    assert last_start(config, TaskKind.FORGET, MAIN) == before
