"""Drills by a config: as a task, within a month, told when they fail, shown in status and metrics."""

from __future__ import annotations

import threading
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from backup.app.doctor.finding import DoctorContext
from backup.app.doctor.history import last_drill
from backup.app.money import limits
from backup.app.money.prices import Quote
from backup.app.status.metrics import metrics_text
from backup.app.status.status import read_status
from backup.app.tasks.tasks import scheduled_tasks
from backup.config import Config, load_config
from backup.cost import Bill, Load
from backup.daemon.task_run import TaskRun
from backup.daemon.work import TaskWork
from backup.errors import ConfigError, LimitRefusedError, MonthSpentError
from backup.kinds import Outcome, TaskKind
from backup.model import Tier
from backup.operations import drill as drill_operation
from backup.operations.drill import Drill
from backup.operations.recorded import step_of
from backup.operations.restores import continue_restores
from tests.support.daemons import Figures, last_start
from tests.support.doubles import ManualClock, Silent
from tests.support.notified_servers import notified_server
from tests.support.servers import Server, directory_server, replace

DRILL = '\n[[drill]]\nname = "weekly"\nschedule = "weekly"\nvault = "cold"\nsample = "2 files"\n'


@pytest.fixture
def server(tmp_path: Path) -> Server:
    made = directory_server(tmp_path)
    made.config.write_text(made.config.read_text() + DRILL)
    made.init()
    return made


def config_of(server: Server) -> Config:
    return load_config(str(server.config))


def work(server: Server) -> Any:
    """What the daemon does when the drill is due."""
    config = config_of(server)
    (task,) = [task for task in scheduled_tasks(config) if task.kind is TaskKind.DRILL]
    return TaskWork(config, server.clock)(TaskRun(task, server.clock.now(), Figures()))


def test_it_is_a_task_of_its_vault(server: Server) -> None:
    (found,) = [task for task in scheduled_tasks(config_of(server)) if task.kind is TaskKind.DRILL]
    assert (str(found), found.vault, found.is_exclusive, found.is_recorded) == (
        "drill weekly",
        "cold",
        False,
        True,
    )
    assert work(server).report.run is None, "nothing is stored yet"
    server.backup()
    done = work(server)
    assert (done.report.outcome, done.waits_for) == (Outcome.DONE, "")
    assert last_start(config_of(server), TaskKind.DRILL, "weekly") == server.clock.now()


def test_what_it_proved_is_in_status_metrics_and_drills(server: Server) -> None:
    server.backup()
    server.done("drill", "run")
    server.done("drill", "run", "--key", server.key_file)
    status = server.json("status", exit_code=1)
    (job,) = status["jobs"]
    for proven in (job["proven"], status["proven"]):
        assert 0 < proven["opened"] <= proven["read_back"] <= proven["bytes"]
        assert proven["last_read_back"].startswith("2026-03-01")
        assert proven["last_opened"].startswith("2026-03-01")
    screen = server.run("status").stdout
    assert "tested" in screen
    assert "opened 2026-03-01" in screen
    assert all(len(line) <= 80 for line in server.run("drills").stdout.splitlines())
    told = server.json("drills")
    assert [drill["grade"] for drill in told["drills"]] == ["opened", "read back"]
    assert told["jobs"][0]["job"] == "main"
    text = metrics_text(read_status(config_of(server), server.clock.now()))
    assert 'nightvault_proven_ratio{job="main",vault="cold",grade="opened"} 0.' in text
    assert 'nightvault_last_proven_timestamp_seconds{job="main",vault="cold",grade="read_back"} 17' in text
    began = server.clock.now().timestamp()
    assert f'nightvault_task_last_success_timestamp_seconds{{task="drill",name="weekly"}} {began:.0f}' in text
    late = int(
        text.partition('nightvault_task_overdue_timestamp_seconds{task="drill",name="weekly"} ')[2].split()[0]
    )
    assert timedelta(days=7) < timedelta(seconds=late - began) < timedelta(days=10)


def test_a_month_that_is_spent_is_no_failure_of_the_daemon(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vault is a directory, which is free; here it costs as a cold one does."""
    monkeypatch.setattr(limits, "FREE", ())
    replace(server, 'sample = "2 files"', 'sample = "2 files"\nmax_cost_per_month = 0.05')
    server.backup()
    price = priced(monkeypatch, "0.04")
    assert work(server).report.cost == 40_000
    assert work(server).report is None
    assert "max_cost_per_month" in server.fails(16, "drill", "run")
    assert isinstance(server.clock, ManualClock)
    server.clock.advance(timedelta(days=31))
    assert work(server).report.outcome is Outcome.DONE
    price[0] = None
    with pytest.raises(
        LimitRefusedError,
        match=r"it is unknown whether .* max_cost_per_month, 0\.05: the price table of .* has no prices",
    ) as caught:
        step_of(config_of(server), Drill, "weekly", clock=server.clock, progress=Silent())
    assert not isinstance(caught.value, MonthSpentError)


def test_a_drill_that_was_left_open_runs_no_more_once_the_config_lacks_it(server: Server) -> None:
    """It failed before it asked for anything, and would go on with the next one of its name."""
    server.backup()
    (server.folder / "vault").rename(server.folder / "gone")
    server.fails(1, "drill", "run")
    (server.folder / "gone").rename(server.folder / "vault")

    def screen() -> str:
        return " ".join(server.run("status").stdout.split())

    assert "runs now drill weekly since 2026-03-01 02:00: may wait for its vault" in screen()
    replace(server, 'name = "weekly"', 'name = "other"')
    assert "runs now" not in screen()
    assert "cut off drill weekly since 2026-03-01 02:00: the config does not have this drill" in screen()
    replace(server, 'name = "other"', 'name = "weekly"')
    server.done("drill", "run")
    assert "drill weekly since" not in screen()


def test_a_table_of_prices_with_a_mistake_stops_only_a_drill_with_a_limit(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FREE", ())
    server.backup()
    (server.state / "prices.toml").write_text("this is no table\n")
    assert work(server).report.outcome is Outcome.DONE
    replace(server, 'sample = "2 files"', 'sample = "2 files"\nmax_cost_per_month = 0.05')
    with pytest.raises(LimitRefusedError, match=r"0\.05: money: not known, because ") as told:
        step_of(config_of(server), Drill, "weekly", clock=server.clock, progress=Silent())
    assert "`nightvault prices` names the mistake" in (told.value.advice or "")


def priced(monkeypatch: pytest.MonkeyPatch, total: str) -> list[str | None]:
    """The price of whatever is read, which may be changed."""
    price: list[str | None] = [total]

    def quotes(*_: Any) -> list[Quote]:
        bill = None if price[0] is None else Bill(retrieval=Decimal(price[0]))
        return [Quote(tier, Load(1, 1, 1, 1, 1, 1), (), bill, None) for tier in Tier]

    monkeypatch.setattr(drill_operation, "quote_sample", quotes)
    return price


def test_a_drill_that_fails_is_told_and_critical(tmp_path: Path) -> None:
    with notified_server(tmp_path, ManualClock()) as told:
        told.configure("[[job]]", DRILL.lstrip() + "\n[[job]]")
        server = told.server
        server.backup()
        spoil(server)
        document = server.json("drill", "run", "weekly", "--key", server.key_file, exit_code=1)
        assert document["findings"]
        assert [title for title in told.titles() if "drill" in title] == [
            "drill weekly (opened) failed: not everything came back as it was saved"
        ]
        (concern,) = [
            concern for concern in server.json("status", exit_code=1)["concerns"] if concern["topic"] == "run"
        ]
        assert (concern["level"], concern["command"]) == ("critical", "nightvault drills")
        assert "drill weekly failed" in concern["text"]


def spoil(server: Server) -> None:
    """Damage every file of data in the vault."""
    for path in (server.folder / "vault").rglob("*"):
        if path.is_file() and path.stat().st_size > 100_000:
            data = bytearray(path.read_bytes())
            for at in range(len(data) // 3, len(data) // 2):
                data[at] ^= 1
            path.chmod(0o600)
            path.write_bytes(data)


def test_a_dry_run_asks_for_nothing(server: Server) -> None:
    assert "nothing is stored yet" in server.done("drill", "run", "--dry-run").stdout
    server.backup()
    for words in ([], ["--key", server.key_file]):
        assert "would read" in server.done("drill", "run", "--dry-run", *words).stdout
    assert "no drill was run yet" in server.done("drills").stdout


def test_restores_of_drills_are_left_to_them(server: Server) -> None:
    server.backup()
    assert list(continue_restores(config_of(server), clock=server.clock, stop=threading.Event())) == []


def test_which_drill(server: Server) -> None:
    assert "no drill named nightly" in server.fails(2, "drill", "run", "nightly")
    server.config.write_text(server.config.read_text() + DRILL.replace("weekly", "monthly"))
    assert "which drill" in server.fails(2, "drill", "run")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('vault = "cold"\nsample', "sample", "drill[1].vault: must be set, or jobs"),
        ('vault = "cold"\nsample', 'vault = "col"\nsample', "drill[1].vault: there is no vault col"),
        ('vault = "cold"\nsample', 'jobs = ["mein"]\nsample', "drill[1].jobs[1]: there is no job mein"),
        ('"2 files"', '"0 files"', "drill[1].sample: must be above 0"),
        ('"2 files"', '"two"', "drill[1].sample: must be a number of files or a size"),
        ('schedule = "weekly"', 'schedule = "often"', "drill[1].schedule"),
        ('name = "weekly"', 'name = "weekly"\nmax_cost_per_month = -1', "must be an amount of money"),
    ],
)
def test_mistakes_of_the_config(server: Server, old: str, new: str, words: str) -> None:
    replace(server, old, new)
    with pytest.raises(ConfigError) as caught:
        config_of(server)
    assert words in str(caught.value)


def test_the_doctor_misses_a_drill(server: Server) -> None:
    assert isinstance(server.clock, ManualClock)
    server.backup()

    def found() -> list[str]:
        config = config_of(server)
        context = DoctorContext(config, server.clock, read_status(config, server.clock.now()))
        return [finding.what for finding in last_drill(context)]

    assert found() == []
    server.clock.advance(timedelta(days=100))
    assert found() == [], "the status tells of it, by its schedule"
    replace(server, 'schedule = "weekly"\n', "")
    assert "drill weekly never ended well" in found()[0]
    server.done("drill", "run")
    assert found() == []
    server.clock.advance(timedelta(days=100))
    assert "drill weekly ended well last on 2026-06-09" in found()[0]
    replace(server, DRILL.replace('schedule = "weekly"\n', ""), "")
    assert "no [[drill]]" in found()[0]


def test_a_letter_tells_what_was_proven(tmp_path: Path) -> None:
    with notified_server(tmp_path, ManualClock()) as told:
        told.server.backup()
        facts = told.server.json("notify", "report")["facts"]
        assert ["tested", "read back never, opened never"] in [list(fact) for fact in facts]
