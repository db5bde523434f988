"""Servers join a center by an invitation: once, by the server that it names, and by nobody else."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Engine, select

from backup.app.base.clock import SystemClock
from backup.center.database import opened_database, seeing
from backup.center.identity import HostIdentity
from backup.center.joining import Invited, invite, join
from backup.center.serve import MOST_A_MINUTE
from backup.center.tables import METADATA
from backup.credentials.identity import Identity
from backup.errors import DeniedError
from backup.format.host_report import JOIN_PATH, read_token
from backup.pki.issuing import sign_csr
from tests.support.centers import Center, body_of, center_database, free_port, needs_postgresql, new_center
from tests.support.servers import Server, directory_server

pytestmark = [pytest.mark.real, pytest.mark.slow, needs_postgresql]


@pytest.fixture(scope="module")
def center(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Center]:
    with center_database() as (_, url):
        made = new_center(tmp_path_factory.mktemp("center"), url)
        made.port = free_port()
        with made.served("--name", f"127.0.0.1:{made.port}"):
            yield made


@pytest.fixture(scope="module")
def engine(center: Center) -> Iterator[Engine]:
    made = opened_database(center.url)
    yield made
    made.dispose()


def everything_in(engine: Engine) -> dict[str, list[str]]:
    """All rows of all tables."""
    with seeing(engine, None) as connection:
        return {
            name: sorted(map(repr, connection.execute(select(table)).all()))
            for name, table in METADATA.tables.items()
        }


def invited(center: Center, name: str, *words: str) -> str:
    token = center.command("invite", name, "--address", center.address, *words)["token"]
    assert isinstance(token, str)
    return token


def joins(center: Center, identity: Identity, token: str) -> tuple[int, dict[str, Any]]:
    body = json.dumps({"secret": read_token(token)[1]}).encode()
    return center.post(body, center.signed(identity, body, JOIN_PATH), JOIN_PATH)


def test_a_server_joins_and_its_config_names_the_center(center: Center) -> None:
    web = center.server("web1")
    before = web.config.read_text()
    assert "has not joined" in web.fails(1, "center", "tell", center.address)
    joined = web.json("center", "join", invited(center, "web1", "--group", "shop"))
    assert joined["name"] == "web1"
    assert web.config.read_text() == f'{before.rstrip()}\n\n[center]\nurl = "{center.address}"\n'
    assert Path(joined["copy"]).read_text() == before
    web.backup()
    shown = center.command("show", "web1")
    assert (shown["reports"], shown["in_group"]) == (1, "shop")


def test_an_invitation_is_used_once_and_answered_again_to_whom_used_it(center: Center) -> None:
    token, db = invited(center, "db1"), center.identity("db1")
    assert joins(center, db, token)[0] == 200
    assert joins(center, db, token)[0] == 200
    assert center.send(db, body_of())[0] == 200
    center.command("remove", "db1")
    assert joins(center, db, token)[0] == 403  # an old word brings nobody back
    assert center.send(db, body_of(2, changes={}))[0] == 403
    assert joins(center, db, invited(center, "db1"))[0] == 200
    assert center.send(db, body_of(2, changes={}))[0] == 409
    old = int((datetime.now(UTC) - timedelta(days=2)).timestamp())
    assert center.send(db, body_of(at=old))[0] == 409  # what it told before it was removed
    assert center.send(db, body_of(chain="d" * 32))[0] == 200
    assert joins(center, db, invited(center, "db1"))[0] == 200  # it is there already, and begins anew
    assert center.send(db, body_of(chain="e" * 32))[0] == 200
    assert center.command("show", "db1")["set_back_at"] is None


def test_nobody_else_gets_in_by_it(center: Center) -> None:
    mallory, mail = center.identity("mallory"), center.identity("mail")
    token = invited(center, "mail")
    secret = read_token(token)[1]
    attempts: list[tuple[int, bytes]] = [
        (403, json.dumps({"secret": secret}).encode()),
        (403, json.dumps({"secret": os.urandom(32).hex()}).encode()),
        (400, b"{}"),
        (400, b"[" * 3000),
        (400, json.dumps({"secret": "x" * 5000}).encode()),
        (400, json.dumps({"secret": ["' OR true --"]}).encode()),
        (403, json.dumps({"secret": "' OR true; DROP TABLE invites; --" + " " * 20}).encode()),
    ]
    for status, body in attempts:
        assert center.post(body, center.signed(mallory, body, JOIN_PATH), JOIN_PATH)[0] == status, body
    body = json.dumps({"secret": secret}).encode()
    assert center.post(body, center.signed(mail, body), JOIN_PATH)[0] == 403  # signed for a report
    assert center.send(mallory, body_of())[0] == 403
    assert {host["name"] for host in center.command("list")["hosts"]} <= {"web1", "db1"}
    assert joins(center, mail, token)[0] == 200


def test_what_is_no_invitation_changes_no_config(center: Center) -> None:
    app = center.server("app1")
    before = app.config.read_text()
    for token in ("", "nvj1_", "nvj1_%%%", invited(center, "app1")[:-9], invited(center, "other")):
        assert app.run("center", "join", token).exit_code != 0
    assert app.config.read_text() == before
    assert list(app.folder.glob("config.toml.*")) == []


def test_join_and_remove_leave_nothing_behind(center: Center, engine: Engine) -> None:
    guest = center.server("guest")
    before, config = everything_in(engine), guest.config.read_text()
    guest.done("center", "join", invited(center, "guest", "--group", "shop"))
    guest.backup()
    invited(center, "guest")
    assert everything_in(engine) != before
    center.command("remove", "guest")
    assert everything_in(engine) == before
    assert "has not joined" in guest.fails(1, "center", "tell")
    left = guest.json("center", "leave")
    assert left["center"] == center.address
    assert "[center]" in Path(left["copy"]).read_text()
    assert guest.config.read_text() == config
    with closing(sqlite3.connect(guest.state / "inventory.sqlite")) as inventory:
        assert inventory.execute("SELECT count(*) FROM center_chains").fetchone() == (0,)
    assert "has no [center]" in guest.fails(2, "center", "leave")


def test_one_that_left_and_joins_again_is_the_same_and_not_set_back(center: Center) -> None:
    back = center.server("back")
    for _ in range(2):
        back.done("center", "join", invited(center, "back"))
        back.backup()
        back.done("center", "leave")
    (host,) = [host for host in center.command("list")["hosts"] if host["name"] == "back"]
    assert (host["reports"], host["set_back_at"]) == (1, None)


NOW = datetime(2026, 5, 7, 12, tzinfo=UTC)


def named(name: str, host_id: str) -> HostIdentity:
    return HostIdentity(host_id, name, f"CN={name}", "a" * 64, datetime(2030, 1, 1, tzinfo=UTC))


def shows(engine: Engine, made: Invited, identity: HostIdentity, now: datetime) -> None:
    join(engine, identity, json.dumps({"secret": made.secret}).encode(), now)


def test_an_invitation_runs_out(engine: Engine) -> None:
    ends = NOW + timedelta(hours=1)
    late, early = (invite(engine, "late", "", NOW, ends) for _ in range(2))
    with pytest.raises(DeniedError, match="unknown here, or ran out"):
        shows(engine, late, named("late", "f" * 32), ends + timedelta(seconds=1))
    shows(engine, early, named("late", "f" * 32), ends - timedelta(seconds=1))
    shows(engine, early, named("late", "f" * 32), ends + timedelta(days=9))  # answered again


def test_an_invitation_that_was_used_lets_no_other_of_that_name_in(engine: Engine) -> None:
    made = invite(engine, "both", "", NOW, NOW + timedelta(hours=1))
    shows(engine, made, named("both", "1" * 32), NOW)
    with pytest.raises(DeniedError, match="used already"):
        shows(engine, made, named("both", "2" * 32), NOW)


def test_a_flood_of_one_server_is_ended_and_keeps_no_other_out(center: Center) -> None:
    flood, calm = center.identity("flood"), center.identity("calm")
    body = json.dumps({"secret": "x" * 50}).encode()
    headers = center.signed(flood, body, JOIN_PATH)
    answers = [center.post(body, headers, JOIN_PATH)[0] for _ in range(MOST_A_MINUTE + 5)]
    assert answers == [403] * MOST_A_MINUTE + [429] * 5
    assert joins(center, calm, invited(center, "calm"))[0] == 200


def new_server(center: Center, name: str) -> Server:
    """A server with a config, and nothing else: no certificate, no recipients, no inventory."""
    return directory_server(center.folder / name, clock=SystemClock())


def new_recipient(server: Server, key: Path) -> str:
    """The public half of a new recovery key, as `key generate` prints it."""
    return server.done("key", "generate", "--out", key).stdout


def signed(center: Center, server: Server, name: str = "identity.csr") -> None:
    """Let the authority sign the server's request, and bring the certificate back."""
    request = (server.folder / name).read_bytes()
    certificate = sign_csr(center.authority, request, days=9, now=datetime.now(UTC))
    (server.folder / "identity.pem").write_bytes(certificate.public_bytes(Encoding.PEM))


def test_from_a_config_alone_by_a_key_of_its_own_and_recipients_of_a_file(center: Center) -> None:
    new, recipients = new_server(center, "new1"), center.folder / "recipients"
    before, token = new.config.read_text(), invited(center, "new1")
    recipients.write_text(new_recipient(new, center.folder / "new1.key"))
    join = ("center", "join", token, "--name", "new1", "--recipient", str(recipients))
    assert "there is no certificate yet" in new.fails(13, *join, "--wait", "0s")
    key = (new.folder / "identity.key").read_bytes()
    assert (new.folder / "identity.key").stat().st_mode & 0o777 == 0o600
    assert new.config.read_text() == before
    signed(center, new)
    joined = new.json(*join)
    assert (joined["name"], joined["added"]) == ("new1", ["encryption", "identity", "center"])
    assert (new.folder / "identity.key").read_bytes() == key
    new.done("init")
    new.backup()
    assert center.command("show", "new1")["reports"] == 1
    assert new.config.read_text().startswith(before.rstrip())


def test_a_certificate_that_comes_while_it_waits(center: Center) -> None:
    new = new_server(center, "new2")

    def bring() -> None:
        until = time.monotonic() + 30
        while not (new.folder / "identity.csr").exists():
            assert time.monotonic() < until
            time.sleep(0.02)
        (new.folder / "identity.pem").write_bytes(b"-----BEGIN CERTI")  # half of it, then all
        signed(center, new)

    authority = threading.Thread(target=bring)
    authority.start()
    joined = new.json("center", "join", invited(center, "new2"), "--name", "new2", "--wait", "1m")
    authority.join()
    assert joined["added"] == ["identity", "center"]


def test_neither_another_key_nor_other_recipients_are_taken(center: Center, tmp_path: Path) -> None:
    new = new_server(center, "new3")
    join = ("center", "join", invited(center, "new3"), "--name", "new3", "--wait", "0s")
    new.fails(13, *join)
    signed(center, new)
    (new.folder / "identity.key").unlink()
    assert "does not fit" in new.fails(13, *join)  # a certificate of the key before
    (new.folder / "identity.key").chmod(0o644)
    assert "others may have read it" in new.fails(13, *join)
    (new.folder / "identity.key").write_bytes(b"none")
    (new.folder / "identity.key").chmod(0o600)
    assert "holds no key" in new.fails(13, *join)
    (new.folder / "identity.key").unlink()
    first, second = tmp_path / "first", tmp_path / "second"
    for recipients in (first, second):
        recipients.write_text(new_recipient(new, Path(f"{recipients}.key")))
    new.config.write_text(f'{new.config.read_text()}\n[encryption]\nrecipients = ["file:{first}"]\n')
    before = new.config.read_text()
    assert "has other recipients" in new.fails(2, *join, "--recipient", str(second))
    assert "cannot be read" in new.fails(2, *join, "--recipient", str(tmp_path / "none"))
    second.chmod(0o666)
    assert "a key of theirs" in new.fails(2, *join, "--recipient", str(second))
    second.chmod(0o644)
    second.write_text("nvr1nonsense")
    assert new.run(*join, "--recipient", str(second)).exit_code == 2
    assert new.config.read_text() == before
    assert not (new.folder / "identity.key").exists()
    new.fails(13, *join)
    signed(center, new)
    assert new.json(*join, "--recipient", str(first))["added"] == ["identity", "center"]
