"""`status`: whether all is well, as people, scripts and Nagios are told; no vault is asked."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from rich.cells import cell_len
from rich.console import Console

from backup.app.base.clock import SystemClock
from backup.app.status.concerns import concerns_of
from backup.app.status.parts import Status
from backup.app.status.status import read_status
from backup.cli import main
from backup.cli.render.status_screen import status_screen
from backup.config import load_config
from backup.daemon.control import ControlServer
from backup.inventory.store.connections import Connections
from backup.inventory.store.locks import hold_lock
from backup.kinds import Outcome, RunKind
from tests.support import statuses
from tests.support.command_line import CliAt
from tests.support.doubles import START, ManualClock
from tests.support.identities import authority_in, issue_in
from tests.support.servers import SCRIPT, Server, directory_server
from tests.support.statuses import DAY, HOUR, NOW
from tests.support.users import AS_NOBODY
from tests.support.without_coverage import unmeasured

MOST_STATEMENTS = 32  # one for each kind of fact, among them legal holds and locks of vaults


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A server that was set up now, and has a job for each six hours."""
    made = directory_server(tmp_path, clock=ManualClock())
    made.init()
    os.utime(made.config, (START.timestamp(), START.timestamp()))
    return made


@pytest.fixture
def with_daemon(server: Server) -> Iterator[Server]:
    """With a daemon's lock and socket, and a backup that is done."""
    server.backup()
    with daemon_at(server):
        yield server


@contextmanager
def daemon_at(server: Server) -> Iterator[None]:
    """The lock of a daemon, and its answer: it has nothing to do."""
    answer = {"tasks": [], "waits_for_clock": False}
    with hold_lock(str(server.state), "daemon"):
        control = ControlServer(str(server.state), {"status": lambda _: answer})
        control.start()
        try:
            yield
        finally:
            control.close()


def later(server: Server, span: timedelta) -> None:
    assert isinstance(server.clock, ManualClock)
    server.clock.advance(span)


def topics(server: Server) -> list[tuple[str, str]]:
    """The concerns that it tells of; its exit code must go with them."""
    result = server.run("--json", "status")
    document = json.loads(result.stdout)
    assert document["well"] == (result.exit_code == 0) == (not document["concerns"])
    return [(concern["level"], concern["topic"]) for concern in document["concerns"]]


def test_all_is_well(with_daemon: Server) -> None:
    text = with_daemon.done("status").stdout
    assert text.startswith("all is well so far (2026-03-01 02:00 ")
    assert "not yet    vault cold was never checked: `nightvault check --vault cold`" in text
    with_daemon.done("check")
    text = with_daemon.done("status").stdout
    assert text.startswith("all is well (2026-03-01 02:00 ")
    assert "not yet" not in text
    assert re.search(r"^main +cold +2026-03-01 02:00 +0 s +done +2026-03-01 08:00", text, re.MULTILINE)
    assert "daemon     runs" in text
    assert "no policy, so all snapshots are kept: main" in text
    assert re.search(r"cold: 2 archives, [0-9.]+ .iB, costs nothing", text), "free is what the disk has"
    document = with_daemon.json("status")
    assert (document["well"], document["daemon_runs"], document["currency"]) == (True, True, "USD")
    (job,) = document["jobs"]
    assert (job["last_good"], job["overdue"], job["retention"]) == ("2026-03-01T02:00:00Z", False, False)
    assert job["overdue_from"] == "2026-03-01T09:30:00Z"
    (vault,) = document["vaults"]
    (ours,) = with_daemon.json("stats")["vaults"]
    assert (vault["archives"], vault["bytes"]) == (ours["archives"], ours["bytes"])


def test_what_nobody_looks_after_is_not_well_without_a_word(server: Server) -> None:
    """Nothing is wrong with what was never tried."""
    text = server.config.read_text()
    server.config.write_text(text.replace('schedule = "every 6h"\n', ""))
    said = server.done("status").stdout
    assert said.startswith("all is well so far (")
    assert "not yet    job main was never backed up: `nightvault backup main`" in said
    assert "job main has no schedule: it is backed up by hand alone" in said
    server.backup()
    assert "was never backed up" not in server.done("status").stdout
    server.config.write_text(text.partition("[[job]]")[0])
    assert "the config has no job, so nothing is backed up" in server.run("status").stdout


def test_without_the_daemon_it_works_and_says_so(server: Server) -> None:
    server.backup()
    assert topics(server) == [("warning", "daemon")]
    assert "daemon     does not run" in server.run("status").stdout


def test_timers_keep_the_schedule_without_the_daemon(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.backup()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    server.done("install", "--systemd", "--user", "--timers")
    assert topics(server) == [("warning", "daemon")]  # they were not enabled
    units = tmp_path / "config" / "systemd" / "user"
    (units / "timers.target.wants").mkdir()
    (units / "timers.target.wants" / "nightvault-backup@main.timer").symlink_to(
        units / "nightvault-backup@main.timer"
    )
    assert topics(server) == []
    document = server.json("status")
    assert (document["daemon_runs"], document["jobs"][0]["timer"]) == (False, True)
    assert "daemon     does not run; timers of systemd make backups" in server.done("status").stdout


def test_it_tells_what_is_free(server: Server) -> None:
    (disk, *_) = server.json("status", exit_code=1)["disks"]
    assert disk["path"] == str(server.state)
    assert disk["free"] > disk["least"] > 0
    assert re.search(
        r"^free +[0-9.]+ [GT]iB where the state directory lies: ", server.run("status").stdout, re.MULTILINE
    )


def test_a_vault_that_was_given_another_name(with_daemon: Server) -> None:
    """Every backup is refused then, and none is a run that could fail."""
    text = with_daemon.config.read_text()
    with_daemon.config.write_text(text.replace('"cold"', '"renamed"'))
    assert topics(with_daemon) == [("critical", "vault")]
    said = with_daemon.run("status").stdout
    assert "job main is kept in vault cold, and the config says renamed" in said
    assert "is kept in vault cold, and the config says renamed" in with_daemon.fails(2, "backup")
    with_daemon.config.write_text(text)
    assert topics(with_daemon) == []


def test_overdue(with_daemon: Server) -> None:
    later(with_daemon, timedelta(hours=7, minutes=30))
    assert topics(with_daemon) == []
    later(with_daemon, timedelta(minutes=1))
    assert topics(with_daemon) == [("critical", "overdue")]
    result = with_daemon.run("status", "--overdue")
    assert result.exit_code == 1
    assert "job main is overdue since 2026-03-01 09:30: last good 2026-03-01 02:00" in result.stdout
    with_daemon.backup()
    assert with_daemon.done("status", "--overdue").stdout == "nothing is overdue\n"


def test_overdue_alone_says_nothing_of_other_things(server: Server) -> None:
    """A timer that asks only this is not told of a daemon that it does not need."""
    server.backup()
    assert server.done("status", "--overdue").stdout == "nothing is overdue\n"
    assert server.json("status", "--overdue")["concerns"] == []
    assert server.done("--quiet", "status", "--overdue").output == "", "cron mails what is printed"
    later(server, DAY)
    assert "is overdue since" in server.run("--quiet", "status", "--overdue").stdout


def test_never_backed_up(server: Server) -> None:
    """It was expected at once; the grace of a quarter of six hours runs from there."""
    with daemon_at(server):
        later(server, timedelta(hours=7, minutes=29))
        assert topics(server) == []
        later(server, timedelta(minutes=2))
        assert topics(server) == [("critical", "overdue")]
        now = server.clock.now().timestamp()
        os.utime(server.config, (now, now))  # a tool that writes it each day
        assert topics(server) == [("critical", "overdue")]
        server.config.write_text(server.config.read_text().replace('"main"', '"new"'))
        os.utime(server.config, (now, now))  # this job has come just now
        assert topics(server) == []


def test_a_backup_that_fails(with_daemon: Server) -> None:
    later(with_daemon, HOUR)
    (with_daemon.folder / "vault").rename(with_daemon.folder / "away")
    with_daemon.run("backup")
    document = with_daemon.json("status", exit_code=1)
    (one,) = document["concerns"]
    assert (one["level"], one["topic"], one["job"]) == ("warning", "run", "main")
    assert one["command"] == "nightvault runs --job main"
    (job,) = document["jobs"]
    assert (job["last_good"], job["last_run"]["outcome"]) == ("2026-03-01T02:00:00Z", "failed")
    assert job["last_run"]["vault"] == "cold"
    assert job["last_run"]["error"] in one["text"]
    (with_daemon.folder / "away").rename(with_daemon.folder / "vault")
    with_daemon.backup()
    assert topics(with_daemon) == []


def test_a_check_that_finds_damage_is_not_hidden_by_another_sort_of_check(with_daemon: Server) -> None:
    there = (with_daemon.folder / "vault" / "archives").glob("*/*.json")
    gone = next(path for path in there if " data " in json.loads(path.read_text())["description"])
    gone.with_suffix("").unlink()
    gone.unlink()
    assert with_daemon.run("check").exit_code == 1
    with closing(sqlite3.connect(with_daemon.state / "inventory.sqlite")) as inventory, inventory:
        inventory.execute(  # a sample that found nothing
            "INSERT INTO runs (kind, outcome, started_at, finished_at, report)"
            """ SELECT kind, 'done', started_at, finished_at, '{"vault": "cold", "read": {}}' """
            " FROM runs WHERE kind = 'check'"
        )
    assert topics(with_daemon) == [("critical", "run")]
    assert "nightvault check --vault cold" in with_daemon.run("status").stdout


def test_what_two_sorts_of_checks_found_is_made_up_for_by_what_status_names(with_daemon: Server) -> None:
    path = next(
        file.with_suffix("")
        for file in (with_daemon.folder / "vault" / "archives").glob("*/*.json")
        if " data " in json.loads(file.read_text())["description"]
    )
    data = path.read_bytes()
    path.write_bytes(bytes([*data[:3000], data[3000] ^ 255, *data[3001:]]))
    assert with_daemon.run("check", "--read-data", "100%").exit_code == 1
    assert with_daemon.run("check").exit_code == 1
    concerns = with_daemon.json("status", exit_code=1)["concerns"]
    found = {concern["text"].partition(",")[0]: concern["command"] for concern in concerns}
    assert found == {
        "check of vault cold found something missing or damaged": "nightvault check --vault cold",
        "reading back vault cold found something missing or damaged": "nightvault check --vault cold"
        " --read-data 1%",
    }
    with_daemon.backup()  # stores anew what was damaged
    for command in found.values():
        with_daemon.done(*command.split()[1:])
    assert topics(with_daemon) == []


def test_a_clock_that_was_set_back(with_daemon: Server) -> None:
    for span in (timedelta(minutes=-6), -DAY, -3650 * DAY):
        later(with_daemon, span)
        assert topics(with_daemon) == [("warning", "clock")]
        assert with_daemon.json("status", exit_code=1)["jobs"][0]["overdue"] is False
        assert "a date that is still to come, 2026-03-01 02:00" in with_daemon.run("status").stdout
        later(with_daemon, -span)


def test_a_clock_that_was_set_forward(with_daemon: Server) -> None:
    later(with_daemon, timedelta(minutes=-4))  # clocks differ by that much
    assert topics(with_daemon) == []
    later(with_daemon, 3650 * DAY)
    assert topics(with_daemon) == [("critical", "overdue")]
    with_daemon.backup()
    later(with_daemon, -3649 * DAY)
    assert topics(with_daemon) == [("critical", "overdue"), ("warning", "clock")]


def test_a_run_and_one_that_died(with_daemon: Server) -> None:
    with closing(sqlite3.connect(with_daemon.state / "inventory.sqlite")) as inventory, inventory:
        inventory.execute(
            "INSERT INTO runs (kind, job, outcome, started_at)"
            " SELECT 'backup', number, 'running', ? FROM jobs",
            (int(START.timestamp() * 1e6),),
        )
    later(with_daemon, timedelta(minutes=12))
    assert "its process died; the next backup records that" in with_daemon.done("status").stdout
    with hold_lock(str(with_daemon.state), "backup"):
        text = with_daemon.done("status").stdout
        assert "backup of job main since 2026-03-01 02:00, for 12 min" in text
        assert re.search(r"^main .* runs now", text, re.MULTILINE)
        (one,) = with_daemon.json("status")["running"]
        assert (one["kind"], one["job"], one["dead"]) == ("backup", "main", False)


def test_what_was_never_read_back(with_daemon: Server) -> None:
    (vault,) = with_daemon.json("status")["vaults"]
    assert vault["unverified_since"] == "2026-03-01T02:00:00Z"
    with_daemon.done("check", "--read-data", "100%")
    (vault,) = with_daemon.json("status")["vaults"]
    assert vault["unverified_since"] is None
    later(with_daemon, HOUR)
    (with_daemon.source / "new").write_text("more")
    with_daemon.backup()
    (vault,) = with_daemon.json("status")["vaults"]
    assert vault["unverified_since"] == "2026-03-01T03:00:00Z"


@pytest.mark.parametrize(
    "states",
    [["planned"], ["waiting", "waiting"], ["ready", "waiting"], ["ready", "fetched"], ["failed", "waiting"]],
)
def test_open_restores_are_told_as_restores_tells_them(with_daemon: Server, states: list[str]) -> None:
    """By groups of retrievals, where `restores` looks at each of them."""
    (snapshot,) = with_daemon.json("snapshots")
    begin = int(START.timestamp() * 1e6)
    with closing(sqlite3.connect(with_daemon.state / "inventory.sqlite")) as inventory, inventory:
        inventory.execute(
            "INSERT INTO restores (number, id, snapshot, vault, path, target, tier, state, created_at)"
            " VALUES (1, 'abcdef0123456789', ?, 1, x'2f', x'2f6d', 'standard', 'open', ?)",
            (snapshot["id"], begin),
        )
        for number, state in enumerate([*states, *states]):
            hour = begin + number * 3_600_000_000
            inventory.execute(
                "INSERT INTO retrievals"
                " (restore, archive, start, end, tier, token, state, requested_at, until)"
                " VALUES (1, 1, 0, 1, ?, ?, ?, ?, ?)",
                (
                    "bulk" if number % 3 else "standard",
                    str(number),
                    state,
                    hour,
                    hour if state == "ready" else None,
                ),
            )
    (theirs,) = with_daemon.json("restores")
    document = json.loads(with_daemon.run("--json", "status").stdout)
    (ours,) = document["restores"]
    same = ("id", "snapshot", "vault", "target", "stage", "retrievals", "waiting", "failed", "expected_at")
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}
    assert ours["ready_until"] == theirs["ready_until"]
    assert [concern["topic"] for concern in document["concerns"]] == (
        ["restore"] if "failed" in states else []
    )


def test_there_is_no_inventory(tmp_path: Path) -> None:
    server = directory_server(tmp_path)
    assert "nightvault init" in server.fails(10, "status")
    result = server.run("status", "--nagios")
    assert (result.exit_code, result.stderr) == (3, "")
    assert result.stdout.startswith("UNKNOWN: no inventory at ")
    assert len(result.stdout.splitlines()) == 1


def test_nagios(with_daemon: Server) -> None:
    result = with_daemon.run("status", "--nagios")
    assert (result.exit_code, result.stderr) == (0, "")
    text, values = result.stdout.rstrip("\n").split(" | ")
    assert text == "OK: all is well with 1 job"
    assert re.fullmatch(r"'age_main'=0s;;27000;0 'stored_cold'=\d+B;;;0 'month_cold'=0.00;;;0", values)
    later(with_daemon, DAY)
    result = with_daemon.run("status", "--nagios", "--overdue")
    assert result.exit_code == 2
    assert result.stdout.startswith("CRITICAL: job main is overdue since ")


def test_nagios_and_a_config_that_is_wrong(with_daemon: Server) -> None:
    with_daemon.config.write_text("[nonsense]\n")
    result = with_daemon.run("status", "--nagios")
    assert result.exit_code == 3
    assert result.stdout.startswith("UNKNOWN: ")
    assert "nonsense" in result.stdout


@pytest.mark.parametrize(
    "words", [["--nagios", "--metrics", "x"], ["--nagios", "--watch"], ["--watch", "3", "--metrics", "x"]]
)
def test_outputs_that_do_not_go_together(server: Server, words: list[str]) -> None:
    server.fails(2, "status", *words)
    assert not Path("x").exists()


def test_a_certificate(with_daemon: Server, tmp_path: Path) -> None:
    """Its file alone is read: there need not be a key."""
    issued = issue_in(authority_in(str(tmp_path / "ca"), START), str(tmp_path / "id"), now=START, days=90)
    os.unlink(issued.key_path)
    with with_daemon.config.open("a") as config:
        config.write(
            f'[identity]\ncertificate = "{issued.certificate_path}"\nprivate_key = "{issued.key_path}"\n'
        )
    levels = {10: [], 80: ["warning"], 88: ["critical"], 91: ["critical"], -2: ["critical"]}
    for days, level in levels.items():
        later(with_daemon, days * DAY)
        document = json.loads(with_daemon.run("--json", "status").stdout)
        told = [concern["level"] for concern in document["concerns"] if concern["topic"] == "certificate"]
        assert told == level, days
        assert document["certificate"]["days_left"] in {90 - days, 89 - days}
        assert ("expired on" in with_daemon.run("status").stdout) == (days > 90)
        later(with_daemon, -days * DAY)


def test_a_certificate_that_is_gone(with_daemon: Server) -> None:
    with with_daemon.config.open("a") as config:
        config.write('[identity]\ncertificate = "gone.pem"\nprivate_key = "gone.key"\n')
    assert topics(with_daemon) == [("warning", "certificate")]


def crowded() -> Status:
    """A status in which everything is long, hostile or wrong."""
    long = "a-job-with-a-name-of-sixty-four-letters-which-is-all-that-there-x"[:64]
    hostile = "no \x1b[31m such\u202e file " + "x" * 200
    failed = statuses.run(outcome=Outcome.FAILED, job=long, error=hostile)
    jobs = [
        statuses.job(name=long, vault=long, is_overdue=True, overdue_from=NOW - HOUR, last_run=failed),
        statuses.job(name="y", last_good=None, has_policy=False, ahead=NOW + DAY),
    ]
    made = statuses.status(
        jobs=jobs,
        ended=[failed, statuses.run(RunKind.CHECK, Outcome.FAILED, job=None)],
        running=[statuses.run(outcome=Outcome.RUNNING, job=long)],
        restores=[statuses.restore(target=b"/\xff\x1b[2J/" + b"deep/" * 60, ready_until=NOW + DAY)],
        vaults=[statuses.vault(name=long, next_prune=NOW + DAY), statuses.vault(month=None)],
        daemon_runs=False,
    )
    return replace(made, concerns=concerns_of(made))


@pytest.mark.parametrize("made", [statuses.status(), crowded()], ids=["well", "crowded"])
def test_80_columns(made: Status) -> None:
    stream = StringIO()
    Console(file=stream, width=80, height=25, highlight=False, markup=False).print(status_screen(made))
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    assert max(cell_len(line) for line in lines) <= 80, stream.getvalue()
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", stream.getvalue())
    if made.is_well:
        assert len(lines) <= 12, "one screen"
    else:
        assert lines[0].startswith("not all is well: 2 critical, 3 warnings")
        assert lines[1].startswith("critical  job a-job")
        assert any(re.search("^a-job-with.*…  a-job.*  runs now$", line) for line in lines)


class FewSleeps(ManualClock):
    """A clock that is interrupted in its second sleep, as by Ctrl-C."""

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if len(self.slept) == 2:
            raise KeyboardInterrupt


def test_watching_through_a_pipe(server: Server) -> None:
    """One screen after the other, without escape sequences; of --json a document on each line."""
    server.backup()
    for words, first in (
        (["status", "--watch"], "not all is well"),
        (["--json", "status", "--watch", "7"], '{"as_of"'),
    ):
        clock = FewSleeps()
        texts = ["--config", str(server.config), *words]
        result = CliRunner().invoke(main, texts, obj=CliAt(clock))
        assert result.exit_code == 130
        assert clock.slept == ([7, 7] if "7" in words else [5, 5])
        assert sum(line.startswith(first) for line in result.stdout.splitlines()) == 2
        assert "\x1b" not in result.stdout


@pytest.mark.slow
def test_watching_leaves_the_terminal_as_it_was(server: Server) -> None:
    """The second screen is left and the cursor shown again, also when it is ended by a signal."""
    server.backup()
    controller, terminal = pty.openpty()
    words = [SCRIPT, "--config", str(server.config), "status", "--watch", "1"]
    with subprocess.Popen(
        words, stdin=terminal, stdout=terminal, stderr=terminal, env={**unmeasured(), "TERM": "xterm"}
    ) as process:
        os.close(terminal)
        shown = b""
        deadline = time.monotonic() + 30
        while b"Ctrl-C ends" not in shown and time.monotonic() < deadline:
            shown += os.read(controller, 65536)
        process.send_signal(signal.SIGTERM)
        try:
            while more := os.read(controller, 65536):
                shown += more
        except OSError:  # the other side is closed
            pass
        assert process.wait(30) == 130
    os.close(controller)
    assert shown.count(b"\x1b[?1049h") == shown.count(b"\x1b[?1049l") == 1
    assert shown.rindex(b"\x1b[?1049l") > shown.rindex(b"Ctrl-C ends")
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")


def fill_with(server: Server, count: int) -> None:
    """So many more nights: a run with a report, a snapshot and an archive of each."""
    with closing(sqlite3.connect(server.state / "inventory.sqlite")) as inventory, inventory:
        nights = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        inventory.execute(
            "INSERT INTO runs (kind, job, outcome, started_at, finished_at, report) "
            f"{nights} SELECT 'backup', 1, 'done', i, i, json_object('pad', hex(zeroblob(700))) FROM n",
            (count,),
        )
        columns = "job, run, finished_at, host, sources, problems, files, bytes, forgotten_at"
        inventory.execute(
            f"INSERT INTO snapshots (id, number, started_at, {columns}) "
            f"{nights} SELECT printf('%016x', i), 1000 + i, i, {columns} FROM n, snapshots WHERE number = 1",
            (count,),
        )
        columns = "domain, run, kind, state, header, size, tree_hash, submitted_at, stored_at"
        inventory.execute(
            f"INSERT INTO archives (pack_id, {columns}) "
            f"{nights} SELECT randomblob(16), {columns} FROM n, (SELECT * FROM archives WHERE number = 1)",
            (count,),
        )


def statements_of(server: Server) -> tuple[int, float]:
    """The statements of a status, and the seconds of CPU that it took."""
    config, seen = load_config(str(server.config)), list[str]()

    def heard(self: Connections) -> sqlite3.Connection:
        connection = real(self)
        connection.set_trace_callback(seen.append)
        return connection

    real = Connections.open
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connections, "open", heard)
        began = time.process_time()
        read_status(config, server.clock.now())
        return len(seen), time.process_time() - began


def test_ten_thousand_snapshots_take_no_more_statements(server: Server) -> None:
    server.backup()
    before = server.json("status", exit_code=1)["vaults"][0]["archives"]  # and what is new is noted
    few, _ = statements_of(server)
    fill_with(server, 10_000)
    many, seconds = statements_of(server)
    assert few == many <= MOST_STATEMENTS
    assert seconds < 0.5
    assert server.json("status", exit_code=1)["vaults"][0]["archives"] == 10_000 + before


@pytest.mark.slow
@pytest.mark.usefixtures("nobody")
def test_another_user_who_may_only_read() -> None:
    """It tells the same, writes nothing, and a closed state is told of in one line."""
    folder = Path(tempfile.mkdtemp(prefix="nightvault-test-"))
    try:
        folder.chmod(0o755)
        server = directory_server(folder, clock=SystemClock())
        server.init()
        server.backup()
        server.state.chmod(0o755)
        (server.state / "inventory.sqlite").chmod(0o644)
        before = sorted(server.state.rglob("*"))
        ended = as_nobody(server, "--json", "status")
        assert ended.returncode == 1, ended.stderr
        assert [concern["topic"] for concern in json.loads(ended.stdout)["concerns"]] == ["daemon"]
        assert sorted(server.state.rglob("*")) == before
        server.state.chmod(0o700)
        ended = as_nobody(server, "status", "--nagios")
        assert (ended.returncode, ended.stderr) == (3, "")
        assert ended.stdout.startswith("UNKNOWN: permission denied")
    finally:
        shutil.rmtree(folder)


def as_nobody(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*AS_NOBODY, SCRIPT, "--config", str(server.config), *words],
        capture_output=True,
        text=True,
        check=False,
        env={**unmeasured(), "HOME": "/nonexistent"},
    )
