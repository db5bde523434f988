"""Telling by the commands: what comes when a night fails and works again, and `nightvault notify`."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from backup.source import freshness
from tests.support.doubles import START, ManualClock
from tests.support.notified_servers import NotifiedServer, notified_server
from tests.support.servers import directory_server

DAY = timedelta(days=1)


@pytest.fixture
def told(tmp_path: Path) -> Iterator[NotifiedServer]:
    """A server that tells, on a clock that stands still."""
    with notified_server(tmp_path, ManualClock(START)) as made:
        yield made


def test_a_good_night_tells_nobody_but_pings(told: NotifiedServer) -> None:
    told.server.backup()
    assert told.hook.seen == []
    assert told.mail.mails == []
    assert told.pings() == ["/start", ""]
    start, end = told.ping.taken
    assert start.query["rid"] == end.query["rid"]
    assert "snapshot" in end.body.decode()


def test_a_night_that_fails_and_the_first_that_works_again(told: NotifiedServer) -> None:
    told.server.backup()
    told.break_vault()
    told.later(DAY)
    told.server.run("backup")
    assert told.titles() == ["backup of job main failed"]
    assert len(told.mail.mails) == 1
    told.later(timedelta(minutes=10))
    told.server.run("backup")
    assert len(told.titles()) == 1, "a state that lasts is told of once a day"
    told.later(DAY)
    told.server.run("backup")
    assert told.kinds() == ["failed", "failed"]
    told.mend_vault()
    told.later(timedelta(hours=1))
    told.server.done("backup")
    told.server.done("backup")
    assert told.titles()[2:] == ["backup of job main works again"]
    assert told.kinds()[2:] == ["recovered"]
    assert len(told.mail.mails) == 2, "this channel wants failures alone"
    assert told.pings()[-2:] == ["/start", ""]


def test_a_partial_night_names_what_could_not_be_read(told: NotifiedServer) -> None:
    (told.server.source / "a.txt").unlink()
    (told.server.source / "a.txt").symlink_to("b")
    command = '[[job.command]]\nname = "dump"\nrun = ["/bin/false"]\n'
    told.server.config.write_text(told.server.config.read_text() + command)
    assert told.server.run("backup").exit_code == 3
    (request,) = told.hook.taken
    assert request.json["title"].endswith("backup of job main was partial")
    assert "/.streams/dump" in request.json["problems"][0]
    assert told.pings()[-1] == "/3"
    (mail,) = told.mail.mails
    assert "/.streams/dump" in str(mail.get_body(("plain",)))


def test_three_days_without_network(told: NotifiedServer) -> None:
    """The receiver is away, too: one message a day is kept, and all come in their order once it is back."""
    told.server.backup()
    told.break_vault()
    judge, told.hook.judge = told.hook.judge, lambda _: (503, "away")
    for _ in range(6):
        told.later(timedelta(hours=12))  # 14:00 and 02:00
        told.server.run("backup")
    assert told.hook.taken == []
    told.hook.judge = judge
    told.mend_vault()
    told.later(timedelta(hours=2))
    told.server.done("backup")
    days = [request.json["created_at"][:10] for request in told.hook.taken]
    assert days == ["2026-03-01", "2026-03-02", "2026-03-03", "2026-03-04", "2026-03-04"]
    assert told.kinds() == ["failed"] * 4 + ["recovered"]
    assert len(told.mail.mails) == 4
    assert told.server.json("notify", "send") == {"sent": 0, "waiting": 0}


def test_what_fails_before_its_run_is_recorded_is_told_too(told: NotifiedServer) -> None:
    told.server.backup()
    shutil.rmtree(told.server.state / "keys")
    assert told.server.run("backup").exit_code != 0
    assert told.titles() == ["backup of job main failed"]
    assert told.pings()[-1] not in {"", "/start"}


def test_a_job_that_is_overdue_is_told_by_a_timer(told: NotifiedServer) -> None:
    told.server.backup()
    told.later(DAY)
    for _ in range(3):
        assert told.server.run("status", "--overdue", "--notify").exit_code == 1
    assert told.kinds() == ["overdue"]
    told.later(DAY)
    told.server.run("status", "--overdue", "--notify")
    assert told.kinds() == ["overdue", "overdue"]
    told.server.backup()
    assert told.kinds() == ["overdue", "overdue", "recovered"]
    told.server.done("status", "--overdue", "--notify")
    assert len(told.kinds()) == 3


def test_a_timer_waits_for_nobody_who_writes(told: NotifiedServer, caplog: pytest.LogCaptureFixture) -> None:
    """It answers from what can be read; the next look tells."""
    told.server.backup()
    told.later(4 * DAY)
    with closing(sqlite3.connect(told.server.state / "inventory.sqlite", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        for words in (("--overdue",), ("--nagios",)):
            began = time.monotonic()
            found = told.server.run("status", *words, "--notify")
            assert time.monotonic() - began < 30, "not the minute for which a run waits"
            assert "job main is overdue since" in found.stdout
            assert "no message could be recorded now, whoever looks next does that" in caplog.text
        writer.execute("ROLLBACK")
    assert told.titles() == []
    told.server.run("status", "--overdue", "--notify")
    assert told.kinds() == ["overdue"]


def test_a_state_that_is_not_mounted_is_told_by_the_timer_once_a_day(
    told: NotifiedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    told.server.backup()
    (told.server.state / "inventory.sqlite").rename(told.server.folder / "elsewhere")
    for _ in range(2):
        assert told.server.run("status", "--overdue", "--notify").exit_code == 10
    assert told.titles() == ["nightvault can record nothing"]
    told.later(DAY)
    assert told.server.run("status", "--overdue", "--notify", "--nagios").exit_code == 3
    assert told.kinds() == ["failed", "failed"]


def test_a_disk_that_fills_up_is_told(told: NotifiedServer) -> None:
    told.configure("[notify]", '[monitoring]\nmin_free = "1000000GiB"\n[notify]')
    told.server.run("status", "--notify")
    assert told.kinds() == ["warning"]
    assert "free where the state directory lies" in told.titles()[0]


def test_quiet_hours(told: NotifiedServer) -> None:
    told.configure("[notify]", '[notify]\nquiet_hours = "22:00-07:00"')
    told.server.backup()
    told.break_vault()
    told.server.run("backup")
    assert told.titles() == []
    assert told.pings()[-2:] == ["/start", "/1"], "pings are for machines"
    told.later(timedelta(hours=5))  # 07:00
    told.server.run("status", "--notify")
    assert told.titles() == ["backup of job main failed"]


def test_a_job_that_names_its_channels(told: NotifiedServer) -> None:
    told.server.config.write_text(told.server.config.read_text() + 'notify = ["mail"]\n')
    told.server.backup()
    told.break_vault()
    told.server.run("backup")
    assert told.hook.seen == []
    assert told.ping.seen == []
    assert len(told.mail.mails) == 1


class TestTest:
    def test_each_channel_answers(self, told: NotifiedServer) -> None:
        result = told.server.done("notify", "test")
        assert [line.split()[:3] for line in result.stdout.splitlines()[1:]] == [
            ["hook", "webhook", "sent"],
            ["mail", "smtp", "sent"],
            ["hc", "ping", "sent"],
        ]
        assert told.pings() == ["/log"]
        assert told.titles() == ["a test of nightvault's messages"]

    def test_what_one_did_not_take(self, told: NotifiedServer) -> None:
        told.mail.refuses["root@example.org"] = "550 5.1.1 no such user"
        found = told.server.json("notify", "test", "mail", exit_code=1)
        assert found == [
            {
                "channel": "mail",
                "kind": "smtp",
                "sent": False,
                "advice": "",
                "answer": f"127.0.0.1:{told.mail.port} answered 550 5.1.1 no such user",
            }
        ]

    def test_a_channel_that_is_none(self, told: NotifiedServer) -> None:
        assert "did you mean hook?" in told.server.fails(2, "notify", "test", "hok")

    def test_without_channels(self, tmp_path: Path) -> None:
        server = directory_server(tmp_path / "other")
        assert "has no channel" in server.fails(2, "notify", "test")


def test_the_list_of_messages(told: NotifiedServer) -> None:
    told.server.backup()
    told.break_vault()
    told.hook.away = 1
    told.server.run("backup")
    found = told.server.json("notify", "list")
    states = {(message["kind"], message["channel"]): message["state"] for message in found[:3]}
    assert states == {("failed", "hook"): "waiting", ("failed", "mail"): "sent", ("run", "hc"): "sent"}
    assert "503" in next(message["answer"] for message in found if message["channel"] == "hook")
    assert "channel hook" in told.server.run("status").output
    assert told.server.json("notify", "send") == {"sent": 1, "waiting": 0}
    assert told.titles() == ["backup of job main failed"]


def test_the_report_of_a_run(told: NotifiedServer) -> None:
    told.server.backup()
    text = told.server.done("notify", "report").stdout
    assert "backup of job main is done" in text
    assert "uploaded" in text
    assert told.server.done("notify", "report", "1", "--html").stdout.startswith("<!DOCTYPE html>")
    assert told.server.json("notify", "report")["report"]["job"] == "main"
    assert "no run 99" in told.server.fails(2, "notify", "report", "99")


def test_an_unusual_night_is_told(told: NotifiedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each night one file changes; in the ninth four hundred do."""
    monkeypatch.setattr(freshness, "write_back_reach", lambda: 0)  # as if the files were a minute old
    told.configure('schedule = "every 6h"', 'schedule = "every 6h"\nalarm_on_unusual = true')
    for night in range(8):
        (told.server.source / "a.txt").write_text(f"night {night}")
        time.sleep(0.03)  # the clock of file systems goes by hundredths: else it may change after it was read
        told.later(DAY)
        told.server.backup()
    assert told.titles() == []
    for number in range(400):
        (told.server.source / f"file {number}").write_text(f"content {number}")
    told.later(DAY)
    told.server.backup()
    assert told.kinds() == ["warning"]
    assert told.titles() == ["backup of job main was unusual: look whether that is right"]
    (remark,) = told.hook.taken[0].json["remarks"]
    assert remark == "unusual: 400 files new or changed, far more than the usual 1"
    assert any("unusual: 400 files" in text for text in told.server.printed)
    told.server.run("status", "--notify")
    assert len(told.kinds()) == 1
