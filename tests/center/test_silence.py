"""Silent servers are told once, by groups; known ones are apart; a center that was away waits first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, delete, text, update

from backup.center.database import opened_database, seeing, set_up
from backup.center.excuses import Excuse, ExcuseKind, end_excuses, make_excuse
from backup.center.identity import HostIdentity
from backup.center.letters import Carrier, send_letters
from backup.center.receive import take_report
from backup.center.summary import Standing
from backup.center.tables import METADATA, chains, hosts
from backup.center.view import GRACE, host_named, overview
from backup.center.watch import GAP, Watch
from backup.errors import UsageError
from backup.inventory.store.states import MessageKind
from backup.notify.channel import AwayError, Note
from tests.support.centers import body_of, center_database, needs_postgresql, new_center, superuser
from tests.support.doubles import ManualClock
from tests.support.receivers import Request, receiving, webhook

pytestmark = [pytest.mark.real, pytest.mark.slow, needs_postgresql]

NIGHT = datetime(2026, 5, 7, 2, tzinfo=UTC)
DUE = NIGHT + timedelta(hours=30)
STEP = GAP - timedelta(minutes=1)


@dataclass
class Taking:
    """A channel that keeps what it is sent; first it is away so often."""

    away: int = 0
    name: str = "phone"
    notes: list[Note] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)

    def send(self, note: Note) -> str:
        """Take a note, or be away."""
        self.tried.append(note.id)
        if self.away:
            self.away -= 1
            raise AwayError("no network")
        self.notes.append(note)
        return "200"

    @property
    def titles(self) -> list[str]:
        """Return what was told, and forget it."""
        found = [note.letter.title for note in self.notes]
        self.notes.clear()
        return found


@dataclass
class Watched:
    """A center at a time of its own, with a channel."""

    engine: Engine
    clock: ManualClock = field(default_factory=lambda: ManualClock(NIGHT))
    channel: Taking = field(default_factory=Taking)

    def tells(self, name: str, group: str = "", due: datetime = DUE, **told: object) -> None:
        """Let a server tell when its job is due."""
        number = int(name[-3:])
        who = HostIdentity(f"{number:032x}", name, f"CN={name}", "a" * 64, datetime(2035, 1, 1, tzinfo=UTC))
        whole = {
            "well": True,
            "concerns": [],
            "jobs": [{"job": "home", "overdue_from": due.isoformat()}],
            **told,
        }
        now = self.clock.now()
        chain = f"{number:08x}{int(now.timestamp()):024x}"
        body = body_of(chain=chain, at=int(now.timestamp()), changes={"to": whole})
        take_report(self.engine, who, body, now, uninvited=True)
        with seeing(self.engine, None) as connection:
            values = {"in_group": group, "set_back_at": None}
            connection.execute(update(hosts).where(hosts.c.name == name).values(values))
            connection.execute(delete(chains))  # of which there may be twenty a day

    def look(self, *, processes: int = 1) -> list[str]:
        """Look and send, as often as there are processes; what people were told."""
        for _ in range(processes):
            self.send()
        return self.channel.titles

    def send(self) -> None:
        """Look and send."""
        way = Carrier(self.channel, frozenset(MessageKind), lambda now: now)
        Watch(self.engine, [way], self.clock).look()
        send_letters(self.engine, [way], self.clock, lambda: False)

    def until(self, moment: datetime) -> None:
        """Look now and then up to that moment; nobody is told of anything."""
        while self.clock.now() < moment:
            self.clock.advance(min(STEP, moment - self.clock.now()))
            assert self.look() == []

    def pass_by(self, span: timedelta) -> list[str]:
        """Look now and then for so long; what people were told."""
        told, until = list[str](), self.clock.now() + span
        while self.clock.now() < until:
            self.clock.advance(STEP)
            told += self.look()
        return told

    def excuse(self, name: str | None, group: str | None, kind: ExcuseKind, hours: float) -> None:
        """Note an excuse from now on."""
        now = self.clock.now()
        host_id = host_named(self.engine, name, now)[0].host_id if name else None
        until = now + timedelta(hours=hours)
        make_excuse(self.engine, Excuse(host_id, group, kind, "a new disk", "eve", now, now, until))


@pytest.fixture(scope="module")
def database() -> Iterator[Engine]:
    with center_database() as (_, url):
        made = opened_database(url)
        set_up(made)
        yield made
        made.dispose()


@pytest.fixture
def center(database: Engine) -> Watched:
    with seeing(database, None) as connection:
        names = ", ".join(name for name in METADATA.tables if name != "watches")
        connection.execute(text(f"TRUNCATE {names}"))
        connection.execute(text("UPDATE watches SET looked_at = NULL, listening_since = NULL"))
    return Watched(database)


def test_forty_of_a_rack_are_one_message_and_are_told_once(center: Watched) -> None:
    for number in range(40):
        center.tells(f"web{number:03}", "rack7", DUE + timedelta(seconds=number))
    center.tells("db100", "rack8", DUE + timedelta(days=9))
    center.until(DUE + timedelta(minutes=4))
    told = center.pass_by(timedelta(minutes=20))
    assert told == ["group rack7: 40 servers are silent"]
    center.until(DUE + timedelta(days=1))
    assert overview(center.engine, center.clock.now()).hosts[Standing.SILENT] == 40


def test_what_a_letter_says(center: Watched) -> None:
    for number in range(25):
        center.tells(f"web{number:03}", "rack7")
    center.until(DUE)
    center.clock.advance(timedelta(minutes=6))
    center.send()
    (letter,) = (note.letter for note in center.channel.notes)
    assert (
        letter.problems[0] == "web000: job home was due by 2026-05-08 08:00 UTC; told last 2026-05-07 02:00"
    )
    assert (len(letter.problems), letter.more_problems) == (20, 5)
    assert ("silent", "25 of 25 servers") in letter.facts
    assert "can servers reach this center?" in letter.advice


def test_those_that_follow_are_gathered_for_longer_and_longer(center: Watched) -> None:
    for number in range(30):
        center.tells(f"web{number:03}", "rack7", DUE + timedelta(hours=number))
    told = center.pass_by(timedelta(hours=68))
    assert told[0] == "group rack7: web000 is silent"
    assert len(told) <= 7, told
    assert sum(1 if "web" in title else int(title.split()[2]) for title in told) == 30


def test_many_groups_at_once_are_one_message(center: Watched) -> None:
    for number in range(24):
        center.tells(f"web{number:03}", f"rack{number // 3}")
    assert center.pass_by(timedelta(hours=31)) == ["24 servers of 8 groups are silent"]
    for number in range(24):
        center.tells(f"web{number:03}", f"rack{number // 3}", DUE + timedelta(days=9))
    assert center.look() == ["8 groups of servers: none is silent any more"]


def test_the_end_is_told_when_all_of_a_group_tell_again(center: Watched) -> None:
    for number in range(2):
        center.tells(f"web{number:03}", "rack7")
    assert len(center.pass_by(timedelta(hours=31))) == 1
    center.tells("web000", "rack7", DUE + timedelta(days=9))
    assert center.look() == []
    center.tells("web001", "rack7", DUE + timedelta(days=9))
    assert center.look() == ["group rack7: no server is silent any more"]
    assert center.look() == []


def test_one_that_is_silent_by_turns_is_told_more_and_more_rarely(center: Watched) -> None:
    told = list[str]()
    for _ in range(60):
        center.tells("web000", "rack7", center.clock.now() + timedelta(minutes=1))
        told += center.pass_by(timedelta(minutes=40))
    silent = told.count("group rack7: web000 is silent")
    assert 4 <= silent <= 8, told
    assert told.count("group rack7: no server is silent any more") == silent


def test_several_processes_and_restarts_tell_once(center: Watched) -> None:
    center.tells("web000", "rack7")
    center.until(DUE)
    center.clock.advance(timedelta(minutes=6))
    assert center.look(processes=3) == ["group rack7: web000 is silent"]
    center.clock.advance(timedelta(minutes=1))
    assert center.look(processes=3) == []


def test_a_look_of_another_process_is_not_waited_for(center: Watched) -> None:
    center.tells("web000", "rack7")
    center.until(DUE)
    center.clock.advance(timedelta(minutes=6))
    with seeing(center.engine, None) as connection:
        connection.execute(text("SELECT * FROM watches FOR UPDATE"))
        assert center.look() == []
    assert center.look() == ["group rack7: web000 is silent"]


@pytest.mark.parametrize("away", [timedelta(minutes=11), timedelta(days=3)])
def test_a_center_that_was_away_lets_servers_have_their_turn(center: Watched, away: timedelta) -> None:
    for number in range(30):
        center.tells(f"web{number:03}", "rack7", DUE)
    center.until(DUE - timedelta(minutes=5))
    center.clock.advance(away)
    assert center.look() == []
    assert overview(center.engine, center.clock.now()).listening_since == center.clock.now()
    back = center.clock.now()
    center.until(back + GRACE / 2)
    for number in range(29):
        center.tells(f"web{number:03}", "rack7", back + timedelta(days=9))
    center.until(back + GRACE - timedelta(seconds=1))
    assert center.pass_by(timedelta(minutes=10)) == ["group rack7: web029 is silent"]
    assert overview(center.engine, center.clock.now()).listening_since is None


def test_a_channel_that_is_away_gets_it_later_with_the_same_id(center: Watched) -> None:
    center.channel.away = 2
    center.tells("web000")
    center.until(DUE)
    told = center.pass_by(timedelta(minutes=30))
    assert told == ["servers without a group: web000 is silent"]
    assert len(center.channel.tried) == 3
    assert len(set(center.channel.tried)) == 1


def test_what_is_acknowledged_is_apart_and_not_told_until_its_end(center: Watched) -> None:
    for number in range(3):
        center.tells(f"web{number:03}", "rack7")
    center.until(DUE)
    center.clock.advance(timedelta(seconds=1))
    center.excuse("web000", None, ExcuseKind.ACK, 24)
    assert center.pass_by(timedelta(minutes=20)) == ["group rack7: 2 servers are silent"]
    found = overview(center.engine, center.clock.now())
    assert [host.name for host in found.not_well] == ["web001", "web002"]
    (known,) = found.known
    assert (known.name, known.known_why, known.known_by) == ("web000", "a new disk", "eve")
    assert known.why == "job home was due, and nothing was told since"
    center.until(DUE + timedelta(hours=23))
    assert center.pass_by(timedelta(hours=2)) == ["group rack7: web000 is silent"]


def test_an_acknowledgement_of_what_was_told_is_no_end_and_ends_itself(center: Watched) -> None:
    center.tells("web000", "rack7")
    assert len(center.pass_by(timedelta(hours=31))) == 1
    center.excuse(None, "rack7", ExcuseKind.ACK, 24)
    assert overview(center.engine, center.clock.now()).not_well == []
    assert center.pass_by(timedelta(hours=23)) == []
    assert center.pass_by(timedelta(hours=2)) == ["group rack7: web000 is silent"]


def test_an_acknowledgement_is_of_one_silence_and_of_one_standing(center: Watched) -> None:
    concern = {"level": "warning", "text": "disk"}
    center.tells("web000", "rack7", well=False, concerns=[concern])
    center.clock.advance(timedelta(seconds=1))
    center.excuse("web000", None, ExcuseKind.ACK, 99)

    def standing() -> Standing:
        return host_named(center.engine, "web000", center.clock.now())[0].standing

    assert standing() is Standing.KNOWN
    center.clock.advance(timedelta(minutes=1))
    center.tells("web000", "rack7", well=False, concerns=[{**concern, "text": "disk, more"}])
    assert standing() is Standing.KNOWN
    center.clock.advance(timedelta(minutes=1))
    center.tells("web000", "rack7", well=False, concerns=[{**concern, "level": "critical"}])
    assert standing() is Standing.CRITICAL
    center.excuse("web000", None, ExcuseKind.ACK, 99)
    assert standing() is Standing.KNOWN
    center.until(DUE)
    center.clock.advance(timedelta(minutes=6))
    assert center.look() == ["group rack7: web000 is silent"]


def test_a_maintenance_is_a_time_whatever_happens_and_a_turn_after_it(center: Watched) -> None:
    center.tells("web000", "rack7")
    center.until(DUE - timedelta(hours=1))
    center.excuse(None, "rack7", ExcuseKind.MAINTENANCE, 3)
    end = center.clock.now() + timedelta(hours=3)
    center.until(end + GRACE - timedelta(minutes=1))
    assert overview(center.engine, center.clock.now()).not_well == []
    assert center.pass_by(timedelta(minutes=20)) == ["group rack7: web000 is silent"]


def test_an_excuse_is_ended_replaced_or_refused(center: Watched) -> None:
    center.tells("web000", "rack7")
    for _ in range(2):
        center.excuse(None, "rack7", ExcuseKind.ACK, 1)
    assert end_excuses(center.engine, ExcuseKind.MAINTENANCE, None, "rack7") == 0
    assert end_excuses(center.engine, ExcuseKind.ACK, None, "rack7") == 1
    for group, hours in (("rack9", 1), ("", 1), ("rack7", -1), ("rack7", 9000)):
        with pytest.raises(UsageError):
            center.excuse(None, group, ExcuseKind.ACK, hours)


def test_the_process_tells_by_its_channels_and_status_shows_it(tmp_path: Path) -> None:
    with center_database() as (server, url), receiving(webhook) as phone:
        center = new_center(tmp_path, url)
        channels = tmp_path / "notify.toml"
        channels.write_text(f'[[notify.channel]]\nname = "own"\nkind = "webhook"\nurl = "{phone.url}/in"\n')
        told = {"to": {"well": True, "concerns": [], "jobs": [{"job": "home", "overdue_from": "2199-01-01"}]}}
        with center.served("--uninvited", "--notify", str(channels)):
            assert center.send(center.identity("web1"), body_of(changes=told))[0] == 200
        with closing(superuser(server, "nightvault")) as connection:
            connection.execute("UPDATE hosts SET due_from = now() - interval '1 day', in_group = 'shop'")
            connection.execute("UPDATE watches SET listening_since = now() - interval '2 hours'")
        with center.served("--uninvited", "--notify", str(channels)):
            until_taken(phone.taken)
        (request,) = phone.taken
        assert request.json["title"] == "group shop: web1 is silent"
        assert [host["name"] for host in center.command("status", exit_code=1)["not_well"]] == ["web1"]
        assert center.command("ack", "web1", "--until", "3d", "--why", "moved")["kind"] == "ack"
        known = center.command("status")
        assert (known["not_well"], known["known"][0]["known_why"]) == ([], "moved")
        assert center.command("ack")["known"][0]["host"] == "web1"
        center.command("ack", "web1", "--end")
        center.command("maintenance", "--group", "shop", "--to", "2h")
        assert center.command("status")["hosts"]["known"] == 1
        for words in (
            ("ack", "web1"),
            ("maintenance", "web1"),
            ("ack", "x", "--group", "y", "--until", "1h"),
        ):
            center.admin.fails(2, "center", *words, "--database", url)
        channels.write_text('[notify]\n[state]\ndir = "/"\n')
        serve = ("center", "serve", "--database", url, "--authority", center.authority.certificate_path)
        assert "nothing but [notify]" in center.admin.fails(2, *serve, "--notify", str(channels))


def until_taken(taken: list[Request]) -> None:
    end = time.monotonic() + 30
    while not taken:
        assert time.monotonic() < end
        time.sleep(0.1)
