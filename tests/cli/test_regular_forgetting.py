"""Forgetting after a backup and by a schedule: nothing else comes of a failure than that it is told."""

from __future__ import annotations

import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from backup.app.base.opened import opened
from backup.app.retention import forgetting
from backup.app.tasks.tasks import scheduled_tasks
from backup.config import load_config
from backup.errors import UnreachableError
from backup.inventory.records.runs import list_runs
from backup.kinds import Outcome, RunKind, TaskKind
from backup.model import JobName
from backup.operations.backup import Backup
from backup.operations.forget import Forget
from backup.operations.recorded import step_of
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
    return [snapshot["id"] for snapshot in server.json("snapshots")]


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


def test_an_error_that_nobody_expected_is_one_of_the_forget_alone(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backup.app.retention.forgetting.plan_by_policy", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        step_of(load_config(str(server.config)), Backup, MAIN, clock=server.clock, progress=Silent())
    with closing(opened(load_config(str(server.config)))) as inventory, inventory.reading() as tx:
        newest = [(run.kind, run.outcome) for run in list_runs(tx, limit=2)]
    assert newest == [(RunKind.FORGET, Outcome.FAILED), (RunKind.BACKUP, Outcome.DONE)]


def test_not_after_a_failed_backup(server: Server) -> None:
    (server.folder / "source").rename(server.folder / "gone")
    assert "not one of the sources" in server.fails(1, "backup")
    assert len(ids(server)) == 3


def test_by_a_schedule_it_is_known_when_it_ran(server: Server) -> None:
    with_policy(server, 'forget = "daily at 04:00"')
    config = load_config(str(server.config))
    found = [task for task in scheduled_tasks(config) if task.kind is TaskKind.FORGET]
    (when,) = [task.timing.schedule for task in found if task.name == MAIN]
    assert when is not None
    assert when.text == "daily at 04:00"
    assert server.backup()["forgotten"] is None
    assert last_start(config, TaskKind.FORGET, MAIN) is None
    for expected in (2, 0):
        advance(server)
        stop = threading.Event()
        forgot = step_of(config, Forget, MAIN, clock=server.clock, progress=Silent(), stop=stop)
        assert len(forgot.snapshots) == expected
        assert last_start(config, TaskKind.FORGET, MAIN) == server.clock.now()
    assert len(ids(server)) == 2
    before = server.clock.now()
    advance(server)
    gone = server.json("snapshots", "--forgotten")[0]["id"]
    server.done("forget", "--undo", gone)
    server.done("forget", gone)
    assert last_start(config, TaskKind.FORGET, MAIN) == before


@pytest.mark.parametrize("pattern", ["*", "/**", "{source}/*"])
def test_nothing_goes_while_the_patterns_leave_out_all_of_a_source(server: Server, pattern: str) -> None:
    before = ids(server)
    text = server.config.read_text()
    exclude = f'exclude = ["{pattern.format(source=server.source)}"]\n'
    server.config.write_text(text.replace("\n[job.retention]", f"\n{exclude}[job.retention]"))
    for _ in range(3):
        report = server.json("backup", exit_code=3)[0]
        assert (report["files"], report["outcome"], report["forgotten"]) == (0, "partial", None)
        told = " ".join(report["warnings"])
        assert f"job main leaves out all of its source {server.source} (" in told
        assert f"4 files that snapshot {before[-1][:8]} has of it" in told
        assert "nothing was forgotten by the policy of job main" in told
        backup = server.json("runs", "--limit", "1")[0]
        assert (backup["kind"], backup["outcome"]) == ("backup", "partial")
        advance(server)
    forgot = step_of(
        load_config(str(server.config)),
        Forget,
        MAIN,
        clock=server.clock,
        progress=Silent(),
        stop=threading.Event(),
    )
    assert (forgot.snapshots, forgot.has_failed) == ((), True)
    for words in (["forget"], ["forget", "main", "--dry-run"]):
        by_hand = server.run(*words)
        assert by_hand.exit_code == 3
        assert (
            "nothing was forgotten by the policy of job main, since the job leaves out all" in by_hand.stderr
        )
    assert "leaves out all of its source" in server.run("backup").stderr
    assert set(before) <= set(ids(server))
    server.config.write_text(text)
    report = server.backup()
    assert report["outcome"] == "done"
    assert set(before) & set(ids(server)) == set(), "it goes on as soon as the source is saved again"


def test_a_job_that_may_shrink_may_leave_out_all_of_a_source(server: Server) -> None:
    text = server.config.read_text()
    leaves = '\nexclude = ["*"]\nmay_shrink = true\n[job.retention]'
    server.config.write_text(text.replace("\n[job.retention]", leaves))
    report = server.backup()
    assert (report["files"], report["outcome"], len(report["forgotten"])) == (0, "done", 2)


def test_an_empty_source_is_not_left_out_by_patterns_that_leave_out_other_files(tmp_path: Path) -> None:
    server = directory_server(tmp_path)
    server.init()
    with_policy(server, 'exclude = ["*.tmp", "b.*"]')
    other = server.folder / "other"
    other.mkdir()
    (other / "a.txt").write_text("alpha")
    text = server.config.read_text()
    server.config.write_text(text.replace("sources = [", f'sources = ["{other}", '))
    server.backup()
    (other / "a.txt").unlink()
    (other / "new.tmp").write_text("of a program")
    told = " ".join(server.json("backup", exit_code=3)[0]["warnings"])
    assert "unusual: source" in told, "it is a loss"
    assert "leaves out all" not in told
