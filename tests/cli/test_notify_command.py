"""Telling by the commands: what comes when a night fails and works again, and `nightvault notify`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support import receivers
from tests.support.doubles import START, ManualClock
from tests.support.receivers import MailServer, Receiver, mail_server, receiving
from tests.support.servers import Server, directory_server

TOKEN = "tk_AgQdq7mVBoFD37zQVN29RhuMzNIz2"
CHECK = "5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278"
DAY = timedelta(days=1)


@dataclass
class Told:
    """A server, and those who are told."""

    server: Server
    hook: Receiver
    ping: Receiver
    mail: MailServer

    def titles(self) -> list[str]:
        return [request.json["title"].partition(": ")[2] for request in self.hook.taken]

    def kinds(self) -> list[str]:
        return [request.json["kind"] for request in self.hook.taken]

    def pings(self) -> list[str]:
        return [request.path.partition("?")[0].removeprefix(f"/ping/{CHECK}") for request in self.ping.taken]

    def later(self, span: timedelta) -> None:
        assert isinstance(self.server.clock, ManualClock)
        self.server.clock.advance(span)

    def break_vault(self) -> None:
        (self.server.folder / "vault").rename(self.server.folder / "gone")

    def mend_vault(self) -> None:
        (self.server.folder / "gone").rename(self.server.folder / "vault")


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    """A server that was set up, with a webhook and a mail server for all jobs, and a ping."""
    server = directory_server(tmp_path, clock=ManualClock(START))
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    with (
        receiving(receivers.webhook) as hook,
        receiving(receivers.healthchecks(CHECK)) as ping,
        mail_server(MailServer()) as mail,
    ):
        (tmp_path / "url").write_text(f"{ping.url}/ping/{CHECK}")
        (tmp_path / "url").chmod(0o600)
        server.write_config(
            f'[[vault]]\nname = "cold"\nkind = "directory"\npath = "{tmp_path / "vault"}"\n'
            '[notify]\ntimezone = "UTC"\n'
            f'[[notify.channel]]\nname = "hook"\nkind = "webhook"\nurl = "{hook.url}/in"\n'
            f'token_file = "{token}"\n'
            f'[[notify.channel]]\nname = "mail"\nkind = "smtp"\nhost = "127.0.0.1"\nport = {mail.port}\n'
            'security = "none"\nfrom = "night@example.org"\nto = ["root@example.org"]\ntold = ["failed"]\n'
            f'[[notify.channel]]\nname = "hc"\nkind = "ping"\nurl_file = "{tmp_path / "url"}"\n'
        )
        server.init()
        yield Told(server, hook, ping, mail)


def test_a_good_night_tells_nobody_but_pings(told: Told) -> None:
    told.server.backup()
    assert told.hook.seen == []
    assert told.mail.mails == []
    assert told.pings() == ["/start", ""]
    start, end = told.ping.taken
    assert start.query["rid"] == end.query["rid"]
    assert "snapshot" in end.body.decode()


def test_a_night_that_fails_and_the_first_that_works_again(told: Told) -> None:
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


def test_a_partial_night_names_what_could_not_be_read(told: Told) -> None:
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


def test_three_days_without_network(told: Told) -> None:
    told.server.backup()
    told.break_vault()
    url, told.hook.judge = told.hook.judge, lambda _: (503, "away")
    for _ in range(3):
        told.later(timedelta(hours=12))
        told.server.run("backup")
        told.later(timedelta(hours=12))
        told.server.run("backup")
    assert told.hook.taken == []
    told.hook.judge = url
    told.mend_vault()
    told.later(timedelta(hours=12))
    told.server.done("backup")
    days = {request.json["created_at"][:10] for request in told.hook.taken}
    assert told.kinds() == ["failed"] * len(days - {""}) + ["recovered"] or told.kinds()[-1] == "recovered"
    failed = [one for one in told.hook.taken if one.json["kind"] == "failed"]
    assert len({one.json["created_at"][:10] for one in failed}) == len(failed), "one a day"
    assert len(failed) in {3, 4}
    told.server.done("notify", "send")
    assert len(told.hook.taken) == len(failed) + 1


def test_what_fails_before_its_run_is_recorded_is_told_too(told: Told) -> None:
    told.server.backup()
    shutil.rmtree(told.server.state / "keys")
    assert told.server.run("backup").exit_code != 0
    assert told.titles() == ["backup of job main failed"]
    assert told.pings()[-1] not in {"", "/start"}


def test_a_job_that_is_overdue_is_told_by_a_timer(told: Told) -> None:
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


def test_a_disk_that_fills_up_is_told(told: Told) -> None:
    told.server.config.write_text(
        told.server.config.read_text().replace("[notify]", '[monitoring]\nmin_free = "1000000GiB"\n[notify]')
    )
    told.server.run("status", "--notify")
    assert told.kinds() == ["warning"]
    assert "free where the state directory lies" in told.titles()[0]


def test_quiet_hours(told: Told) -> None:
    told.server.config.write_text(
        told.server.config.read_text().replace("[notify]", '[notify]\nquiet_hours = "22:00-07:00"')
    )
    told.server.backup()
    told.break_vault()
    told.server.run("backup")
    assert told.titles() == []
    assert told.pings()[-2:] == ["/start", "/1"], "pings are for machines"
    told.later(timedelta(hours=5))  # 07:00
    told.server.run("status", "--notify")
    assert told.titles() == ["backup of job main failed"]


def test_a_job_that_names_its_channels(told: Told) -> None:
    told.server.config.write_text(told.server.config.read_text() + 'notify = ["mail"]\n')
    told.server.backup()
    told.break_vault()
    told.server.run("backup")
    assert told.hook.seen == []
    assert told.ping.seen == []
    assert len(told.mail.mails) == 1


class TestTest:
    def test_each_channel_answers(self, told: Told) -> None:
        result = told.server.done("notify", "test")
        assert [line.split()[:3] for line in result.stdout.splitlines()[1:]] == [
            ["hook", "webhook", "sent"],
            ["mail", "smtp", "sent"],
            ["hc", "ping", "sent"],
        ]
        assert told.pings() == ["/log"]
        assert told.titles() == ["a test of nightvault's messages"]

    def test_what_one_did_not_take(self, told: Told) -> None:
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

    def test_a_channel_that_is_none(self, told: Told) -> None:
        assert "did you mean hook?" in told.server.fails(2, "notify", "test", "hok")

    def test_without_channels(self, tmp_path: Path) -> None:
        server = directory_server(tmp_path / "other")
        assert "has no channel" in server.fails(2, "notify", "test")


def test_the_list_of_messages(told: Told) -> None:
    told.server.backup()
    told.break_vault()
    told.hook.away = 1
    told.server.run("backup")
    found = told.server.json("notify", "list")
    states = {(one["kind"], one["channel"]): one["state"] for one in found[:3]}
    assert states == {("failed", "hook"): "waiting", ("failed", "mail"): "sent", ("run", "hc"): "sent"}
    assert "503" in next(one["answer"] for one in found if one["channel"] == "hook")
    assert "channel hook" in told.server.run("status").output
    assert told.server.json("notify", "send") == {"sent": 1, "waiting": 0}
    assert told.titles() == ["backup of job main failed"]


def test_the_report_of_a_run(told: Told) -> None:
    told.server.backup()
    text = told.server.done("notify", "report").stdout
    assert "backup of job main is done" in text
    assert "uploaded" in text
    assert told.server.done("notify", "report", "1", "--html").stdout.startswith("<!DOCTYPE html>")
    assert told.server.json("notify", "report")["report"]["job"] == "main"
    assert "no run 99" in told.server.fails(2, "notify", "report", "99")
