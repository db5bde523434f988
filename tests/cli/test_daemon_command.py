"""`nightvault daemon` as a real process: it backs up by schedule, and stops cleanly."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from backup.catalogs.report import BackupReport
from backup.daemon.loop import Loop
from backup.kinds import Outcome
from backup.model import JobName, Problem, ProblemKind, SnapshotId, VaultName
from backup.reports import log_report
from tests.support.command_line import run, run_json

SCRIPT = str(Path(sys.executable).parent / "nightvault")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("content")
    path = tmp_path / "config.toml"
    path.write_text(
        '[state]\ndir = "state"\n[[vault]]\nname = "disk"\nkind = "directory"\npath = "vault"\n'
        f'[[job]]\nname = "hourly"\nvault = "disk"\nsources = ["{source}"]\nschedule = "every 1h"\n'
        f'[[job]]\nname = "by-hand"\nvault = "disk"\nsources = ["{source}"]\n'
    )
    path.chmod(0o600)
    return path


def test_it_backs_up_what_is_due_and_stops_cleanly(config: Path, tmp_path: Path) -> None:
    made = run("--config", config, "init", "--non-interactive", "--key-file", tmp_path / "recovery.key")
    assert made.exit_code == 0, made.output
    said: list[str] = []
    words = [SCRIPT, "--config", str(config), "daemon"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        while not said or "done in" not in said[-1]:
            said.append(process.stderr.readline())
            assert said[-1], said
        process.send_signal(signal.SIGTERM)
        said += process.stderr.read().splitlines()
        assert process.stdout.read() == ""
        assert process.wait(30) == 0
    text = "\n".join(said)
    assert "INFO job hourly: every 1h" in text
    assert "INFO run 1: job hourly: snapshot " in text
    assert "1 files of 7 B, 7 B read" in text
    assert said[-2].endswith("INFO asked to stop")
    assert said[-1].endswith("INFO stopped")
    (made_run,) = run_json("--config", config, "runs")
    assert (made_run["job"], made_run["outcome"]) == ("hourly", "done")


def test_a_second_daemon_on_one_state_stops(config: Path, tmp_path: Path) -> None:
    """Two daemons would run each job twice; the second ends with 11, the first goes on."""
    made = run("--config", config, "init", "--non-interactive", "--key-file", tmp_path / "recovery.key")
    assert made.exit_code == 0, made.output
    words = [SCRIPT, "--config", str(config), "daemon"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "started" not in (line := process.stderr.readline()):
            assert line, "it ended"
        second = run("--config", config, "daemon")
        assert second.exit_code == 11
        with_which = f"with {tmp_path / 'state'}: process {process.pid}"
        assert f"a daemon is already running {with_which}" in second.stderr
        assert "wait until" not in second.stderr
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        assert process.wait(30) == 0
    state = (tmp_path / "state").stat()
    assert state.st_mode & 0o777 == 0o700


def test_without_an_inventory_it_does_not_start(config: Path) -> None:
    result = run("--config", config, "daemon")
    assert result.exit_code == 10
    assert "nightvault init" in result.stderr


def test_without_a_schedule_it_does_not_start(config: Path) -> None:
    config.write_text(config.read_text().replace('schedule = "every 1h"\n', ""))
    result = run("--config", config, "daemon")
    assert result.exit_code == 2
    assert "no job has a schedule" in result.stderr


def test_an_unforeseen_error_of_a_run_goes_into_a_file(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero")

    run("--config", config, "init", "--non-interactive", "--key-file", tmp_path / "recovery.key")
    monkeypatch.setattr("backup.daemon.work.step_of", broken)

    def once(loop: Loop) -> bool:
        loop.board.look()
        return loop.executor.wait(20)

    monkeypatch.setattr("backup.daemon.loop.Loop.run", once)
    said = run("--config", config, "daemon").stderr
    (crash,) = (tmp_path / "state").glob("nightvault-crash-*.log")
    assert "job hourly: failed: unexpected ZeroDivisionError: by zero" in said
    assert f"job hourly: please report it with {crash}" in said
    assert "command: daemon job hourly" in crash.read_text()


def test_the_log_names_what_could_not_be_read(caplog: pytest.LogCaptureFixture) -> None:
    problems = [Problem(b"/a/\x1b%d" % n, ProblemKind.UNREADABLE, "Permission denied") for n in range(25)]
    report = BackupReport(
        job=JobName("etc"), vault=VaultName("disk"), run=1, snapshot=SnapshotId("0123456789abcdef"),
        outcome=Outcome.PARTIAL, files=1234, bytes=4096, files_read=3, bytes_read=2048, bytes_new=1024,
        bytes_uploaded=512, archives=2, entries_added=3, entries_removed=0, seconds=1.5, problems=problems,
        recipients=[], catalog="x", warnings=["odd"],
    )  # fmt: skip
    with caplog.at_level(logging.INFO, "backup.reports"):
        log_report(report)
    assert caplog.messages[0] == r"job etc: unreadable: /a/\x1b0: Permission denied"
    assert caplog.messages[20:] == [
        "job etc: and 5 more",
        "job etc: odd",
        "job etc: snapshot 01234567, 1,234 files of 4.0 KiB, 2.0 KiB read, 512 B uploaded in 2 archives",
    ]
