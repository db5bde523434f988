"""A real daemon is talked to: run, pause, resume, cancel, status; SIGHUP; a stop whatever it does."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backup.app.machine.units import templates_folder
from tests.support.command_line import run, run_json
from tests.support.real_daemons import SCRIPT, RealDaemon, following, running

pytestmark = pytest.mark.usefixtures("heeding_hangups")

JOBS = """
[[job]]
name = "nightly"
vault = "disk"
sources = ["{source}"]
schedule = "0 0 29 2 *"
timezone = "UTC"
[[job]]
name = "slow"
vault = "disk"
sources = ["{source}"]
[job.hooks]
before = ["{hook}"]
"""
HOOK = """#!/bin/sh
[ -e {go} ] && exit 0
trap '{trap}' TERM
touch {at}
while [ -e {at} ] && ! [ -e {go} ]; do sleep 0.1; done  # a test that is over takes its folder along
"""


class Place:
    """A server whose job `slow` waits in a hook until the file `go` is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.toml"
        source = folder / "source"
        source.mkdir()
        (source / "file").write_text("content")
        self.write(JOBS)
        self.hook("exit 1")
        words = ("--config", self.config, "init", "--non-interactive", "--key-file", folder / "recovery.key")
        made = run(*words)
        assert made.exit_code == 0, made.output

    def write(self, jobs: str) -> None:
        """Write the config."""
        made = jobs.format(source=self.folder / "source", hook=self.folder / "hook")
        vault = '[state]\ndir = "state"\n[[vault]]\nname = "disk"\nkind = "directory"\npath = "vault"\n'
        self.config.write_text(vault + made)
        self.config.chmod(0o600)

    def hook(self, trap: str) -> None:
        """Write the hook; `trap` is what it does on SIGTERM."""
        path = self.folder / "hook"
        path.write_text(HOOK.format(go=self.folder / "go", at=self.folder / "at", trap=trap))
        path.chmod(0o700)

    def __call__(self, *words: str, exit_code: int = 0) -> Any:
        now = datetime.now(UTC)
        return run_json("--config", self.config, *words, exit_code=exit_code, now=now)

    def screen(self) -> str:
        """What `status` shows."""
        return run("--config", self.config, "status", now=datetime.now(UTC)).stdout

    def begin_slow(self, daemon: RealDaemon) -> None:
        """Have the slow job begin, and wait until its hook runs."""
        daemon.wait_for("started with")
        assert self("run", "slow") == {"job": "slow", "queued": True, "after": None}
        deadline = time.monotonic() + 30
        while not (self.folder / "at").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def tasks(self) -> dict[str, Any]:
        """The daemon's tasks by name, as `status` has them."""
        said = run("--config", self.config, "--json", "status", now=datetime.now(UTC)).stdout
        return {task["task"]: task for task in json.loads(said)["tasks"]}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_what_is_asked_for_runs_at_once_and_status_tells_how_far_it_is(place: Place) -> None:
    with running(place.config) as daemon:
        place.begin_slow(daemon)
        assert place("run", "slow") == {"job": "slow", "queued": False, "after": None}
        assert place("run", "nightly")["queued"]
        slow, nightly = (place.tasks()[f"job {name}"] for name in ("slow", "nightly"))
        assert (slow["state"], nightly["state"]) == ("running", "queued")
        screen = place.screen()
        assert re.search(rf"runs now +job slow \(run {slow['number']}\)", screen), screen
        assert slow["number"] == place("runs")[0]["run"]
        assert re.search("queued +job nightly +\n", screen), screen
        (place.folder / "go").touch()
        daemon.wait_for("job nightly: done in")
        assert place.tasks()["job slow"]["state"] == "idle"
        assert daemon.stop() < 10
    assert [document["outcome"] for document in place("runs")] == ["done", "done"]
    assert place("run", "slow", exit_code=15)["error"]["kind"] == "daemon-away"


def test_a_run_is_cancelled_and_not_gone_on_with(place: Place) -> None:
    with running(place.config) as daemon:
        place.begin_slow(daemon)
        refused = place("cancel", "other", exit_code=2)["error"]
        assert "no run is named other: what runs is job slow (" in refused["message"]
        number = place.tasks()["job slow"]["number"]
        answer = place("cancel", str(number))
        assert (answer["task"], answer["number"]) == ("job slow", number)
        daemon.wait_for("job slow: cancelled")
        daemon.stop()
    with running(place.config) as daemon:
        daemon.wait_for("started with")
        assert place.tasks()["job slow"]["last"] == "cancelled"
        daemon.stop()
    assert [document["outcome"] for document in place("runs")] == ["interrupted"]


def test_what_is_asked_for_while_its_run_is_cancelled_begins_after_it(place: Place) -> None:
    place.hook("")  # so the run does not end at once
    with running(place.config) as daemon:
        place.begin_slow(daemon)
        number = place.tasks()["job slow"]["number"]
        place("cancel", "slow")
        said = run("--config", place.config, "run", "slow", now=datetime.now(UTC))
        assert (
            f"job slow is queued: it begins once run {number}, which was cancelled, has ended" in said.stdout
        )
        screen = place.screen()
        assert re.search("runs now +job slow .*\nqueued +job slow +\n", screen), screen
        (place.folder / "go").touch()
        daemon.wait_for("job slow: cancelled")
        daemon.wait_for("job slow: done in")
        daemon.stop()
    assert [document["outcome"] for document in place("runs")] == ["done", "interrupted"]


def test_a_run_by_hand_of_a_paused_job_goes_on_after_a_kill(place: Place) -> None:
    place("pause", "slow", "--until", "3h")
    with running(place.config) as daemon:
        place.begin_slow(daemon)
        daemon.kill()
    (place.folder / "go").touch()
    with running(place.config) as daemon:
        daemon.wait_for("job slow: done in")
        assert place.tasks()["job slow"]["state"] == "paused"
        daemon.stop()
    assert [document["outcome"] for document in place("runs")] == ["done", "interrupted"]


def test_a_pause_is_there_with_and_without_a_daemon(place: Place) -> None:
    first = place("pause", "nightly", "--until", "3h")
    with running(place.config) as daemon:
        daemon.wait_for("job nightly: is paused")
        assert place.tasks()["job nightly"]["paused_until"] == first["until"]
        assert "paused until" in place.screen()
        assert place("resume", "nightly") == {"job": "nightly", "was_paused": True}
        assert place("resume", "nightly") == {"job": "nightly", "was_paused": False}
        daemon.wait_for("job nightly: goes on after its pause")
        place("pause", "nightly", "--until", "2d")
        daemon.stop()
    assert place("resume", "nightly")["was_paused"]
    for words in ("2020-01-01", "soon", "60w"):
        assert place("pause", "nightly", "--until", words, exit_code=2)["error"]["kind"] == "usage"
    assert (
        "there is nightly, slow" in place("pause", "night", "--until", "3h", exit_code=2)["error"]["message"]
    )


def test_a_timer_leaves_out_a_job_that_is_paused_and_a_backup_by_hand_does_not(place: Place) -> None:
    (place.folder / "go").touch()
    place("pause", "slow", "--until", "3h")
    assert place("backup", "--unless-paused", "slow") == []
    assert [report["job"] for report in place("backup", "--unless-paused")] == ["nightly"]
    assert [report["job"] for report in place("backup", "slow")] == ["slow"]
    place("resume", "slow")
    assert [report["job"] for report in place("backup", "--unless-paused", "slow")] == ["slow"]
    service = (Path(templates_folder()) / "nightvault-backup@.service").read_text()
    assert "\nExecStart=/usr/local/bin/nightvault backup --unless-paused %i\n" in service


def test_the_config_is_read_again_and_one_with_mistakes_is_refused(place: Place) -> None:
    with running(place.config) as daemon:
        daemon.wait_for("started with 1 task")
        place.write(JOBS.replace("0 0 29 2 *", "daily at 04:00").replace('"slow"', '"other"'))
        daemon.process.send_signal(signal.SIGHUP)
        said = daemon.wait_for("config: job other: new")
        assert "config: job nightly: schedule: 0 0 29 2 * -> daily at 04:00" in said
        assert "config: job slow: removed" in said
        assert "job other" in place.tasks()
        place.config.write_text("nonsense")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("the config was not reloaded, and the old one stays in force")
        place.config.rename(place.folder / "away")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("the old one stays in force: cannot read", 1)
        os.mkfifo(place.config)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("config.toml: it is no regular file")
        (place.folder / "away").rename(place.config)
        place.write(JOBS.replace("schedule", "# schedule"))
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("no task has a schedule any more")
        assert "job slow" in place.tasks(), "the file's word holds: nothing is done by the old one"
        assert place.tasks()["job nightly"]["next_at"] is None
        place.write('[state]\ndir = "elsewhere"\n' + JOBS)
        place.config.write_text(place.config.read_text().replace('[state]\ndir = "state"\n', ""))
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("the state directory or the inventory is another one")
        place.write(JOBS)
        (place.folder / "go").touch()
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("config: job slow: new")
        place("run", "slow")
        daemon.wait_for("job slow: done in")
        place.write('[monitoring]\nlog = "json"\n' + JOBS)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for('"message":"the config was read again: these have changed"')
        daemon.stop()


def test_a_job_that_went_is_gone_from_the_metrics_at_once(place: Place) -> None:
    """Else an alert fires for it until the next run of anything, which may be a week away."""
    monitoring = '[monitoring]\nmetrics_file = "m.prom"\n'
    place.write(monitoring + JOBS)
    metrics = place.folder / "m.prom"
    with running(place.config) as daemon:
        daemon.wait_for("started with")
        daemon.process.send_signal(signal.SIGHUP)
        jobs_told(metrics, {"nightly", "slow"})
        place.write(monitoring + JOBS.replace('"slow"', '"other"'))
        daemon.process.send_signal(signal.SIGHUP)
        jobs_told(metrics, {"nightly", "other"})
        moved = monitoring.replace("m.prom", "moved.prom")
        place.write(moved + JOBS)
        daemon.process.send_signal(signal.SIGHUP)
        jobs_told(place.folder / "moved.prom", {"nightly", "slow"})
        assert not metrics.exists(), "a collector would find each value twice, one of them old"
        (place.folder / "moved.prom").write_text("# of another program\n")
        place.write(JOBS)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("metrics_file: ", 2)
        daemon.stop()
    assert (place.folder / "moved.prom").read_text() == "# of another program\n"


def test_a_config_that_the_daemon_has_not_read_is_a_concern(place: Place) -> None:
    """Else all is well until a job that nobody backs up is overdue, which may take weeks."""
    place.write(JOBS)
    unread = "the daemon keeps no schedule of job other: it has not read this config"

    def is_told() -> bool:
        return unread in " ".join(place.screen().split())

    with running(place.config) as daemon:
        daemon.wait_for("started with")
        assert not is_told()
        place.write(JOBS.replace('"nightly"', '"other"'))
        assert is_told()
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("job other: new")
        deadline = time.monotonic() + 10
        while is_told():
            assert time.monotonic() < deadline
        daemon.stop()


def jobs_told(metrics: Path, jobs: set[str]) -> None:
    """Wait until the file tells of these jobs, and of no other."""
    deadline, found = time.monotonic() + 30, set[str]()
    while found != jobs:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
        found = set(re.findall(r'job="([a-z]+)"', metrics.read_text() if metrics.exists() else ""))


@pytest.mark.slow
@pytest.mark.parametrize("trap", ["exit 1", ""], ids=["ends", "deaf"])
def test_it_ends_in_time_although_a_hook_runs_and_goes_on_after_the_next_start(
    place: Place, trap: str
) -> None:
    """A deaf hook is one that ignores SIGTERM; the run is dropped then, and both ways it is gone on with."""
    place.hook(trap)
    with running(place.config) as daemon:
        place.begin_slow(daemon)
        assert daemon.stop() < 10
    (place.folder / "go").touch()
    with running(place.config) as daemon:
        daemon.wait_for("job slow: done in")
        assert daemon.stop() < 10
    assert place("runs")[0]["outcome"] == "done"


def test_a_second_signal_ends_it_at_once(place: Place) -> None:
    place.hook("")
    with running(place.config) as daemon:
        place.begin_slow(daemon)
        daemon.process.terminate()
        daemon.wait_for("asked to stop")
        daemon.process.terminate()
        assert daemon.process.wait(5) == -signal.SIGTERM
    (place.folder / "go").touch()


def test_the_socket_is_the_owners_and_goes_with_the_daemon(place: Place) -> None:
    path = place.folder / "state" / "daemon.sock"
    with running(place.config) as daemon:
        daemon.wait_for("started with")
        assert os.stat(path).st_mode & 0o777 == 0o600
        daemon.stop()
    assert not path.exists()


HUNG_UP_EARLY = """
import os, signal, sys
from backup.cli import main
from backup.cli.support.context import Cli
read = Cli.config

def config(self):
    os.kill(os.getpid(), signal.SIGHUP)
    return read(self)

Cli.config = config
main(["--config", sys.argv[1], "daemon"])
"""


def test_a_hangup_while_it_starts_is_answered_then(place: Place) -> None:
    with following([sys.executable, "-c", HUNG_UP_EARLY, str(place.config)]) as daemon:
        daemon.wait_for("the config was read again: nothing has changed")
        daemon.stop()


def test_it_ends_when_its_terminal_is_closed(place: Place) -> None:
    """SIGHUP means that, then, and no reload."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(SCRIPT, [SCRIPT, "--config", str(place.config), "daemon"])
    said = b""
    while b"started with" not in said:
        said += os.read(terminal, 4096)
    os.close(terminal)
    deadline = time.monotonic() + 20
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert os.waitstatus_to_exitcode(ended[1]) == 0
