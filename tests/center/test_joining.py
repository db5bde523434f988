"""Servers join a center by an invitation: once, by the server that it names, and by nobody else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backup.credentials.identity import Identity
from backup.format.host_report import JOIN_PATH, read_token
from tests.support.centers import Center, body_of, center_database, free_port, needs_postgresql, new_center

pytestmark = [pytest.mark.real, pytest.mark.slow, needs_postgresql]


@pytest.fixture(scope="module")
def center(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Center]:
    with center_database() as (_, url):
        made = new_center(tmp_path_factory.mktemp("center"), url)
        made.port = free_port()
        with made.served("--name", f"127.0.0.1:{made.port}"):
            yield made


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
    assert (shown["reports"], shown["in_group"]) == (2, "shop")  # what was refused at first, and what is new


def test_an_invitation_is_used_once_and_answered_again_to_whom_used_it(center: Center) -> None:
    token, db = invited(center, "db1"), center.identity("db1")
    assert joins(center, db, token)[0] == 200
    assert joins(center, db, token)[0] == 200
    assert center.send(db, body_of())[0] == 200
    center.command("remove", "db1")
    assert joins(center, db, token)[0] == 200
    assert center.send(db, body_of(2, changes={}))[0] == 403  # an old word brings nobody back
    assert joins(center, db, invited(center, "db1"))[0] == 200
    assert center.send(db, body_of(2, changes={}))[0] == 200


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
